"""The net effect of a batch, applied to a table in memory, is what the changes come to one by one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from journal.batch import Op
from sinks.base import RefusedRow, Target
from sinks.mirror import Net, lacking, settle
from sinks.multiset import bag_effect
from sinks.row_hash import row_hashes
from sinks.rows import Rows
from tests.sink_model import COLUMNS, KEYED, KEYLESS, Change, MirrorModel, SourceTable, batch_of, routed

Key = tuple[str | None, ...]
Held = dict[Key, tuple[list[str | None], int, int]]  # key -> values, position, softly deleted since (-1: it lives)


class Table:
    """A mirror table in memory that applies a Net literally."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows: Held = {}
        self.before: Held = {}

    def write(self, batch: Any, leaving: Sequence[int]) -> list[RefusedRow]:
        return settle(self.target, batch, np.array(leaving, np.int64), self.apply, self.undo)

    def undo(self) -> None:
        self.rows = self.before

    def apply(self, net: Net) -> list[RefusedRow]:
        self.before = dict(self.rows)
        if net.truncate is not None:
            self.rows = {key: row for key, row in self.rows.items() if row[1] >= net.truncate}
        held = [self.rows.get(key) for key in zip(*(b.to_pylist() for b in net.moved.base), strict=True)] if net.moved.base else []
        found = np.array([row is not None for row in held], np.bool_)
        moved, lost = net.moved.filled(found, {c: pa.array([row and row[0][c] for row in held], pa.string()) for c in net.moved.missing})
        refused = lacking(self.target, net.moved, lost)
        touched = [key for keys in (net.deletes, net.marked) for key in zip(*(c.to_pylist() for c in keys.columns), strict=True)]
        touched += [self.key(rows, i) for rows in (moved, net.whole, net.partial) for i in range(len(rows))]
        assert len(touched) == len(set(touched))
        for i, key in enumerate(zip(*(c.to_pylist() for c in net.deletes.columns), strict=True)):
            if key in self.rows and self.rows[key][1] < net.deletes.position[i]:
                del self.rows[key]
        for i, key in enumerate(zip(*(c.to_pylist() for c in net.marked.columns), strict=True)):
            if key in self.rows and self.rows[key][1] < net.marked.position[i]:
                values, _, since = self.rows[key]
                self.rows[key] = (values, int(net.marked.position[i]), int(net.marked.time[i]) if since < 0 else since)
        for rows in (moved, net.whole):
            assert not rows.missing
            for i in range(len(rows)):
                self.put(rows, i, [column[i].as_py() for column in rows.columns])
        return refused + self.partial(net.partial)

    def partial(self, rows: Rows) -> list[RefusedRow]:
        assert rows.base is None
        lost = []
        for i in range(len(rows)):
            held = self.rows.get(self.key(rows, i))
            values = [column[i].as_py() for column in rows.columns]
            if held is not None and held[2] < 0:
                values = [held[0][c] if c in rows.missing and rows.missing[c][i] else value for c, value in enumerate(values)]
            elif not rows.recallable[i]:
                lost.append(i)
                continue
            self.put(rows, i, values)
        return lacking(self.target, rows, np.array(lost, np.int64))

    @staticmethod
    def key(rows: Rows, i: int) -> Key:
        return tuple(rows.columns[k][i].as_py() for k in KEYED.key_indices)

    def put(self, rows: Rows, i: int, values: list[str | None]) -> None:
        held = self.rows.get(self.key(rows, i))
        if held is None or held[1] < rows.position[i]:
            self.rows[self.key(rows, i)] = (values, int(rows.position[i]), -1 if rows.deleted is None else int(rows.deleted[i]))


