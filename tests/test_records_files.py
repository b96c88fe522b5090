from __future__ import annotations

import csv
import datetime as dt
import io
import json
import tracemalloc
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from sources.records.base import DecodeOptions
from sources.records.files import BATCH, FileReader, FileRecords, make_reader
from tests.records import Row, schema

FIELDS = {"id": "bigint", "name": "text", "amount": "numeric(10,2)"}


def reader(
    format: str, fields: dict[str, str] = FIELDS, record: str | None = None, required: tuple[str, ...] = (), **options: Any
) -> FileReader:
    return make_reader(format, schema(fields, ["id"], required), DecodeOptions(**options), record)


def read(reader: FileReader, content: bytes) -> tuple[list[int], list[Row], dict[int, tuple[str | None, str]], list[FileRecords]]:
    """Numbers, rows, number -> the first defect's column and message, and the parts as they came."""
    parts = list(reader.read(io.BytesIO(content)))
    numbers: list[int] = []
    found: list[Row] = []
    bad: dict[int, tuple[str | None, str]] = {}
    for part in parts:
        assert len(part) == len(part.payloads) == len(part.decoded)
        numbers += part.numbers.tolist()
        columns = [column.to_pylist() for column in part.decoded.columns]
        found += [dict(zip(reader.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]
        for defect in part.decoded.defects:
            bad.setdefault(int(part.numbers[defect.row]), (defect.column, defect.message))
    assert numbers == sorted(set(numbers))
    return numbers, found, bad, parts


def test_records_of_a_csv_file_have_the_line_where_they_begin() -> None:
    content = b'\xef\xbb\xbfname,id,more,amount\r\n"a\nb ""q""",1,x,1.5\r\n\r\nplain,2,,2\n"c\r\nd\ne",3,,\nlast,4,,4'
    numbers, found, bad, parts = read(reader("csv", extra="keep"), content)
    assert numbers == [2, 5, 6, 9]
    assert found == [
        {"id": "1", "name": 'a\nb "q"', "amount": "1.50", "_extra": '{"more":"x"}'},
        {"id": "2", "name": "plain", "amount": "2.00", "_extra": '{"more":null}'},
        {"id": "3", "name": "c\r\nd\ne", "amount": None, "_extra": '{"more":null}'},
        {"id": "4", "name": "last", "amount": "4.00", "_extra": '{"more":null}'},
    ]
    assert not bad
    assert parts[0].payloads[0].value == b'"a\nb ""q""",1,x,1.5'
    assert parts[0].decoded.extra == {"more": 4}


def test_a_bad_line_of_a_csv_file_harms_no_other() -> None:
    content = b'id,name,amount\n1,a,1\n2,"b"x,1\n3,c\nx,d,1\n5,\xff,1\n6,f,1\n7,"open,1\n8,h,1\n9,i,1\n'
    numbers, found, bad, parts = read(reader("csv"), content)
    assert numbers == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert bad == {
        3: (None, "is not CSV: ',' expected after '\"'"),
        4: (None, "has 2 fields, and 3 are expected"),
        5: ("id", "expected bigint, got 'x'"),
        6: (None, "is not UTF-8"),
        8: (None, "is not CSV: unexpected end of data"),
    }
    assert [row["id"] for row in found] == ["1", None, None, None, None, "6", None, "8", "9"]
    assert parts[0].payloads[6].value == b'7,"open,1'


def test_a_quote_that_is_never_closed_does_not_take_the_file_into_memory() -> None:
    lines = 40_000
    content = b'id,name,amount\n1,"open,1\n' + b"2,b,1\n" * lines
    numbers, found, bad, _ = read(reader("csv"), content)
    assert numbers == list(range(2, lines + 3))
    assert list(bad) == [2]
    assert "open for" in bad[2][1]
    assert [row["id"] for row in found[1:]] == ["2"] * lines


@pytest.mark.parametrize(
    "header, message",
    [
        (b"id,id,name", "the header names 'id' more than once"),
        (b"x,y,z", "the header has none of the schema's fields"),
    ],
)
def test_under_a_header_that_makes_no_sense_every_record_is_held_back(header: bytes, message: str) -> None:
    numbers, _, bad, _ = read(reader("csv"), header + b"\n1,2,3\n4,5,6\n")
    assert numbers == [2, 3]
    assert bad == {2: (None, message), 3: (None, message)}


def test_a_header_that_cannot_be_read_is_held_back_with_the_records_under_it() -> None:
    numbers, _, bad, _ = read(reader("csv"), b"id,\xff,name\n1,2,3\n")
    assert numbers == [1, 2]
    assert {message for _, message in bad.values()} == {"the header is not UTF-8"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text('ab,"\n\r ü'), min_size=2, max_size=2)))
