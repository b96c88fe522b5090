"""Maps before the gates: what goes into the journal, and what the journal notes of the source's own columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from cli.records import Masks
from dataflows.given import given_note, resume_from
from dataflows.judging import Judge, JudgedBatch, Stopped
from dataflows.maps import Maps
from dataflows.records import judged_records
from journal.batch import ChangeBatch, CopyMarker, Held, Op, Segment, batch_from_columns
from journal.known import Known
from journal.schema import Column, TableSchema
from pipeline.load import load_pipeline
from quality.contract_reading import load_contract
from quality.gate import Gate

_PIPELINE = """\
pipeline: channels
sources:
  shop: {type: postgres, dsn: "postgresql://localhost:1/x", tables: [public.orders, public.sales]}
datasets:
  canonical:
    from:
      - {source: shop.public.orders, map: orders.sql}
      - shop.public.sales
    contract: canonical.odcs.yaml
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""
_CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: canonical
version: 1.0.0
status: active
schema:
  - name: canonical
    properties:
      - {name: order_id, logicalType: string, physicalType: text, primaryKey: true, required: true}
      - name: total
        logicalType: number
        physicalType: numeric(10,2)
        quality:
          - {id: positive, type: sql, query: total > 0, mustBe: true}
"""
_ORDERS = TableSchema("canonical", (Column("id", "bigint", 1), Column("cents", "bigint", 2)), ("id",))
_SALES = TableSchema(
    "canonical", (Column("internal", "text", 1), Column("total", "numeric(8,2)", 2), Column("order_id", "text", 3)), ("order_id",)
)


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    (tmp_path / "pipeline.yaml").write_text(_PIPELINE)
    (tmp_path / "canonical.odcs.yaml").write_text(_CONTRACT)
    (tmp_path / "orders.sql").write_text("SELECT 'shop-' || id AS order_id, cents / 100 AS total FROM input")
    contract = load_contract(tmp_path / "canonical.odcs.yaml")
    record = partial(judged_records, "j" * 12, lambda batch, row: "0/1", "owner@example.com")
    maps = Maps(load_pipeline(tmp_path / "pipeline.yaml"))
    return Judge(1, lambda schema: Gate(contract, schema), record, maps=maps)


def _batch(schema: TableSchema, table: str, *rows: Sequence[str | None]) -> ChangeBatch:
    columns = [pa.array([row[c] for row in rows], pa.string()) for c in range(len(schema.columns))]
    return batch_from_columns(schema, columns, Op.INSERT, source="shop", table=table)


def _orders(*rows: Sequence[str | None]) -> ChangeBatch:
    return _batch(_ORDERS, "public.orders", *rows)


def test_what_the_map_made_is_judged_and_every_row_has_its_one_place(judge: Judge) -> None:
    judged = judge.batch(_orders(("1", "150"), ("2", "-5"), ("3", "99999999999999"), ("4", "10")))
    assert isinstance(judged, JudgedBatch)
    assert judged.passed.column("order_id").to_pylist() == ["shop-1", "shop-4"]
    assert judged.passed.column("total").to_pylist() == ["1.50", "0.10"]
    assert judged.passed.ordinal.tolist() == [1, 4]
    assert (judged.rows, judged.first, judged.last, judged.held_back) == (4, 1, 4, {"map": 1, "positive": 1})
    unmapped, broken = judged.records
    assert (unmapped.ordinal, unmapped.key, unmapped.raw) == (3, {"order_id": "shop-3"}, {"id": "3", "cents": "99999999999999"})
    assert (broken.ordinal, broken.key, broken.raw) == (2, {"order_id": "shop-2"}, {"order_id": "shop-2", "total": "-0.05"})
    assert len({record.id for record in judged.records}) == 2


def test_of_a_row_without_a_map_nothing_is_shown_where_the_contract_hides_anything(judge: Judge, tmp_path: Path) -> None:
    judged = judge.batch(_orders(("2", "-5"), ("3", "99999999999999")))
    assert isinstance(judged, JudgedBatch)
    unmapped, broken = judged.records
    open_masks = Masks(load_pipeline(tmp_path / "pipeline.yaml"))
    assert open_masks(unmapped, unmapped.raw) == {"id": "3", "cents": "99999999999999"}
    contract = tmp_path / "canonical.odcs.yaml"
    contract.write_text(contract.read_text().replace("name: total", "name: total\n        classification: confidential"))
    masks = Masks(load_pipeline(tmp_path / "pipeline.yaml"))
    assert masks(unmapped, unmapped.raw) == {"id": "***", "cents": "***"}
    assert masks(unmapped, unmapped.key) == {"order_id": "shop-3"}
    assert masks(broken, broken.raw) == {"order_id": "shop-2", "total": "***"}


def test_a_table_without_a_map_gives_the_columns_that_the_contract_has(judge: Judge) -> None:
    judged = judge.batch(_batch(_SALES, "public.sales", ("x", "5.00", "m-1")))
    assert isinstance(judged, JudgedBatch)
    assert judged.passed.schema.names == ("order_id", "total")
    assert [column.to_pylist() for column in judged.passed.columns] == [["m-1"], ["5.00"]]


def test_a_copy_of_one_of_several_sources_never_sweeps(judge: Judge) -> None:
    for phase in ("start", "end"):
        marker = judge.entry(CopyMarker(_ORDERS, "shop", "public.orders", phase, 0))
        assert isinstance(marker, CopyMarker)
        assert marker.first
        assert marker.schema.names == ("order_id", "total")


def test_a_map_that_does_not_fit_any_more_stops_its_table_alone(judge: Judge) -> None:
    narrow = TableSchema("canonical", (Column("id", "bigint", 1),), ("id",))
    broken = judge.batch(_batch(narrow, "public.orders", ("1",)))
    assert isinstance(broken, Stopped)
    assert broken.batch.schema == narrow  # as the source gave it: it goes through the map once that is mended
    assert "cents" in judge.stopped_tables["shop", "public.orders"]
    assert judge.entry(CopyMarker(narrow, "shop", "public.orders", "end", 0)) is None
    assert isinstance(judge.batch(_batch(_SALES, "public.sales", ("x", "5.00", "m-1"))), JudgedBatch)


def test_the_journal_notes_the_sources_own_columns_once_and_gives_them_back(judge: Judge) -> None:
    first = judge.segment(Segment("shop", [_orders(("1", "150"))], "1", notes={"own": "note"})).segment.notes
    again = judge.segment(Segment("shop", [_orders(("2", "150")), Held(_orders(("3", "1")))], "2")).segment.notes
    assert set(first) == {"own", given_note("public.orders", _ORDERS, _ORDERS)[0]}
    assert not again
    judged = judge.batch(_orders(("4", "1")))
    assert isinstance(judged, JudgedBatch)
    known = Known("1", frozenset(), frozenset(), {"public.orders": judged.passed.schema}, dict(first))
    resume = resume_from(known)
    assert resume.schemas == {"public.orders": _ORDERS}
    assert resume.notes == {"own": "note"}
    # what came into the journal otherwise since then is the source's own
    other = replace(judged.passed.schema, columns=_SALES.columns)
    assert resume_from(known._replace(schemas={"public.orders": other})).schemas == {"public.orders": other}
