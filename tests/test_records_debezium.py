from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.batch import Op, Presence
from sources.records.base import Payload
from tests.fake_registry import FakeRegistry, fake_registry
from tests.records import decode, decoder, one, reasons, refusal, rows

UNAVAILABLE = "__debezium_unavailable_value"
FIELDS = {"id": "bigint", "name": "text", "doc": "jsonb"}


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


def event(op: str, before: Any = None, after: Any = None) -> bytes:
    return json.dumps({"before": before, "after": after, "op": op, "source": {"db": "x"}, "ts_ms": 1}).encode()


def with_schema(op: str, after: dict[str, Any], fields: list[dict[str, Any]], before: Any = None) -> bytes:
    row = {"type": "struct", "fields": fields, "optional": True}
    schema = {"type": "struct", "fields": [{**row, "field": "before"}, {**row, "field": "after"}, {"type": "string", "field": "op"}]}
    return json.dumps({"schema": schema, "payload": {"before": before, "after": after, "op": op}}).encode()


def test_each_op_is_its_change_with_the_row_before_and_after() -> None:
    reader = decoder("debezium", FIELDS, ["id"], ["id"])
    found = decode(
        reader,
        event("c", after={"id": 1, "name": "a", "doc": {"k": 1.50}}),
        event("r", after={"id": 2, "name": "b"}),
        event("u", before={"id": 3, "name": "old", "doc": None}, after={"id": 3, "name": "new"}),
        event("u", after={"id": 4, "name": "new"}),
        event("d", before={"id": 5, "name": None, "doc": None}),
        Payload(b'{"id": 6}', event("d")),
        Payload(b'{"id": 5}', None),
        event("t"),
    )
    assert not found.defects
    assert [Op(op) for op in found.op] == [Op.INSERT, Op.READ, Op.UPDATE, Op.UPDATE, Op.DELETE, Op.DELETE, Op.DELETE, Op.TRUNCATE]
    assert [row["id"] for row in rows(reader, found)] == ["1", "2", "3", "4", "5", "6", "5", None]
    assert [row["name"] for row in rows(reader, found)][:4] == ["a", "b", "new", "new"]
    assert found.has_old is not None
    assert found.has_old.tolist() == [False, False, True, False, False, False, False, False]
    assert found.old[1].to_pylist()[2] == "old"
    assert found.presence[1].tolist() == [0, 0, 0, 0, 1, 1, 1, 0], "a delete that has the key alone says nothing of the rest"
    assert 0 not in found.presence


def test_what_is_unavailable_is_absent_and_not_a_value() -> None:
    fields = {**FIELDS, "raw": "bytea", "tags": "text[]"}
    reader = decoder("debezium", fields, ["id"], ["id", "name"])
    marked = {
        "id": 1,
        "name": UNAVAILABLE,
        "doc": UNAVAILABLE,
        "raw": base64.b64encode(UNAVAILABLE.encode()).decode(),
        "tags": [UNAVAILABLE],
    }
    found = decode(
        reader, event("u", after=marked), event("u", after={"id": 2, "name": "n", "doc": {"a": 1}, "raw": "3q0=", "tags": ["x"]})
    )
    assert not found.defects
    assert rows(reader, found) == [
        {"id": "1", "name": None, "doc": None, "raw": None, "tags": None},
        {"id": "2", "name": "n", "doc": '{"a":1}', "raw": "\\xdead", "tags": "{x}"},
    ]
    for place in range(1, 5):
        assert found.presence[place].tolist() == [Presence.ABSENT, Presence.PRESENT]


CONNECT = "org.apache.kafka.connect.data."
DECIMAL = CONNECT + "Decimal"
TIME = "io.debezium.time."
MICROS = 1767258000_500000  # 2026-01-01 09:00:00.5 UTC


