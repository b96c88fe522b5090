from __future__ import annotations

import pytest

from journal.batch import Op
from pipeline.errors import ConfigError
from sources.records.base import Payload, make_decoder
from tests.records import decode, decoder, one, reasons, refusal, rows, schema


@pytest.mark.parametrize(
    "value, message",
    [
        (b"", "the message is empty"),
        (b" \n", "the message is empty"),
        (b"null", "expected a JSON object, got null"),
        (b"[{}]", "expected a JSON object, got an array"),
        (b'"x"', 'expected a JSON object, got a string ("x")'),
        (b'{"v":1} x', "is not JSON: trailing characters (byte 9)"),
        (b'{"v":1}{"v":2}', "is not JSON: trailing characters (byte 8)"),
        (b'{"v":NaN}', "is not JSON: invalid character (byte 5)"),
        (b'{"v":1,"x":Infinity}', "is not JSON: invalid character (byte 11)"),
        (b'{"v":-Infinity}', "is not JSON: invalid character (byte 6)"),
        (b'{"v":1', "is not JSON: Input data was truncated"),
        (b'{"v":01}', "is not JSON: invalid number (byte 6)"),
        (b'{"v":1,}', "is not JSON: trailing comma in object (byte 7)"),
        (b'{"v":"\xff"}', "is not UTF-8 (invalid start byte at byte 6)"),
        (b'{"other":"\xff"}', "is not UTF-8 (invalid start byte at byte 10)"),
        (b'{"\xff":1}', "is not UTF-8 (invalid start byte at byte 2)"),
        (b'{"v":"\\ud800"}', "holds half a surrogate pair"),
        (b'{"other":"\\udc00x"}', "holds half a surrogate pair"),
        (b"\xef\xbb\xbf{}", "is not JSON: invalid character (byte 0)"),
        (b'{"v":"\x00"}', "is not JSON: invalid character (byte 6)"),
        (b'{"other":' + b"[" * 100_000, "is nested too deeply"),
    ],
)
def test_messages_that_are_no_object_are_defects_and_harm_no_neighbour(value: bytes, message: str) -> None:
    reader = decoder("json", {"v": "text"})
    found = decode(reader, '{"v":"a"}', value, '{"v":"b"}', value)
    assert reasons(found) == {1: [(None, message)], 3: [(None, message)]}
    assert [row["v"] for row in rows(reader, found)] == ["a", None, "b", None]
    assert found.defects[0].raw == value


def test_json_of_a_hundred_levels_is_taken() -> None:
    deep = "[" * 100 + "]" * 100
    assert one(decoder("json", {"v": "jsonb"}), f'{{"v":{deep},"other":{deep}}}') == {"v": deep}


def test_a_message_of_ten_megabytes_is_taken() -> None:
    assert one(decoder("json", {"v": "text"}), '{"v":"' + "x" * 10_000_000 + '"}') == {"v": "x" * 10_000_000}


def test_missing_and_null_are_null_and_defects_where_required() -> None:
    reader = decoder("json", {"a": "bigint", "b": "jsonb", "c": "numeric"}, required=["a", "b", "c"])
    found = decode(reader, '{"a":1,"b":{},"c":1}', "{}", '{"a":null,"b":null,"c":null}')
    assert [defect.column for defect in found.defects] == ["a", "b", "c"] * 2
    assert found.defects[0].message == "is required, and the message has none"
    assert found.defects[3].message == "is required, and the message has null"


def test_of_duplicate_names_the_last_wins_unless_strict() -> None:
    value = '{"v":"x","v":1,"n":{"a":1,"a":2}}'
    assert one(decoder("json", {"v": "bigint"}), value) == {"v": "1"}
    assert refusal(decoder("json", {"v": "bigint"}, strict=True), value) == (None, "the name 'a' is there twice in one object")
    assert one(decoder("json", {"v": "bigint"}, strict=True), '{"v":1,"n":{"v":2}}') == {"v": "1"}


def test_nested_fields_are_read_along_their_path() -> None:
    fields = {"email": "text", "buyer.age": "integer", "buyer": "jsonb", "deep": "text"}
    reader = decoder("json", fields, required=["deep"], paths={"email": "buyer.email", "deep": "a.b.c"})
    found = decode(
        reader,
        '{"buyer":{"email":"x@y","age":5},"a":{"b":{"c":"z"}}}',
        '{"buyer":null,"a":{"b":{"c":"z"}}}',
        '{"buyer":{"email":5,"age":5},"a":{"b":{"c":"z"}}}',
        '{"buyer":"x","a":{"b":null}}',
    )
    assert rows(reader, found)[0] == {"email": "x@y", "buyer.age": "5", "buyer": '{"email":"x@y","age":5}', "deep": "z"}
    assert reasons(found) == {
        2: [("email", "expected text, got the number '5'")],
        3: [
            ("email", 'buyer is a string ("x"), not an object'),
            ("buyer.age", 'buyer is a string ("x"), not an object'),
            ("deep", "is required, and the message has none"),
        ],
    }


