"""Which changes a table under copy lets pass, holds or drops: by the snapshot of the copy, not by time."""

from __future__ import annotations

import numpy as np

from journal.batch import ChangeBatch, CopyMarker, Held, Op, batch_from_columns
from journal.schema import Column, TableSchema
from sources.postgres.desk import CopyDesk, TableCopy
from sources.postgres.visibility import Visible

_SCHEMA = TableSchema("t", (Column("id", "integer", 1),), ("id",))


def _batch(*ids: str) -> ChangeBatch:
    import pyarrow as pa

    return batch_from_columns(_SCHEMA, [pa.array(ids, pa.string())], Op.INSERT, source="s", table="public.t")


def _xids(*xids: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.array(xids, np.uint32)


def test_a_snapshot_shows_what_had_ended_when_it_was_taken() -> None:
    visible = Visible("100:110:103,105")
    assert visible.sees(_xids(99, 100, 103, 104, 105, 109, 110, 111)).tolist() == [True, True, False, True, False, True, False, False]
    assert visible.unseen([99, 103, 200]) == {103, 200}


def test_a_snapshot_compares_ids_that_have_wrapped_around() -> None:
    base = 7 << 32
    visible = Visible(f"{base - 3}:{base + 5}:{base - 2},{base + 1}")
    before = [(1 << 32) - 4, (1 << 32) - 3, (1 << 32) - 2, (1 << 32) - 1]
    assert visible.sees(_xids(*before, 0, 1, 4, 5)).tolist() == [True, True, False, True, True, False, True, False]


def test_a_snapshot_that_does_not_show_what_went_by_is_taken_anew() -> None:
    desk = CopyDesk("s")
    copy = TableCopy("public.t")
    desk.request(copy)
    desk.watch(copy)
    assert desk.route([(_batch("1"), _xids(105))]) == []  # dropped, and remembered
    assert not desk.settle(copy, lambda: (Visible("100:110:105"), _SCHEMA))
    assert desk.settle(copy, lambda: (Visible("106:112:"), _SCHEMA))
    marker, held = desk.route([(_batch("1", "2"), _xids(111, 112))])
    assert isinstance(marker, CopyMarker)
    assert isinstance(held, Held)
    assert held.batch.column("id").to_pylist() == ["2"]
    assert [found.phase for found in desk.finish(copy)] == ["end"]
    assert len(desk.route([(_batch("3"), _xids(5))])) == 1


def test_a_table_that_is_copied_again_passes_until_its_snapshot_and_drops_after_a_copy_that_broke() -> None:
    desk = CopyDesk("s")
    copy = TableCopy("public.t", passes=True)
    desk.request(copy)
    desk.watch(copy)
    assert len(desk.route([(_batch("1"), _xids(105))])) == 1
    assert desk.settle(copy, lambda: (Visible("106:106:"), _SCHEMA))
    desk.due()
    assert isinstance(desk.route([(_batch("2"), _xids(106))])[0], Held)
    desk.abandon(copy)
    assert desk.route([(_batch("3"), _xids(107))]) == []  # what was held is forgotten: the next snapshot shows both
    assert not desk.settle(copy, lambda: (Visible("106:107:"), _SCHEMA))


def test_a_second_reason_to_copy_during_a_copy_is_kept_until_its_end() -> None:
    desk = CopyDesk("s")
    copy = TableCopy("public.t")
    desk.request(copy)
    desk.settle(copy, lambda: (Visible("1:1:"), _SCHEMA))
    desk.due()
    desk.unsettle("public.t", _SCHEMA)
    desk.request(TableCopy("public.t", passes=True))
    assert desk.due() == []  # it would let the journal forget what is held for the copy that goes on
    assert [found.phase for found in desk.finish(copy)] == ["end", "start", "abandoned"]
    assert desk.copying() == {"public.t"}