@pytest.mark.parametrize("filtered", [False, True], ids=["everything", "filtered"])
@pytest.mark.parametrize("on_delete", ["delete", "soft", "ignore"])
@pytest.mark.parametrize("seed", range(40))
def test_random_changes_come_to_what_they_come_to_one_by_one(seed: int, on_delete: str, filtered: bool) -> None:
    chance = random.Random(seed)
    source = SourceTable(chance, keyed=True, filtered=filtered)
    on_truncate = chance.choice(("truncate", "ignore")) if on_delete == "delete" else "truncate"
    table = Table(Target("model", "model", KEYED, on_delete=on_delete, on_truncate=on_truncate, filtered=filtered))
    model = MirrorModel(True, on_delete, on_truncate)
    ordinal = 1
    for _ in range(12):
        changes = source.changes(chance.choice((1, 3, 10, 40)))
        leaving: list[int] = []
        if filtered:
            changes, leaving = routed(changes)
        for i, change in enumerate(changes):
            model.apply(change, i in leaving, ordinal + i)
        if changes:
            assert table.write(batch_of(KEYED, changes, ordinal), leaving) == []
        ordinal += len(changes)
        expected = {
            tuple(row[name] for name in KEYED.key): ([row[c.name] for c in COLUMNS], None if at is None else at * 1_000_000)
            for row, at in model.rows
        }
        assert {key: (values, None if since < 0 else since) for key, (values, _, since) in table.rows.items()} == expected


@pytest.mark.parametrize("filtered", [False, True], ids=["everything", "filtered"])
@pytest.mark.parametrize("on_delete", ["delete", "soft", "ignore"])
@pytest.mark.parametrize("seed", range(12))
def test_without_a_key_equal_rows_are_counted(seed: int, on_delete: str, filtered: bool) -> None:
    chance = random.Random(seed)
    source = SourceTable(chance, keyed=False)
    target = Target("model", "model", KEYLESS, on_delete=on_delete, filtered=filtered)
    model = MirrorModel(False, on_delete)
    live: Counter[str] = Counter()
    dead: Counter[str] = Counter()
    ordinal = 1
    for _ in range(12):
        changes = source.changes(chance.choice((1, 3, 10, 60)))
        leaving: list[int] = []
        if filtered:
            changes, leaving = routed(changes)
        for i, change in enumerate(changes):
            model.apply(change, i in leaving, ordinal + i)
        net = bag_effect(target, batch_of(KEYLESS, changes, ordinal), np.array(leaving, np.int64), row_hashes)
        ordinal += len(changes)
        assert not net.refused
        if net.truncate is not None:
            live.clear()
            dead.clear()
        for removals, to in ((net.removals, None), (net.marked, dead)):
            for h, count in zip(removals.row_hash.to_pylist(), removals.count, strict=True):
                taken = min(int(count), live[h])
                live[h] -= taken
                if to is not None:
                    to[h] += taken
        hashes = net.rows.row_hash.to_pylist() if net.rows.row_hash is not None else []
        since = net.rows.deleted if net.rows.deleted is not None else np.full(len(hashes), -1)
        assert hashes == row_hashes(net.rows.columns).to_pylist()
        for h, at in zip(hashes, since, strict=True):
            (live if at < 0 else dead)[h] += 1
        assert +live == _counted([row for row, at in model.rows if at is None])
        assert +dead == _counted([row for row, at in model.rows if at is not None])


def _counted(rows: Sequence[dict[str, str | None]]) -> Counter[str]:
    if not rows:
        return Counter()
    return Counter(row_hashes([pa.array([row[name] for row in rows], pa.string()) for name in KEYLESS.names]).to_pylist())


def _change(op: Op, new: str | None, old: str | None = None, absent: frozenset[str] = frozenset(), doc: str = "d") -> Change:
    def row(id_: str) -> dict[str, str | None]:
        return {"id": id_, "part": "x", "name": "n", "doc": doc, "notes": None, "region": "EU"}

    carried = KEYED.key if old is not None and old != new else ()
    return Change(op, None if new is None else row(new), None if old is None else row(old), absent, carried)


def _keyed_table(**options: Any) -> Table:
    return Table(Target("model", "model", KEYED, **options))


