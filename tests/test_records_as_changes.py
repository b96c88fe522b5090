"""A record of quarantine is the change that it was: with its old values, and without what the log did not carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from msgspec import structs

from dataflows.judging import Judge, JudgedBatch
from dataflows.maps import Maps
from dataflows.records import judged_records
from dataflows.records_as_changes import RecordShapes, changes_of
from journal.batch import ChangeBatch, Defect, Op, Payload, Payloads, batch_from_columns
from journal.quarantine import QuarantineRecord, Reason, from_row, to_row
from journal.schema import Column, TableSchema
from journal.sealing import Seal
from pipeline.errors import ConfigError
from pipeline.load import load_pipeline
from quality.contract_reading import load_contract
from quality.gate import Gate
from quality.judgement import UNDECODABLE, QuarantinedRow
from tests.sink_batches import ORDERS, changes, delete, insert, read, update
from tests.test_mapping_judging import _CONTRACT, _ORDERS, _PIPELINE


def _place(batch: ChangeBatch, row: int) -> str:
    return f"0/{int(batch.lsn[row]):X}"


def _kept(batch: ChangeBatch, *, rule: str = "r", place: Callable[[ChangeBatch, int], str] = _place) -> list[QuarantineRecord]:
    """Every row in quarantine, as the journal gives it back."""
    defects: dict[int, list[Reason]] = {}
    for one in batch.defects:
        defects.setdefault(one.row, []).append(Reason(UNDECODABLE, one.column, one.message, one.shown))
    rows = [QuarantinedRow(row, tuple(defects.get(row, [Reason(rule, None, "it broke a rule")]))) for row in range(len(batch))]
    seal = Seal(Path("nowhere"))  # none of them is sensitive
    return [from_row(to_row(one, seal), seal) for one in judged_records("j" * 12, place, None, batch, rows, None)]


def _same(found: ChangeBatch, given: ChangeBatch) -> None:
    for name in ("op", "lsn", "time", "ordinal"):
        assert getattr(found, name).tolist() == getattr(given, name).tolist()
    assert [found.absent(c).tolist() for c in range(len(found.columns))] == [given.absent(c).tolist() for c in range(len(given.columns))]
    for c, column in enumerate(given.columns):
        present = pa.array(~given.absent(c))
        assert found.columns[c].filter(present).equals(column.filter(present))
    assert {c: column.to_pylist() for c, column in found.old.items()} == {c: column.to_pylist() for c, column in given.old.items()}
    assert (found.has_old is None) == (given.has_old is None)
    assert given.has_old is None or (found.has_old is not None and found.has_old.tolist() == given.has_old.tolist())


def test_a_record_becomes_the_change_that_it_was() -> None:
    given = changes(
        ORDERS,
        insert(id="1", name=None, amount="1.00", doc=""),
        read(id="2", name="b", amount=None, doc="{}"),
        update({"id": "3", "name": "c", "amount": "2.00"}, absent=["doc"]),
        update({"id": "4", "name": None, "amount": "2.00", "doc": "x"}, old={"id": "9", "name": "was", "amount": None, "doc": "x"}),
        update({"id": "5", "name": "e", "amount": "2.00"}, recalled={"doc": "read again"}),
        delete(id="6"),
        first=41,
    )
    found = changes_of(_kept(given), ORDERS)
    _same(found, given)
    assert (found.source, found.table, found.dataset) == ("test", "public.orders", "orders")
    assert found.payloads is None


def test_bytes_that_are_no_text_are_a_defect_again_and_a_patch_mends_them() -> None:
    raw = b"caf\xe9"
    given = replace(changes(ORDERS, insert(id="1"), insert(id="2"), first=1), defects=(Defect(1, "name", "not UTF-8", raw),))
    first, second = _kept(given)
    found = changes_of([first, second], ORDERS)
    assert found.defects == given.defects
    assert found.column("name").to_pylist() == [None, None]
    patched = changes_of([first, structs.replace(second, patch={"name": "café", "amount": None})], ORDERS)
    assert (patched.defects, patched.column("name").to_pylist()) == ((), [None, "café"])


def test_a_message_comes_back_with_its_headers_and_one_that_nobody_could_read_stays_unread() -> None:
    context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    payloads = Payloads([Payload(b"k", b"{", [("traceparent", context.encode())]), Payload(None, None, [])], np.arange(2))
    given = replace(changes(ORDERS, insert(), delete(id="2"), first=7), payloads=payloads, defects=(Defect(0, None, "no JSON", b"{"),))
    place = lambda batch, row: f'{{"topic": "orders", "partition": 3, "offset": {row + 12}}}'  # noqa: E731
    records = _kept(given, place=place)
    found = changes_of(records, ORDERS)
    assert found.payloads is not None
    assert [found.payloads.row(row) for row in range(2)] == [payloads.row(row) for row in range(2)]
    assert (found.lsn.tolist(), found.nth.tolist()) == ([3, 3], [12, 13])
    assert found.traces is not None
    assert found.traces.to_pylist() == [context, None]
    assert found.defects == given.defects
    assert not changes_of([structs.replace(records[0], patch={"id": "1"})], ORDERS).defects, "somebody has said what it holds"


def test_a_column_that_came_since_has_its_default_where_the_row_was_whole_and_one_that_went_is_left_out() -> None:
    records = _kept(changes(ORDERS, insert(id="1", doc="gone"), update({"id": "2"}, absent=["doc"]), delete(id="3"), first=1))
    columns = (*ORDERS.columns[:3], Column("since", "text", 9, default="then"))
    found = changes_of(records, TableSchema("orders", columns, ("id",)))
    assert found.column("since").to_pylist() == ["then", None, None]
    assert found.absent(3).tolist() == [False, True, True]
    unnumbered = changes_of(records, TableSchema("orders", (*ORDERS.columns[:3], Column("since", "text")), ("id",)))
    assert unnumbered.absent(3).tolist() == [True, True, True], "nobody can say whether the message had it"


def test_records_of_two_tables_are_no_batch() -> None:
    (one,) = _kept(changes(ORDERS, insert(id="1"), first=1))
    for records in ([], [one, structs.replace(one, table="public.others")]):
        with pytest.raises(ValueError, match="one table"):
            changes_of(records, ORDERS)


@pytest.fixture
def mapped(tmp_path: Path) -> tuple[Judge, Maps]:
    (tmp_path / "pipeline.yaml").write_text(_PIPELINE)
    (tmp_path / "canonical.odcs.yaml").write_text(_CONTRACT)
    (tmp_path / "orders.sql").write_text("SELECT 'shop-' || id AS order_id, cents / 100 AS total FROM input")
    contract = load_contract(tmp_path / "canonical.odcs.yaml")
    maps = Maps(load_pipeline(tmp_path / "pipeline.yaml"))
    return Judge(1, lambda schema: Gate(contract, schema), partial(judged_records, "j" * 12, _place, None), maps=maps), maps


def test_what_a_map_could_not_take_has_its_sources_columns_and_goes_through_the_map_again(mapped: tuple[Judge, Maps]) -> None:
    judge, maps = mapped
    rows = [pa.array(["1", "2", "3"]), pa.array(["99999999999999", "-5", "99999999999999"])]
    judged = judge.batch(batch_from_columns(_ORDERS, rows, Op.INSERT, source="shop", table="public.orders"))
    assert isinstance(judged, JudgedBatch)
    shapes = RecordShapes(maps, lambda source: {"public.orders": _ORDERS})
    runs = list(shapes.batches(sorted(judged.records, key=lambda one: one.ordinal)))
    assert [[one.ordinal for one in records] for records, _ in runs] == [[1], [2], [3]]
    assert [batch.schema.names for _, batch in runs] == [("id", "cents"), ("order_id", "total"), ("id", "cents")]
    assert runs[1][1].column("total").to_pylist() == ["-0.05"]
    mended = structs.replace(runs[0][0][0], patch={"cents": "150"})
    again = maps.apply(changes_of([mended], shapes.of(mended)))
    assert again is not None
    assert again.passed.column("total").to_pylist() == ["1.50"]
    gone = structs.replace(mended, table="public.gone")
    with pytest.raises(ConfigError, match=r"nothing is known of the table public\.gone"):
        shapes.of(gone)