def test_two_fields_from_one_place_are_a_mistake_in_the_pipeline_file() -> None:
    with pytest.raises(ConfigError, match="more than one field is read from 'x'"):
        decoder("json", {"a": "text", "b": "text"}, paths={"a": "x", "b": "x"})
    with pytest.raises(ConfigError, match="the key has b"):
        decoder("json", {"a": "text"}, ["a", "b"])
    with pytest.raises(ConfigError, match="not a format"):
        make_decoder("yaml", schema({"a": "text"}))


@pytest.mark.parametrize("extra", ["drop", "keep", "quarantine"])
def test_fields_that_the_schema_lacks_are_counted_and_kept_dropped_or_held_back(extra: str) -> None:
    reader = decoder("json", {"id": "bigint"}, extra=extra)
    values = ['{"id":1}', '{"id":2,"x":{"a" : 1.50},"n":null}', '{"id":"bad","x":1}', '{"x":"\\u0000","id":4}', '{"é\\"":2,"id":5}']
    for _ in range(2):  # the second time it knows the names
        found = decode(reader, *values)
        assert found.extra == {"x": 3, "n": 1, 'é"': 1}
        texts = [row["id"] for row in rows(reader, found)]
        assert texts == ["1", "2", None, "4", "5"]
        if extra == "keep":
            kept = [row["_extra"] for row in rows(reader, found)]
            assert kept == [None, '{"x":{"a":1.50},"n":null}', '{"x":1}', kept[3], '{"é\\"":2}'] or kept[1] == '{"n":null,"x":{"a":1.50}}'
            assert sorted(reasons(found)) == [2, 3]
        else:
            assert sorted(reasons(found)) == ([2] if extra == "drop" else [1, 2, 3, 4])
    assert reader.schema.names == (("id", "_extra") if extra == "keep" else ("id",))


def test_names_without_end_are_counted_all_the_same() -> None:
    reader = decoder("json", {"id": "bigint"})
    found = decode(reader, *(f'{{"id":{n},"name{n}":1}}' for n in range(300)))
    assert len(found.extra) == 300
    assert [row["id"] for row in rows(reader, found)] == [str(n) for n in range(300)]


@pytest.mark.parametrize(
    "key, text",
    [
        (b"A-1", "A-1"),
        (b'{"id":"A-1"}', "A-1"),
        (b'{"schema":{"type":"string"},"payload":"A-1"}', "A-1"),
        (b'{"schema":null,"payload":{"id":"A-1"}}', "A-1"),
        (b"{odd", "{odd"),
    ],
)
def test_a_message_without_a_value_deletes_the_row_of_its_key(key: bytes, text: str) -> None:
    reader = decoder("json", {"id": "text", "v": "text"}, ["id"], ["id", "v"])
    found = decode(reader, '{"id":"x","v":"y"}', Payload(key, None))
    assert found.op.tolist() == [Op.INSERT, Op.DELETE]
    assert rows(reader, found) == [{"id": "x", "v": "y"}, {"id": text, "v": None}]
    assert {place: codes.tolist() for place, codes in found.presence.items()} == {1: [0, 1]}
    assert not found.defects


@pytest.mark.parametrize(
    "key", [None, b"", b"x", b"{}", b'{"a":1}', b'{"a":1,"b":null}', b'{"a":"x","b":1}', b"\xff", b"[1,2]", b'{"schema":1,"payload":5}']
)
def test_a_key_that_names_no_row_is_a_defect(key: bytes | None) -> None:
    reader = decoder("json", {"a": "bigint", "b": "bigint"}, ["a", "b"])
    found = decode(reader, Payload(b'{"a":1,"b":2}', None), Payload(key, None))
    assert [(defect.row, defect.column, defect.raw) for defect in found.defects] == [(1, None, key or b"")]
    assert rows(reader, found)[0] == {"a": "1", "b": "2"}


def test_without_a_key_a_message_without_a_value_is_a_defect() -> None:
    assert "no key" in refusal(decoder("json", {"a": "bigint"}), Payload(b"1", None))[1]
