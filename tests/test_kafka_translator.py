"""What is made of messages, without any broker: which columns, whose key, and what a delete hands on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from journal.batch import Op, Presence
from journal.schema import Column, TableSchema
from pipeline.errors import Refused
from sources.base import KEY_PREFIX, SourceContext
from sources.kafka.config import KafkaConfig
from sources.kafka.translator import Translator

_CONTRACT = TableSchema(
    "orders",
    (Column("order_id", "bigint", nullable=False), Column("email", "text", nullable=False), Column("at", "timestamptz")),
    ("order_id",),
)


def _translator(*, declared: TableSchema | None = None, key: tuple[str, ...] = (), mapped: bool = False, **block: Any) -> Translator:
    config = KafkaConfig.model_validate({"bootstrap_servers": "nowhere:9092", "topic": "t", "format": "json", **block})
    context = SourceContext(
        pipeline="test",
        name="aws",
        state=Path("/nowhere"),
        recall=lambda table: False,
        tables={"t": "orders"},
        keys={"orders": key} if key else {},
        schemas={} if declared is None else {"t": declared},
        mapped=frozenset(["t"]) if mapped else frozenset(),
    )
    return Translator(config, context)


def _message(
    value: bytes | None, key: bytes | None = None, headers: Any = None, offset: int = 0, timestamp: int = 1_700_000_000_000
) -> Message:
    return Message(topic="t", partition=3, offset=offset, key=key, value=value, headers=headers, timestamp=(1, timestamp))


def test_without_a_schema_the_columns_are_the_contracts_and_the_gate_judges_what_is_required() -> None:
    made = _translator(declared=_CONTRACT)
    assert [(one.name, one.type) for one in made.schema.columns] == [
        ("order_id", "bigint"),
        ("email", "text"),
        ("at", "timestamp with time zone"),
    ]
    assert made.schema.key == ("order_id",)
    batch = made.batch([_message(b'{"order_id": 1}'), _message(b'{"email": "a@x.com"}', offset=1)])
    assert [defect.row for defect in batch.defects] == [1], "a key has to be there; an address is for the gate to miss"
    assert batch.column("order_id").to_pylist()[0] == "1"
    assert (batch.lsn.tolist(), batch.nth.tolist()) == ([3, 3], [0, 1])


@pytest.mark.parametrize(
    "block, said",
    [
        ({}, "nothing says which fields"),
        ({"schema": {"id": "bigint"}, "key": ("order_id",)}, "order_id, of the key of orders, is not in the schema"),
        ({"declared": _CONTRACT, "paths": {"emial": "a.b"}}, "did you mean email"),
    ],
)
def test_columns_that_nothing_tells_are_refused(block: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        _translator(**block)


def test_a_header_without_a_value_is_an_empty_one() -> None:
    batch = _translator(schema={"id": "bigint"}).batch([_message(b'{"id": 1}', headers=[("a", None), ("b", b"x")]), _message(b'{"id": 2}')])
    assert batch.payloads is not None
    assert [list(batch.payloads.row(n).headers) for n in (0, 1)] == [[("a", b""), ("b", b"x")], []]


def test_times_of_a_clock_that_is_wrong_are_times_that_can_be_told() -> None:
    times = [-(2**63), -1, 0, 1_700_000_000_123, 253_402_300_800_000, 2**63 - 1]
    batch = _translator(schema={"id": "bigint"}).batch([_message(b'{"id": 1}', offset=n, timestamp=time) for n, time in enumerate(times)])
    told = [datetime.fromtimestamp(time / 1e6, UTC).isoformat() for time in batch.time.tolist()]
    first, last = "1970-01-01T00:00:00+00:00", "9999-12-31T00:00:00+00:00"
    assert told == [first, first, first, "2023-11-14T22:13:20.123000+00:00", last, last]


def test_behind_a_map_a_delete_that_tells_its_old_row_needs_no_key() -> None:
    made = _translator(declared=_CONTRACT, mapped=True, format="debezium", schema={"orderNo": "bigint"})
    assert made.schema.key == ()
    assert made.schema.names == ("orderNo", KEY_PREFIX + "order_id")
    delete = json.dumps({"op": "d", "before": {"orderNo": 7}, "after": None}).encode()
    batch = made.batch([_message(delete), _message(None, b'{"order_id": 8}', offset=1), _message(None, offset=2)])
    assert batch.op.tolist() == [Op.DELETE] * 3
    assert batch.columns[0].to_pylist() == ["7", None, None]
    assert batch.columns[1].to_pylist() == [None, "8", None]
    assert batch.presence[0].tolist() == [Presence.PRESENT, Presence.ABSENT, Presence.ABSENT]
    assert [defect.row for defect in batch.defects] == [2]
