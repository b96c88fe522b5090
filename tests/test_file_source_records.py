"""What is in the files of a source: good records reach their columns, bad ones quarantine with file and place."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigError, Refused
from pipeline.load import load_pipeline
from tests.file_taking import put
from tests.fix_files import MakeTaking


def _parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_a_bad_line_goes_to_quarantine_and_its_neighbours_pass(folder: Path, make_taking: MakeTaking) -> None:
    lines = [
        b"\xef\xbb\xbfid,name",
        b'1,"two\nlines, and ""quotes"""',
        b"x,not a number",
        b"2,caf\xe9",
        b"3",
        b"",
        b"4,a,b",
        b'5,"never closed',
        b"6,good\r",
        b"7,\xc3\xa9",
    ]
    put(folder, "a.csv", b"\n".join(lines) + b"\n")
    taking = make_taking().until_read()
    assert taking.rows == [
        {"id": "1", "name": 'two\nlines, and "quotes"'},
        {"id": "6", "name": "good"},
        {"id": "7", "name": "é"},
    ]
    assert [one["line"] for one in taking.places] == [2, 10, 11]
    assert [(one.place["line"], one.raw) for one in taking.bad] == [
        (4, b"x,not a number"),
        (5, b"2,caf\xe9"),
        (6, b"3"),
        (8, b"4,a,b"),
        (9, b'5,"never closed'),
    ]
    assert {one.place["file"] for one in taking.bad} == {"a.csv"}


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_huge_line_is_held_back_in_bounded_memory(folder: Path, make_taking: MakeTaking, form: str) -> None:
    huge = b"x" * (17 << 20)
    if form == "csv":
        put(folder, "a.csv", b"id,name\n1,a\n2," + huge + b"\n3,c\n")
    else:
        put(folder, "a.json", b'{"id":1}\n{"id":2,"name":"' + huge + b'"}\n{"id":3}\n')
    taking = make_taking(format=form).until_read()
    assert taking.ids == ["1", "3"]
    (bad,) = taking.bad
    assert bad.place["line"] == (3 if form == "csv" else 2)
    assert "more than 16 MiB" in bad.message
    assert bad.raw is not None
    assert len(bad.raw) == 64 << 10


def test_a_header_that_makes_no_sense_holds_every_line_back_and_hurts_no_other_file(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "b.csv", "other\n1\n", age=80)
    put(folder, "c.csv", "id,id\n1,2\n", age=70)
    put(folder, "d.csv", "id,name\n9,z\n")
    taking = make_taking().until_read()
    assert taking.rows == [{"id": "9", "name": "z"}]
    assert [(one.place["file"], one.place["line"]) for one in taking.bad] == [("b.csv", 2), ("c.csv", 2)]


def test_a_record_without_its_key_is_held_back(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "a.csv", "id,name\n,a\n2,b\n", age=90)
    put(folder, "b.csv", "name\nx\ny\n")
    taking = make_taking()
    taking.key = ("id",)
    taking.until_read()
    assert taking.ids == ["2"]
    assert [(one.place, one.column) for one in taking.bad] == [
        ({"file": "a.csv", "line": 2}, "id"),
        ({"file": "b.csv", "line": 2}, "id"),
        ({"file": "b.csv", "line": 3}, "id"),
    ]


def test_a_key_that_the_schema_lacks_stops_the_source_before_anything_is_read(folder: Path, make_taking: MakeTaking) -> None:
    taking = make_taking()
    taking.key = ("idd",)
    with pytest.raises(Refused, match="did you mean id"):
        taking.start()


@pytest.mark.parametrize("extra", ["keep", "drop", "quarantine"])
def test_columns_that_the_schema_lacks_are_kept_dropped_or_held_back(folder: Path, make_taking: MakeTaking, extra: str) -> None:
    put(folder, "a.csv", "id,colour,name\n1,red,a\n", age=90)
    put(folder, "b.csv", "id,name\n2,b\n")
    taking = make_taking(extra=extra).until_read()
    assert taking.source is not None
    if extra == "quarantine":
        assert taking.ids == ["2"]
        assert "colour" in taking.bad[0].message
        return
    assert taking.ids == ["1", "2"]
    assert taking.source.status().unknown_fields == {"colour": 1}
    if extra == "keep":
        assert [None if row["_extra"] is None else json.loads(row["_extra"]) for row in taking.rows] == [{"colour": "red"}, None]


def test_json_lines_are_read_by_their_lines(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "a.json", b'{"id":1,"name":"a"}\n\n{"id":"1"}\n{"id":9007199254740993}\n{"id":2')
    taking = make_taking(format="json").until_read()
    assert taking.ids == ["1", "9007199254740993"]
    assert [one["line"] for one in taking.places] == [1, 4]
    assert [one.place for one in taking.bad] == [{"file": "a.json", "line": 3}, {"file": "a.json", "line": 5}]
    assert taking.bad[1].raw == b'{"id":2'