def test_keys_that_are_swapped_by_way_of_a_third_keep_their_unchanged_values() -> None:
    table = _keyed_table()
    table.write(batch_of(KEYED, [_change(Op.INSERT, "1", doc="one"), _change(Op.INSERT, "2", doc="two")], 1), [])
    absent = frozenset({"doc"})
    swap = [_change(Op.UPDATE, to, old, absent) for old, to in (("1", "3"), ("2", "1"), ("3", "2"))]
    assert table.write(batch_of(KEYED, swap, 3), []) == []
    assert {key[0]: row[0][3] for key, row in table.rows.items()} == {"1": "two", "2": "one"}


def test_a_row_that_the_sink_lacks_and_the_log_left_out_in_part_is_refused() -> None:
    table = _keyed_table()
    refused = table.write(batch_of(KEYED, [_change(Op.INSERT, "1"), _change(Op.UPDATE, "2", absent=frozenset({"doc"}))], 1), [])
    assert [(one.row, one.column) for one in refused] == [(1, "doc")]
    assert [key[0] for key in table.rows] == ["1"]


def test_a_row_that_a_filtered_sink_lacks_and_the_log_left_out_in_part_is_passed_over() -> None:
    table = _keyed_table(filtered=True)
    assert table.write(batch_of(KEYED, [_change(Op.UPDATE, "2", absent=frozenset({"doc"}))], 1), []) == []
    assert table.rows == {}


def test_a_value_of_an_earlier_row_of_the_same_key_never_fills_a_later_one() -> None:
    table = _keyed_table()
    table.write(batch_of(KEYED, [_change(Op.INSERT, "1", doc="of another")], 1), [])
    gone_and_back = [_change(Op.DELETE, None, "1"), _change(Op.UPDATE, "1", absent=frozenset({"doc"}))]
    refused = table.write(batch_of(KEYED, gone_and_back, 2), [])
    assert [one.row for one in refused] == [1]
    assert table.rows == {}


def test_a_row_whose_key_is_null_is_refused_and_the_row_that_it_was_stays() -> None:
    table = _keyed_table()
    table.write(batch_of(KEYED, [_change(Op.INSERT, "1"), _change(Op.INSERT, "2")], 1), [])
    to_null = Change(Op.UPDATE, {**dict.fromkeys(KEYED.names), "part": "x"}, {"id": "1", "part": "x"}, old_carried=KEYED.key)
    refused = table.write(batch_of(KEYED, [to_null, _change(Op.UPDATE, "2", doc="new")], 3), [])
    assert [(one.row, one.column) for one in refused] == [(0, "id")]
    assert sorted((key[0], row[0][3]) for key, row in table.rows.items()) == [("1", "d"), ("2", "new")]


def test_when_the_last_change_of_a_key_is_refused_the_one_before_it_counts() -> None:
    table = _keyed_table()
    applied = table.apply

    def picky(net: Net) -> list[RefusedRow]:
        refused = [
            RefusedRow(int(row), "doc", "too bad")
            for row, doc in zip(net.whole.rows, net.whole.columns[3], strict=True)
            if str(doc) == "bad"
        ]
        applied(net)
        return refused

    table.apply = picky  # type: ignore[method-assign]
    changes = [_change(Op.INSERT, "1"), _change(Op.UPDATE, "1", doc="good"), _change(Op.UPDATE, "1", doc="bad"), _change(Op.INSERT, "2")]
    refused = table.write(batch_of(KEYED, changes, 1), [])
    assert [one.row for one in refused] == [2]
    assert {key[0]: row[0][3] for key, row in table.rows.items()} == {"1": "good", "2": "d"}


def test_a_few_rows_and_many_have_the_same_hashes() -> None:
    values = [None, "", "N", "1:a", "é漢🙂", "0:", "a" * 1000]
    columns = [pa.array([values[(i * step) % 7] for i in range(400)], pa.string()) for step in (1, 2, 3)]
    many = row_hashes(columns)
    few = [row_hashes([column.slice(i, 1) for column in columns])[0].as_py() for i in range(400)]
    assert many.to_pylist() == few
    assert len(set(few)) == len(set(zip(*(column.to_pylist() for column in columns), strict=True)))
