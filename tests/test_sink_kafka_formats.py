"""What a Kafka sink writes, read by clients that know nothing of Sluice."""

from __future__ import annotations

import base64
import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.batch import Op
from journal.schema import Column, TableSchema
from journal.schema_registry import IncompatibleSchemaError
from pipeline.errors import TransientError
from sinks.avro_binary import decimals, longs
from sinks.kafka_json import columns_of, objects
from tests.fix_kafka import Registry
from tests.kafka_place import Kafka, Received
from tests.kafka_sink_place import KafkaPlace
from tests.sink_batches import ORDERS, delete, insert, many, update
from tests.sink_place import Hand, counted, mirror
from tests.sink_types import VALUES

KINDS = TableSchema(
    "kinds",
    (
        Column("id", "bigint", 1, nullable=False), Column("exact", "numeric(38,10)", 2), Column("any", "numeric", 3),
        Column("yes", "boolean", 4),
        Column("at", "timestamp with time zone", 5), Column("day", "date", 6), Column("doc", "jsonb", 7), Column("raw", "bytea", 8),
        Column("said", "text", 9), Column("ratio", "double precision", 10), Column("tags", "text[]", 11), Column("local", "timestamp", 12),
    ),
    ("id",),
)  # fmt: skip
ROW = {
    "id": "9007199254740993", "exact": "1234567890123456789012345678.0123456789", "any": "0.10", "yes": "t",
    "at": "2026-01-01 10:00:00.5+00", "day": "2026-01-01", "doc": '{"a": [1, 2.50], "é": null}', "raw": "\\x00ff",
    "said": 'say "hi"\n\\ é🙂',
    "ratio": "0.1", "tags": '{a,"b,c"}', "local": "2026-01-01 10:00:00",
}  # fmt: skip


def _headers(message: Received) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers}


def test_json_has_every_digit_rfc_3339_nested_json_and_base64(kafka: Kafka) -> None:
    place = KafkaPlace(kafka)
    hand = Hand(place)
    assert not hand.write(mirror(KINDS), insert(**ROW), insert(id="2"), delete(id="2"))
    messages = sorted(kafka.consume(place.topic("kinds")), key=lambda message: int(_headers(message)["sluice-position"]))
    first, second, third = messages
    assert first.key == b'{"id":9007199254740993}'
    assert first.value is not None
    found = json.loads(first.value, parse_float=Decimal)
    assert found == {
        "id": 9007199254740993, "exact": Decimal("1234567890123456789012345678.0123456789"), "any": Decimal("0.10"), "yes": True,
        "at": "2026-01-01T10:00:00.5Z", "day": "2026-01-01", "doc": {"a": [1, Decimal("2.50")], "é": None},
        "raw": base64.b64encode(b"\x00\xff").decode(), "said": 'say "hi"\n\\ é🙂', "ratio": Decimal("0.1"), "tags": '{a,"b,c"}',
        "local": "2026-01-01T10:00:00",
    }  # fmt: skip
    assert _headers(first) == {"content-type": "application/json", "sluice-position": "1", "traceparent": _headers(first)["traceparent"]}
    assert second.value is not None
    assert json.loads(second.value) == {name: 2 if name == "id" else None for name in KINDS.names}
    assert (third.key, third.value) == (b'{"id":2}', None)
    assert _headers(third).keys() == {"sluice-position", "traceparent"}


def test_every_change_is_a_message_in_order_and_a_moved_row_leaves_a_tombstone(kafka: Kafka) -> None:
    place = KafkaPlace(kafka, partitions=1)
    hand = Hand(place)
    target = mirror(ORDERS, filtered=True)
    hand.write(target, insert(id="1", name="a"), update({"id": "1", "name": "b"}), update({"id": "1", "name": "c"}))
    hand.write(target, update({"id": "5", "name": "c"}, old={"id": "1"}), update({"id": "5", "name": "away"}), leaving=[1])
    told = [
        (json.loads(m.key or b""), None if m.value is None else json.loads(m.value)["name"]) for m in kafka.consume(place.topic("orders"))
    ]
    assert told == [({"id": 1}, "a"), ({"id": 1}, "b"), ({"id": 1}, "c"), ({"id": 1}, None), ({"id": 5}, "c"), ({"id": 5}, None)]


