from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sources.records.base import DecodeOptions, Extra, Payload
from sources.records.json_objects import JsonObjects, slots
from tests.records import decode, decoder, rows, schema

EXTRAS: tuple[Extra, ...] = ("drop", "keep", "quarantine")
TYPES = {
    "i": "integer",
    "l": "bigint",
    "n": "numeric(12,2)",
    "u": "numeric",
    "d": "double precision",
    "b": "boolean",
    "t": "text",
    "z": "timestamptz",
    "s": "timestamp",
    "day": "date",
    "clock": "time",
    "id": "uuid",
    "j": "jsonb",
    "a": "integer[]",
    "y": "bytea",
    "v": "varchar(3)",
}
NUMBERS = st.one_of(
    st.integers(), st.integers(-200, 200), st.floats(allow_nan=False, allow_infinity=False), st.decimals(-1000, 1000, places=2).map(float)
)
MOMENTS = st.one_of(st.datetimes(), st.datetimes(timezones=st.timezones())).map(lambda at: at.isoformat())
TEXTS = st.one_of(
    st.text(max_size=5),
    MOMENTS,
    MOMENTS.map(lambda at: at + "Z"),
    st.dates().map(str),
    st.times().map(str),
    st.uuids().map(str),
    NUMBERS.map(str),
    st.binary(max_size=6).map(lambda value: base64.b64encode(value).decode()),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
RECORDS = st.dictionaries(st.sampled_from([*TYPES, "x", "é", 'q"', "n"]), VALUES, max_size=8)
FAST = {extra: JsonObjects(slots(schema(TYPES), DecodeOptions()), tuple(TYPES), DecodeOptions(extra=extra)) for extra in EXTRAS}


@settings(max_examples=120, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=8), st.sampled_from(EXTRAS), st.booleans())
def test_the_fast_way_agrees_with_the_look_at_each_value(records: list[dict[str, Any]], extra: Extra, ascii: bool) -> None:
    values = [json.dumps(record, ensure_ascii=ascii).encode("utf-8", "surrogatepass") for record in records]
    found = FAST[extra].read(values)
    texts = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
    for row, value in enumerate(values):
        careful = FAST[extra].careful(value, row)
        mine, theirs = list(texts[row]), list(careful.texts)
        if extra == "keep":
            assert json.loads(mine.pop() or "{}") == json.loads(theirs.pop() or "{}")
        assert mine == theirs
        assert [one for one in found.defects if one.row == row] == list(careful.defects)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
READER = decoder("json", {"l": "bigint", "t": "text", "j": "jsonb"})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.fixed_dictionaries({"l": st.integers(-(2**63), 2**63 - 1), "t": TEXT, "j": VALUES})))
def test_what_json_says_is_what_arrives(records: list[dict[str, Any]]) -> None:
    sound = [record for record in records if "\\u0000" not in json.dumps(record) and "\\ud" not in json.dumps(record)]
    found = decode(READER, *(json.dumps(record) for record in sound))
    assert not found.defects
    for row, record in zip(rows(READER, found), sound, strict=True):
        assert (int(row["l"] or ""), row["t"]) == (record["l"], record["t"])
        assert (None if row["j"] is None else json.loads(row["j"])) == record["j"]


PIECES = [b'{"v":', b'"id":1', b"}", b"[", b"]", b"1e5", b'"\\ud800"', b"null", b"\xff", b"\\", b'"', b",", b" ", b"{}", b'{"v":1}', b"\0"]


HOSTILE = decoder("json", {"v": "bigint", "j": "jsonb"}, ["v"], extra="keep")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=5)), max_size=6).map(b"".join)))
def test_hostile_bytes_never_raise(values: list[bytes]) -> None:
    found = decode(HOSTILE, *values, '{"v":7}', *(Payload(value, None) for value in values))
    assert rows(HOSTILE, found)[len(values)]["v"] == "7"