def test_what_the_csv_module_writes_is_what_arrives(records: list[list[str]]) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([["a", "b"], *records])
    _, found, bad, _ = read(make_reader("csv", schema({"a": "text", "b": "text"})), written.getvalue().encode())
    assert not bad
    assert [[row["a"], row["b"]] for row in found] == [[a or None, b or None] for a, b in records]


def test_json_lines_are_numbered_and_empty_ones_are_no_record() -> None:
    content = b'\xef\xbb\xbf{"id":1}\n\n{"id":2}\r\n{bad\n{"id":"x"}\n{"id":5}'
    numbers, found, bad, parts = read(reader("json"), content)
    assert numbers == [1, 3, 4, 5, 6]
    assert [row["id"] for row in found] == ["1", "2", None, None, "5"]
    assert bad[4][0] is None
    assert bad[5] == ("id", 'expected bigint, got a string ("x")')
    assert parts[0].payloads[2].value == b"{bad"


def test_large_files_come_in_parts() -> None:
    content = b"".join(b'{"id":%d}\n' % n for n in range(BATCH * 2 + 5))
    numbers, found, _, parts = read(reader("json"), content)
    assert [len(part) for part in parts] == [BATCH, BATCH, 5]
    assert numbers[-1] == BATCH * 2 + 5
    assert found[-1]["id"] == str(BATCH * 2 + 4)


def test_elements_of_one_name_are_the_records_of_an_xml_file() -> None:
    content = b"""<?xml version="1.0"?><orders xmlns="urn:x"><head><id>9</id></head>
      <order id="1"><name>a</name></order><group><order id="2"><amount>x</amount></order></group>
      <order id="3"><order id="4"/><name>c</name></order></orders>"""
    numbers, found, bad, parts = read(reader("xml", record="order"), content)
    assert numbers == [1, 2, 3]
    assert [row["id"] for row in found] == ["1", "2", "3"]
    assert bad == {2: ("amount", "expected numeric(10,2), got 'x'")}
    assert b'id="1"' in (parts[0].payloads[0].value or b"")


def test_a_broken_xml_file_gives_what_was_before_and_one_bad_record() -> None:
    good = b"<o>" + b"<order><id>1</id></order>" * 10
    for content, said in ((good + b"<order><id>", "is not XML"), (b"<!DOCTYPE o>" + good + b"</o>", "DTD"), (b"", "is not XML")):
        numbers, found, bad, _ = read(reader("xml", record="order"), content)
        assert said in bad[len(numbers)][1]
        assert [row["id"] for row in found] == ["1"] * (len(numbers) - 1) + [None]
        assert len(numbers) == (11 if content.startswith(good) else 1)