def test_a_key_goes_where_java_producers_put_it(kafka: Kafka) -> None:
    place = KafkaPlace(kafka, partitions=5)
    hand = Hand(place)
    hand.sink.begin()
    hand.give(mirror(ORDERS), many(ORDERS, [pa.array(np.arange(200))] * 4, Op.INSERT, first=1))
    hand.commit()
    messages = kafka.consume(place.topic("orders"))
    assert len({message.partition for message in messages}) == 5
    assert all(message.partition == (_murmur2(message.key or b"") & 0x7FFFFFFF) % 5 for message in messages)


def _murmur2(data: bytes) -> int:
    """As org.apache.kafka.common.utils.Utils has it."""
    m, h = 0x5BD1E995, (0x9747B28C ^ len(data)) & 0xFFFFFFFF
    for i in range(0, len(data) - len(data) % 4, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * m) & 0xFFFFFFFF
        k = ((k ^ (k >> 24)) * m) & 0xFFFFFFFF
        h = ((h * m) & 0xFFFFFFFF) ^ k
    rest = data[len(data) - len(data) % 4 :]
    if rest:
        h = ((h ^ int.from_bytes(rest, "little")) * m) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * m) & 0xFFFFFFFF
    return h ^ (h >> 15)


def test_cloud_events_are_binary_unless_they_are_to_be_structured(kafka: Kafka) -> None:
    place = KafkaPlace(kafka, format="cloudevents")
    hand = Hand(place)
    hand.write(mirror(ORDERS), insert(id="1", name="a"), update({"id": "2", "name": "b"}, old={"id": "1"}))
    messages = sorted(kafka.consume(place.topic("orders")), key=lambda message: _headers(message)["ce_id"])
    assert [_headers(message)["ce_id"] for message in messages] == ["1", "2", "2-left"]
    event = _headers(messages[1])
    assert (event["content-type"], event["ce_specversion"], event["ce_type"]) == ("application/json", "1.0", "orders.update")
    assert event["ce_source"] == f"/sluice/{kafka.prefix}-test/orders"
    assert event["ce_time"] == "1970-01-01T00:00:02.000000Z"
    assert json.loads(messages[1].value or b"")["name"] == "b"
    assert messages[2].value is None
    assert _headers(messages[2])["ce_type"] == "orders.delete"
    assert hand.names(mirror(ORDERS)) == {"2": "b"}


def test_structured_cloud_events_have_the_row_as_their_data(kafka: Kafka) -> None:
    place = KafkaPlace(kafka, format="cloudevents", mode="structured")
    hand = Hand(place)
    hand.write(mirror(ORDERS), insert(id="1", name="a", amount="1.10"), delete(id="7"))
    told, gone = sorted(kafka.consume(place.topic("orders")), key=lambda message: message.value is None)
    assert _headers(told)["content-type"] == "application/cloudevents+json"
    event = json.loads(told.value or b"", parse_float=Decimal)
    assert event.pop("data") == {"id": 1, "name": "a", "amount": Decimal("1.10"), "doc": None}
    assert event == {
        "specversion": "1.0", "id": "1", "source": f"/sluice/{kafka.prefix}-test/orders", "type": "orders.insert",
        "time": "1970-01-01T00:00:01.000000Z", "datacontenttype": "application/json",
    }  # fmt: skip
    assert gone.value is None
    assert hand.names(mirror(ORDERS), "amount") == {"1": "1.10"}


def _avro(registry: Registry, data: bytes | None) -> Any:
    """A message as any client of the registry reads it."""
    assert data is not None
    assert data[:1] == b"\x00"
    answer = httpx.get(f"{registry.url}/schemas/ids/{int.from_bytes(data[1:5], 'big')}", timeout=30).raise_for_status()
    return fastavro.schemaless_reader(io.BytesIO(data[5:]), fastavro.parse_schema(json.loads(answer.json()["schema"])), None)


def test_avro_has_logical_types_and_schemas_under_the_topics_subjects(kafka: Kafka, registry: Registry) -> None:
    place = KafkaPlace(kafka, format="avro", key="record", schema_registry={"url": registry.url})
    hand = Hand(place)
    target = mirror(KINDS)
    assert any(f"{place.topic('kinds')}-value" in statement for statement in hand.sink.plan([target]))
    assert not hand.write(target, insert(**ROW), insert(id="2"))
    assert not hand.sink.plan([target])
    first, second = sorted((_avro(registry, message.value) for message in kafka.consume(place.topic("kinds"))), key=lambda row: -row["id"])
    assert first == {
        "id": 9007199254740993, "exact": Decimal(ROW["exact"]), "any": "0.10", "yes": True, "at": first["at"], "day": first["day"],
        "doc": ROW["doc"], "raw": b"\x00\xff", "said": ROW["said"], "ratio": 0.1, "tags": ROW["tags"], "local": first["local"],
    }  # fmt: skip
    assert first["at"].isoformat() == "2026-01-01T10:00:00.500000+00:00"
    assert (first["day"].isoformat(), first["local"].isoformat()) == ("2026-01-01", "2026-01-01T10:00:00")
    assert second == {name: 2 if name == "id" else None for name in KINDS.names}
    assert {_avro(registry, message.key)["id"] for message in kafka.consume(place.topic("kinds"))} == {9007199254740993, 2}
    assert counted(hand.live(target)) == hand.as_held(target, [ROW, {"id": "2"}])
    hand.write(target, delete(id="2"))
    assert {row["id"] for row in hand.live(target)} == {ROW["id"]}


