from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from dataflows.judging import Judge, JudgedBatch, Stopped
from dataflows.records import judged_records
from journal.batch import ChangeBatch, CopyMarker, Defect, Op, batch_from_columns
from journal.schema import Column, TableSchema
from quality.contract_reading import load_contract
from quality.gate import Gate
from tests.contract_text import contract_of

SCHEMA = TableSchema("orders", (Column("id", "bigint"), Column("amount", "integer")), ("id",))

_CONTRACT = contract_of("""\
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true}
      - name: amount
        logicalType: integer
        physicalType: integer
        quality:
          - id: positive
            type: sql
            query: amount > 0
            mustBe: true
            customProperties: [{property: action, value: ACTION}]
""")


def _judge(tmp_path: Path, action: str = "quarantine") -> Judge:
    file = tmp_path / "orders.yaml"
    file.write_text(_CONTRACT.replace("ACTION", action))
    contract = load_contract(file)
    record = partial(judged_records, "j" * 12, lambda batch, row: "0/1", "owner@example.com")
    return Judge(1, lambda schema: Gate(contract, schema), record)


def _batch(*amounts: str | None, first: int = 1) -> ChangeBatch:
    ids = [str(first + i) for i in range(len(amounts))]
    return batch_from_columns(SCHEMA, [pa.array(ids), pa.array(amounts, pa.string())], Op.INSERT, source="db", table="public.orders")


def test_every_change_gets_an_ordinal_and_those_held_back_keep_theirs(tmp_path: Path) -> None:
    judge = _judge(tmp_path)
    first = judge.batch(_batch("1", "-2", "3"))
    second = judge.batch(_batch("4", first=9))
    assert isinstance(first, JudgedBatch)
    assert isinstance(second, JudgedBatch)
    assert first.passed.ordinal.tolist() == [1, 3]
    assert [record.ordinal for record in first.records] == [2]
    assert (first.rows, first.first, first.last) == (3, 1, 3)
    assert second.passed.ordinal.tolist() == [4]


def test_a_record_says_why_it_is_held_back_and_what_was_received(tmp_path: Path) -> None:
    found = _judge(tmp_path).batch(_batch("-2"))
    assert isinstance(found, JudgedBatch)
    (record,) = found.records
    assert (record.dataset, record.operation, record.key, record.owner) == ("orders", "insert", {"id": "1"}, "owner@example.com")
    assert record.raw == {"id": "1", "amount": "-2"}
    assert [(reason.rule, reason.value) for reason in record.reasons] == [("positive", "-2")]


def test_dropped_and_warned_rows_are_counted_by_rule(tmp_path: Path) -> None:
    dropped = _judge(tmp_path, "drop").batch(_batch("1", "-2", "-3"))
    warned = _judge(tmp_path, "warn").batch(_batch("1", "-2", "-3"))
    assert isinstance(dropped, JudgedBatch)
    assert isinstance(warned, JudgedBatch)
    assert (len(dropped.passed), dict(dropped.dropped), dict(dropped.failed)) == (1, {"positive": 2}, {"positive": 2})
    assert (len(warned.passed), dict(warned.warned), dict(warned.failed)) == (3, {"positive": 2}, {"positive": 2})


def test_a_rule_that_fails_the_table_stops_it_and_keeps_everything_from_there_on(tmp_path: Path) -> None:
    judge = _judge(tmp_path, "fail")
    passed, stopped, after = (judge.batch(batch) for batch in (_batch("1"), _batch("2", "-2"), _batch("3")))
    assert isinstance(passed, JudgedBatch)
    assert isinstance(stopped, Stopped)
    assert isinstance(after, Stopped)
    assert len(stopped.batch) == 2
    assert "positive" in judge.stopped["orders"]


def test_a_table_that_the_contract_does_not_fit_any_more_is_stopped_not_its_neighbours(tmp_path: Path) -> None:
    judge = _judge(tmp_path)
    narrower = TableSchema("orders", (Column("id", "bigint"),), ("id",))
    batch = batch_from_columns(narrower, [pa.array(["1"])], Op.INSERT, source="db", table="public.orders")
    assert isinstance(judge.batch(batch), Stopped)
    assert "amount" in judge.stopped["orders"]


def test_undecodable_rows_are_held_back_where_no_contract_is() -> None:
    judge = Judge(1, lambda schema: None, partial(judged_records, "j" * 12, lambda batch, row: "0/1", None))
    batch = _batch("1", "2")
    bad = replace(batch, defects=(Defect(1, "amount", "not UTF-8", b"\xff"),))
    found = judge.batch(bad)
    assert isinstance(found, JudgedBatch)
    assert found.passed.columns[0].to_pylist() == ["1"]
    assert found.records[0].raw["amount"] == b"\xff"


def test_the_end_of_a_copy_carries_the_ordinal_of_its_start(tmp_path: Path) -> None:
    judge = _judge(tmp_path)
    judge.batch(_batch("1", "2"))
    start, end = (CopyMarker(SCHEMA, "db", "public.orders", phase, 0) for phase in ("start", "end"))
    first = judge.entry(start)
    judge.batch(_batch("3"))
    last = judge.entry(end)
    assert isinstance(first, CopyMarker)
    assert isinstance(last, CopyMarker)
    assert (first.ordinal, last.ordinal) == (3, 3)


def test_a_copy_for_one_sink_brings_no_second_record(tmp_path: Path) -> None:
    batch = _batch("-1", "2")
    copied = replace(batch, sink="eu", op=np.full(2, Op.READ, np.uint8))
    found = _judge(tmp_path).batch(copied)
    assert isinstance(found, JudgedBatch)
    assert (len(found.passed), list(found.records)) == (1, [])