@pytest.mark.parametrize(
    "name, value, parameters, column, text",
    [
        (
            CONNECT + "Decimal",
            base64.b64encode((-1250).to_bytes(2, "big", signed=True)).decode(),
            {"scale": "2"},
            "numeric(12,2)",
            "-12.50",
        ),
        (CONNECT + "Decimal", 12.5, {"scale": "2"}, "numeric(12,2)", "12.50"),
        ("io.debezium.data.VariableScaleDecimal", {"scale": 3, "value": "BNI="}, {}, "numeric", "1.234"),
        (CONNECT + "Date", 20454, {}, "date", "2026-01-01"),
        (TIME + "Date", -1, {}, "date", "1969-12-31"),
        (CONNECT + "Time", 36_000_005, {}, "time", "10:00:00.005"),
        (TIME + "MicroTime", 36_000_000_005, {}, "time", "10:00:00.000005"),
        (CONNECT + "Timestamp", MICROS // 1000, {}, "timestamptz", "2026-01-01 09:00:00.5+00"),
        (TIME + "Timestamp", MICROS // 1000, {}, "timestamp", "2026-01-01 09:00:00.5"),
        (TIME + "MicroTimestamp", MICROS, {}, "timestamp", "2026-01-01 09:00:00.5"),
        (TIME + "MicroTimestamp", -1, {}, "timestamp", "1969-12-31 23:59:59.999999"),
        (TIME + "MicroTimestamp", MICROS, {}, "bigint", str(MICROS)),
        (TIME + "NanoTimestamp", MICROS * 1000, {}, "timestamp", "2026-01-01 09:00:00.5"),
        (TIME + "ZonedTimestamp", "2026-01-01T10:00:00.5+01:00", {}, "timestamptz", "2026-01-01 09:00:00.5+00"),
        (TIME + "MicroDuration", 93_784_000_005, {}, "interval", "26:03:04.000005"),
        ("io.debezium.data.Json", '{"a" : 1.50}', {}, "jsonb", '{"a":1.50}'),
        ("io.debezium.data.Uuid", "A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11", {}, "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("io.debezium.data.Enum", "open", {}, "text", "open"),
        ("io.debezium.data.Bits", "BQ==", {"length": "4"}, "bit(4)", "0101"),
        (TIME + "Year", 2026, {}, "integer", "2026"),
    ],
)
def test_logical_names_decide_what_a_value_means(name: str, value: Any, parameters: Any, column: str, text: str) -> None:
    reader = decoder("debezium", {"v": column})
    described = [{"field": "v", "type": "any", "name": name, "parameters": parameters, "optional": True}]
    assert one(reader, with_schema("c", {"v": value}, described)) == {"v": text}
    assert one(reader, with_schema("c", {"v": None}, described)) == {"v": None}


@pytest.mark.parametrize(
    "name, value, column, message",
    [
        (TIME + "NanoTimestamp", MICROS * 1000 + 1, "timestamp", "finer than a microsecond"),
        (TIME + "MicroTimestamp", 2**62, "timestamp", "outside of the years"),
        (TIME + "MicroTimestamp", "x", "timestamp", "expected a whole number"),
        (CONNECT + "Decimal", "%%", "numeric", "expected base64"),
        (CONNECT + "Date", 10**12, "date", "outside of the years"),
        ("io.debezium.data.Json", "{", "jsonb", "is not JSON"),
    ],
)
def test_values_that_their_logical_type_does_not_have(name: str, value: Any, column: str, message: str) -> None:
    found = refusal(decoder("debezium", {"v": column}), with_schema("c", {"v": value}, [{"field": "v", "type": "any", "name": name}]))
    assert found[0] == "v"
    assert message in found[1]


def test_messages_that_are_no_change_of_a_row_have_their_reason() -> None:
    reader = decoder("debezium", FIELDS, ["id"], ["id"])
    found = decode(
        reader, event("c", after={"id": 1}), b"", b"null", b"[]", b'{"id": 1}', event("m"), event("c"), event("d"),
        event("u", after={"id": "x"}),
        event("u", before={"id": 1, "name": 5}, after={"id": 1}), b'{"op":5}', b'{"op":"c","after":7}', event("c", after={"name": "n"}),
    )  # fmt: skip
    said = {row: messages[0] for row, messages in reasons(found).items()}
    assert sorted(said) == list(range(1, 13))
    assert said[1][1] == "the message is empty"
    assert said[4][1] == "is no change event: it has no op"
    assert "'m' is no op of a row" in said[5][1]
    assert "there is no `after`" in said[6][1]
    assert "neither a value nor a key" in said[7][1]
    assert said[8] == ("id", 'expected bigint, got a string ("x")')
    assert said[9] == ("name", "before: expected text, got the number '5'")
    assert said[12] == ("id", "is required, and the message has none")
    assert rows(reader, found)[0]["id"] == "1"


def test_documents_of_mongodb_are_read_from_the_string_that_holds_them() -> None:
    reader = decoder("debezium", {"id": "text", "total": "bigint"}, paths={"id": "_id.$oid"})
    assert one(reader, event("c", after=json.dumps({"_id": {"$oid": "f00"}, "total": 5}))) == {"id": "f00", "total": "5"}


def test_avro_envelopes_are_read_with_their_logical_names(registry: FakeRegistry) -> None:
    value = {
        "type": "record", "name": "Value", "namespace": "shop.orders",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": ["null", "string"]},
            {"name": "at", "type": ["null", {"type": "long", "connect.version": 1, "connect.name": TIME + "MicroTimestamp"}]},
            {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2, "connect.name": DECIMAL}},
        ],
    }  # fmt: skip
    registry.add(1, {
        "type": "record", "name": "Envelope", "namespace": "shop.orders",
        "fields": [
            {"name": "before", "type": ["null", value]}, {"name": "after", "type": ["null", "Value"]}, {"name": "op", "type": "string"},
        ],
    })  # fmt: skip
    registry.add(2, {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]})
    fields = {"id": "bigint", "name": "text", "at": "timestamp", "amount": "numeric(12,2)"}
    reader = decoder("debezium", fields, ["id"], ["id"], registry=registry.options, extra="keep")
    new = {"id": 1, "name": "n", "at": MICROS, "amount": Decimal("1.5")}
    found = decode(
        reader,
        registry.message(1, {"before": None, "after": new, "op": "c"}),
        registry.message(1, {"before": {**new, "name": "o"}, "after": {**new, "name": UNAVAILABLE}, "op": "u"}),
        Payload(registry.message(2, {"id": 9}), registry.message(1, {"before": None, "after": None, "op": "d"})),
        Payload(registry.message(2, {"id": 9}), None),
        registry.message(2, {"id": 1}),
        event("c", after={"id": 5, "name": "json"}),
    )
    assert reasons(found) == {4: [(None, "is no change event: it has no op")]}
    assert rows(reader, found)[0] == {"id": "1", "name": "n", "at": "2026-01-01 09:00:00.5", "amount": "1.50", "_extra": None}
    assert [row["id"] for row in rows(reader, found)] == ["1", "1", "9", "9", None, "5"]
    assert found.presence[1].tolist()[:3] == [0, 1, 1]
    assert found.old[1].to_pylist()[1] == "o"


def test_keys_with_their_schema_around_them_name_the_row() -> None:
    reader = decoder("debezium", {"id": "date", "n": "text"}, ["id"])
    key = {"schema": {"type": "struct", "fields": [{"field": "id", "type": "int32", "name": TIME + "Date"}]}, "payload": {"id": 20454}}
    assert one(reader, Payload(json.dumps(key).encode(), None))["id"] == "2026-01-01"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=30), st.sampled_from([b'{"op":"c","after":', b'{"op":"u","after":{"id":', event("d"), event("t")]))
    )
)
def test_hostile_bytes_never_raise(values: list[bytes]) -> None:
    reader = decoder("debezium", FIELDS, ["id"])
    found = decode(reader, *values, event("c", after={"id": 1}))
    assert rows(reader, found)[-1]["id"] == "1"