def test_xml_is_read_by_its_records_and_a_dtd_is_refused(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "a.xml", '<all><order id="1"><name>a</name></order><order id="x"/><order id="2"/></all>', age=90)
    put(folder, "b.xml", '<!DOCTYPE a [<!ENTITY e "x">]><all><order id="3"><name>&e;</name></order></all>', age=80)
    put(folder, "c.xml", '<all><order id="4"/><order id="5"', age=70)
    put(folder, "d.xml", "", age=65)
    put(folder, "e.xml", '<all><order id="6"/></all>')
    taking = make_taking(format="xml", record="order").until_read()
    assert taking.ids == ["1", "2", "4", "6"]
    assert [one.place for one in taking.bad[:3]] == [
        {"file": "a.xml", "record": 2},
        {"file": "b.xml", "record": 1},
        {"file": "c.xml", "record": 2},
    ]
    assert "DTD" in taking.bad[1].message


def test_compressed_xml_that_ends_too_soon_gives_what_is_before(folder: Path, make_taking: MakeTaking) -> None:
    text = "<all>" + "".join(f'<order id="{one}" name="{one * 7919 % 9973}"/>' for one in range(5000)) + "</all>"
    put(folder, "a.xml.gz", gzip.compress(text.encode())[:-5000], age=90)
    put(folder, "b.xml", '<order id="9999"/>')
    taking = make_taking(format="xml", record="order").until_read()
    assert taking.ids == [*map(str, range(len(taking.ids) - 1)), "9999"]
    assert len(taking.ids) > 100
    (bad,) = taking.bad
    assert bad.place == {"file": "a.xml.gz", "record": len(taking.ids)}
    assert "cannot be unpacked" in bad.message


def test_parquet_of_other_types_fits_the_schema_or_is_held_back(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "a.parquet", _parquet(id=pa.array([1, 2], pa.int32()), name=["a", None]), age=90)
    put(folder, "b.parquet", _parquet(id=["3", "4"], name=["c", "d"]), age=80)
    whole = _parquet(id=[5], name=["e"])
    put(folder, "c.parquet", whole[:-6], age=70)
    put(folder, "d.parquet", b"", age=65)
    put(folder, "e.parquet", _parquet(id=[6], name=["f"], more=[1.5]))
    taking = make_taking(format="parquet").until_read()
    assert [(row["id"], row["name"]) for row in taking.rows] == [("1", "a"), ("2", None), ("6", "f")]
    assert [one.place for one in taking.bad] == [
        {"file": "b.parquet", "record": 1},
        {"file": "b.parquet", "record": 2},
        {"file": "c.parquet", "record": 1},
        {"file": "d.parquet", "record": 1},
    ]


def test_xml_of_very_many_levels_is_held_back_and_its_neighbours_pass(folder: Path, make_taking: MakeTaking) -> None:
    deep = "<x>" * 50_000 + "</x>" * 50_000
    put(folder, "a.xml", f'<all><order id="1"/><order id="2"><name>{deep}</name></order><order id="3" name="c"/></all>')
    taking = make_taking(format="xml", record="order").until_read()
    assert taking.ids == ["1", "3"]
    (bad,) = taking.bad
    assert (bad.place, bad.message) == ({"file": "a.xml", "record": 2}, "is nested too deeply")
    assert (bad.raw or b"").startswith(b'<order id="2"><name><x><x>')


def test_parquet_that_names_a_field_twice_is_held_back(folder: Path, make_taking: MakeTaking) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table([pa.array([1]), pa.array([2]), pa.array(["x"])], names=["id", "id", "name"]), out)
    put(folder, "a.parquet", out.getvalue())
    taking = make_taking(format="parquet").until_read()
    assert taking.rows == []
    assert [one.message for one in taking.bad] == ["the file names 'id' more than once"]


def test_floats_that_are_no_numbers_are_written_as_postgres_writes_them(folder: Path, make_taking: MakeTaking) -> None:
    odd = [float("nan"), float("inf"), float("-inf"), 1.5]
    put(folder, "a.parquet", _parquet(id=odd, name=pa.array(odd, pa.float32()), single=pa.array(odd, pa.float32())))
    schema = {"id": "double precision", "name": "double precision", "single": "real"}
    taking = make_taking(format="parquet", schema=schema).until_read()
    words = ["NaN", "Infinity", "-Infinity", "1.5"]
    assert taking.rows == [{"id": one, "name": one, "single": one} for one in words]


@pytest.mark.parametrize(
    "block, said",
    [
        ("format: xml", "record"),
        ("format: csv, record: order", "xml"),
        ("format: tsv", "format"),
        ("format: csv, pattern: ../x", "pattern"),
        ("format: csv, schema: {id: nonsense(}", "type"),
        ("format: csv, s3: {access_key: a}", "secret_key"),
        ("format: json, schema: {id: bigint}, paths: {ide: a.b}", "did you mean id?"),
        ("format: csv, settle: 1", "settle_seconds"),
        ("format: csv, path: 's3://'", "bucket"),
    ],
)
def test_a_block_that_cannot_be_right_is_refused_offline(tmp_path: Path, block: str, said: str) -> None:
    where = "" if "path:" in block else "path: drops, "
    file = tmp_path / "pipeline.yaml"
    text = f"pipeline: shop\nsources:\n  drops: {{type: files, {where}{block}}}\nsinks:\n  w: {{type: duckdb, path: w.duckdb}}\n"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(file, {})
    assert said in str(caught.value)
    assert "pipeline.yaml:3" in str(caught.value)
