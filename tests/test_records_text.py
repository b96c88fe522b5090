from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.batch import Op
from pipeline.errors import ConfigError
from sources.records.base import Payload
from tests.records import decode, decoder, one, reasons, refusal, rows

FIELDS = {"id": "bigint", "name": "text", "amount": "numeric(10,2)", "at": "timestamptz", "ok": "boolean", "doc": "jsonb"}


def test_a_csv_message_is_one_record_in_the_order_of_the_schema() -> None:
    reader = decoder("csv", FIELDS, ["id"])
    found = decode(
        reader,
        '1,"a ""b"", c",1.5,2026-01-01T10:00:00Z,true,"{""k"" : [1]}"',
        '2,"two\nlines",,,,\r\n',
        Payload(b"3", None),
        "4, x ,007.5,2026-01-01 10:00:00+00,f,",
    )
    assert rows(reader, found)[:3] == [
        {"id": "1", "name": 'a "b", c', "amount": "1.50", "at": "2026-01-01 10:00:00+00", "ok": "t", "doc": '{"k":[1]}'},
        {"id": "2", "name": "two\nlines", "amount": None, "at": None, "ok": None, "doc": None},
        {"id": "3", "name": None, "amount": None, "at": None, "ok": None, "doc": None},
    ]
    assert found.op.tolist() == [Op.INSERT, Op.INSERT, Op.DELETE, Op.INSERT]
    assert reasons(found) == {3: [("amount", "expected numeric(10,2), got '007.5'")]}
    assert rows(reader, found)[3]["at"] == "2026-01-01 10:00:00+00"


@pytest.mark.parametrize(
    "value, column, message",
    [
        (b"", None, "the record is empty"),
        (b"1", None, "has 1 fields, and 2 are expected"),
        (b"1,a,b", None, "has 3 fields, and 2 are expected"),
        (b"1,a\n2,b", None, "has more than one record"),
        (b'1,"a', None, "is not CSV: unexpected end of data"),
        (b'1,"a"b', None, "is not CSV: ',' expected after '\"'"),
        (b"1,\xff", None, "is not UTF-8 (invalid start byte at byte 2)"),
        (b"x,a", "id", "expected bigint, got 'x'"),
        (b",a", "id", "is required, and the record has none"),
        (b"1,a\0b", "name", "holds a NUL character, which no text in Postgres can"),
    ],
)
def test_a_bad_csv_message_harms_no_neighbour(value: bytes, column: str | None, message: str) -> None:
    reader = decoder("csv", {"id": "bigint", "name": "text"}, required=["id"])
    found = decode(reader, "1,a", value, "2,b", value, "3,c")
    assert reasons(found) == {1: [(column, message)], 3: [(column, message)]}
    assert [row["id"] for row in rows(reader, found)][::2] == ["1", "2", "3"]


def test_csv_fields_have_no_paths() -> None:
    with pytest.raises(ConfigError):
        decoder("csv", {"id": "bigint"}, paths={"id": "a.b"})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.text("ab,\"\n\r '"))))
def test_what_the_csv_module_writes_is_what_arrives(records: list[tuple[str, str]]) -> None:
    reader = decoder("csv", {"a": "text", "b": "text"})
    messages = []
    for record in records:
        written = io.StringIO()
        csv.writer(written).writerow(record)
        messages.append(written.getvalue())
    found = decode(reader, *messages)
    assert not found.defects
    assert [(row["a"], row["b"]) for row in rows(reader, found)] == [(a or None, b or None) for a, b in records]


def test_attributes_and_children_of_an_xml_message_are_the_fields() -> None:
    fields = {**FIELDS, "tags": "text[]", "city": "text"}
    reader = decoder("xml", fields, ["id"], paths={"city": "address.city"}, extra="keep")
    value = """<?xml version="1.0" encoding="UTF-8"?>
    <s:order xmlns:s="urn:x" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" id="5"><!-- c -->
      <s:name> ü &amp; <![CDATA[<x>]]></s:name><amount> 1.5 </amount><at>2026-01-01T10:00:00Z</at><ok>true</ok>
      <doc kind="k"><line no="1">a</line><line>b</line><none/></doc><tags>x</tags><tags>y z</tags>
      <address><city>Bonn</city></address><odd xsi:nil="true"/>
    </s:order>"""
    assert one(reader, value) == {
        "id": "5",
        "name": " ü & <x>",
        "amount": "1.50",
        "at": "2026-01-01 10:00:00+00",
        "ok": "t",
        "doc": '{"kind":"k","line":[{"no":"1","#text":"a"},"b"],"none":null}',
        "tags": '{x,"y z"}',
        "city": "Bonn",
        "_extra": '{"odd":null}',
    }


BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;&x;">]><a><id>&z;</id></a>'


@pytest.mark.parametrize(
    "value, column, message",
    [
        (BOMB, None, "has a DTD or entities of its own, which are refused"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', None, "has a DTD or entities of its own, which are refused"),
        (b"<!DOCTYPE a><a><id>1</id></a>", None, "has a DTD or entities of its own, which are refused"),
        (b"", None, "the message is empty"),
        (b"<a><id>1</id>", None, "is not XML: no element found: line 1, column 13"),
        (b"<a/><b/>", None, "is not XML: junk after document element: line 1, column 4"),
        (b"<a><id>\xff</id></a>", None, "is not XML: not well-formed (invalid token): line 1, column 7"),
        (b'<?xml version="1.0" encoding="nope"?><a/>', None, "is not XML: unknown encoding: nope"),
        (b"<a><id>x</id></a>", "id", "expected bigint, got 'x'"),
        (b"<a><id>1</id><id>2</id></a>", None, "id is there 2 times"),
        (b"<a><id><b/></id></a>", None, "id holds elements, not a text"),
        (b"<a><name>n</name></a>", "id", "is required, and the record has none"),
        (b"<a>" + b"<doc>" * 400 + b"</doc>" * 400 + b"</a>", None, "is nested too deeply"),
    ],
)
def test_a_bad_xml_message_harms_no_neighbour(value: bytes, column: str | None, message: str) -> None:
    reader = decoder("xml", {"id": "bigint", "name": "text", "doc": "jsonb"}, required=["id"])
    found = decode(reader, "<a><id>1</id></a>", value, "<a><id>2</id></a>")
    assert reasons(found) == {1: [(column, message)]}
    assert [row["id"] for row in rows(reader, found)][::2] == ["1", "2"]


def test_xml_elements_that_the_schema_lacks_are_counted_and_can_be_held_back() -> None:
    value = "<a><id>1</id><more>x</more></a>"
    reader = decoder("xml", {"id": "bigint"})
    assert decode(reader, value, "<a/>").extra == {"more": 1}
    assert refusal(decoder("xml", {"id": "bigint"}, extra="quarantine"), value) == (None, "has fields that the schema lacks: more")


PIECES = [b"<a>", b"</a>", b"<id>", b"</id>", b"1", b"&lt;", b"&x;", b"<!DOCTYPE", b'"', b",", b"\n", b"\xff", b"<![CDATA["]


@pytest.mark.parametrize("format, good", [("csv", b"7,x"), ("xml", b"<a><id>7</id></a>")])
def test_hostile_bytes_never_raise(format: str, good: bytes) -> None:
    reader = decoder(format, {"id": "bigint", "doc": "text"}, ["id"])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=6).map(b"".join)))
    def hostile(values: list[bytes]) -> None:
        found = decode(reader, *values, good)
        assert rows(reader, found)[-1]["id"] == "7"

    hostile()