def test_a_schema_that_the_registry_finds_incompatible_stops_the_sink_before_anything_is_written(kafka: Kafka, registry: Registry) -> None:
    place = KafkaPlace(kafka, format="avro", schema_registry={"url": registry.url})
    hand = Hand(place)
    hand.write(mirror(ORDERS), insert(id="1", name="a"))
    subject = f"{place.topic('orders')}-value"
    registry.set_compatibility(subject, "BACKWARD")
    wider = mirror(TableSchema("orders", (*ORDERS.columns, Column("more", "text", 9)), ("id",)))
    hand.write(wider, insert(id="2", more="a column that is added may be null, and so is compatible"))
    other = TableSchema("orders", (ORDERS.columns[0], Column("name", "integer", 2)), ("id",))
    with pytest.raises(IncompatibleSchemaError, match=subject):
        hand.sink.plan([mirror(other)])
    hand.sink.begin()
    hand.put(wider, insert(id="3"))
    with pytest.raises(IncompatibleSchemaError, match="compatible") as met:
        hand.put(mirror(other), insert(id="4", name="7"))
    hand.sink.rollback()
    assert subject in met.value.message
    assert met.value.exit_code == 1
    assert {row["id"] for row in hand.live(wider)} == {"1", "2"}


def test_a_registry_that_is_away_is_waited_for(kafka: Kafka) -> None:
    place = KafkaPlace(kafka, format="avro", schema_registry={"url": "http://127.0.0.1:9", "timeout": 2})
    hand = Hand(place)
    hand.sink.begin()
    with pytest.raises(TransientError, match="registry"):
        hand.put(mirror(ORDERS), insert(id="1"))
    hand.sink.rollback()


def test_what_avro_cannot_hold_is_refused_with_its_column(kafka: Kafka, registry: Registry) -> None:
    hand = Hand(KafkaPlace(kafka, format="avro", schema_registry={"url": registry.url}))
    refused = hand.write(mirror(ORDERS), insert(id="1", amount="1.00"), insert(id="2", amount="NaN"), insert(id="3", amount="-2.50"))
    assert [(one.row, one.column) for one in refused] == [(1, "amount")]
    assert hand.names(mirror(ORDERS), "amount") == {"1": "1.00", "3": "-2.50"}


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50))
def test_longs_are_what_another_encoder_makes_of_them(numbers: list[int]) -> None:
    assert longs(np.array(numbers, np.int64)).to_pylist() == [_written("long", number) for number in numbers]


@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1, max_size=50))
def test_decimals_are_what_another_encoder_makes_of_them(numbers: list[int]) -> None:
    column = pa.array([Decimal(number) for number in numbers], pa.decimal128(38, 0))
    shortest = [number.to_bytes((number if number >= 0 else ~number).bit_length() // 8 + 1, "big", signed=True) for number in numbers]
    assert decimals(column).to_pylist() == [_written("bytes", data) for data in shortest]


def _written(kind: str, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, kind, value)
    return out.getvalue()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.none(), min_size=1, max_size=20))
def test_any_text_is_json_that_reads_back(texts: list[str | None]) -> None:
    found, bad = objects([Column("a b", "text")], [pa.array(texts, pa.string())])
    assert not bad
    assert [json.loads(one) for one in found.to_pylist()] == [{"a b": text} for text in texts]


@pytest.mark.parametrize("kind", VALUES)
def test_every_value_is_json_that_reads_back(kind: str) -> None:
    column = pa.array([*VALUES[kind], None], pa.string())
    found, bad = objects([Column("v", kind)], [column])
    assert not bad
    for text in found.to_pylist():
        json.loads(text)
    expected = [None if kind in ("json", "jsonb") and value == "null" else value for value in column.to_pylist()]
    assert columns_of([Column("v", kind)], [text.encode() for text in found.to_pylist()])[0].to_pylist() == expected