def test_a_large_xml_file_is_never_in_memory_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sources.records.xml_file.BATCH", 100)
    record = b"<order><id>1</id><name>" + b"x" * 1000 + b"</name></order>\n"
    content = b"<o><head>y</head>" + record * 4_000 + b"</o>"
    tracemalloc.start()
    count = sum(len(part) for part in reader("xml", record="order").read(io.BytesIO(content)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4_000
    assert peak < len(content) / 2, f"{peak} bytes for a file of {len(content)}"


def parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def test_columns_of_a_parquet_file_become_postgres_text() -> None:
    at = dt.datetime(2026, 1, 1, 10, 0, 0, 500_000, dt.UTC)
    columns: dict[str, tuple[pa.Array, str, str | None]] = {
        "id": (pa.array([2**53 + 1]), "bigint", "9007199254740993"),
        "small": (pa.array([5], pa.int8()), "smallint", "5"),
        "amount": (pa.array([Decimal("-1.5")], pa.decimal128(12, 1)), "numeric(10,2)", "-1.50"),
        "whole": (pa.array([7]), "numeric(10,2)", "7.00"),
        "ratio": (pa.array([0.1]), "double precision", "0.1"),
        "half": (pa.array([0.5], pa.float32()), "real", "0.5"),
        "ok": (pa.array([True]), "boolean", "t"),
        "name": (pa.array(["ü"]).dictionary_encode(), "text", "ü"),
        "day": (pa.array([at.date()]), "date", "2026-01-01"),
        "zoned": (pa.array([at], pa.timestamp("us", "UTC")), "timestamptz", "2026-01-01 10:00:00.5+00"),
        "naive": (pa.array([at.replace(tzinfo=None)], pa.timestamp("ms")), "timestamp", "2026-01-01 10:00:00.5"),
        "nanos": (pa.array([1_000], pa.timestamp("ns", "UTC")), "timestamptz", "1970-01-01 00:00:00.000001+00"),
        "clock": (pa.array([at.time()]), "time", "10:00:00.5"),
        "raw": (pa.array([b"\xde"]), "bytea", "\\xde"),
        "doc": (pa.array([{"a": [1, None], "b": {"c": Decimal("1.50")}}]), "jsonb", '{"a":[1,null],"b":{"c":1.50}}'),
        "tags": (pa.array([["a", "b c"]]), "text[]", '{a,"b c"}'),
        "none": (pa.nulls(1), "text", None),
        "missing": (pa.array([1]), "text", None),
    }
    table = pa.table({name: values for name, (values, _, _) in columns.items() if name != "missing"})
    asked = {name: kind for name, (_, kind, _) in columns.items()}
    _, found, bad, _ = read(reader("parquet", asked, paths={"missing": "doc.b.nothing"}), parquet(table))
    assert not bad
    assert found == [{name: text for name, (_, _, text) in columns.items()}]


def test_values_of_a_parquet_file_that_do_not_fit_are_defects() -> None:
    table = pa.table({
        "id": pa.array([1, 2**40, 3, None, 5]),
        "name": pa.array(["a", "b", "c\0", "d", "e"]),
        "at": pa.array([0, 0, 0, 0, 1], pa.timestamp("ns", "UTC")),
        "more": pa.array([1, 2, 3, 4, 5]),
    })  # fmt: skip
    fields = {"id": "integer", "name": "text", "at": "timestamptz"}
    numbers, found, bad, parts = read(reader("parquet", fields, required=("id",)), parquet(table))
    assert numbers == [1, 2, 3, 4, 5]
    assert bad == {
        2: ("id", "'1099511627776' is out of range for integer"),
        3: ("name", "holds a NUL character, which no text in Postgres can"),
        4: ("id", "is required, and the message has none"),
        5: (None, "at is finer than a microsecond, which would have to be rounded"),
    }
    assert [row["id"] for row in found] == ["1", None, "3", None, None]
    assert parts[0].decoded.extra == {"more": 5}
    assert json.loads(parts[0].payloads[0].value or b"") == {"id": 1, "name": "a", "at": "1970-01-01T00:00:00Z", "more": 1}
    _, found, _, _ = read(reader("parquet", {"id": "bigint"}, extra="keep"), parquet(table.select(["id", "more"])))
    assert found[1] == {"id": "1099511627776", "_extra": '{"more":2}'}


def test_what_is_no_parquet_file_is_one_bad_record() -> None:
    numbers, _, bad, _ = read(reader("parquet"), b"PAR1 nonsense")
    assert numbers == [1]
    assert "cannot be read" in bad[1][1]


def test_a_reader_that_cannot_be_made_says_why() -> None:
    with pytest.raises(ConfigError, match="record"):
        reader("xml")
    with pytest.raises(ConfigError, match="not a format of files"):
        reader("avro")


@pytest.mark.parametrize("format", ["csv", "json", "xml", "parquet"])
def test_hostile_files_never_raise(format: str) -> None:
    made = reader(format, record="a")
    pieces = [b"id,name\n", b'{"id":', b"<a>", b"</a>", b'"', b"\n", b",", b"1", b"\xff", b"PAR1"]

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.one_of(st.sampled_from(pieces), st.binary(max_size=4)), max_size=12).map(b"".join))
    def hostile(content: bytes) -> None:
        read(made, content)

    hostile()
