"""The net effect of a batch on a mirror table without a key, where equal rows are counted: a delete takes exactly one of them.

A row is known by `_sluice_row`, the hash of all its values. An update takes one old row and brings one new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from journal.batch import ChangeBatch, Longs, Mask, Op
from sinks.base import RefusedRow, Target
from sinks.lineage import codes, completed
from sinks.rows import Rows, picked

HashRows = Callable[[Sequence[pa.StringArray]], pa.StringArray]


@dataclass(frozen=True, slots=True, eq=False)
class Removals:
    """Rows to take from the target, m kinds of them.

    row_hash  string array[m], all different
    count     int64[m]: so many live rows with this hash go, or as many as there are; only such as are older than `position`
    position  int64[m]; time int64[m], microseconds since 1970 UTC: when a soft delete happened
    """

    row_hash: pa.StringArray
    count: Longs
    position: Longs
    time: Longs

    def __len__(self) -> int:
        return len(self.count)


@dataclass(frozen=True, slots=True, eq=False)
class BagNet:
    """What a batch comes to, for a table without a key; applied in this order.

    truncate  every row of the target that is older than this position goes; None: none does
    removals  rows that go
    marked    rows that are softly deleted
    rows      rows to insert, whole, with their hash; `deleted` tells those that are softly deleted at once
    refused   rows that cannot be taken
    """

    truncate: int | None
    removals: Removals
    marked: Removals
    rows: Rows
    refused: Sequence[RefusedRow]


def bag_effect(target: Target, batch: ChangeBatch, leaving: Longs, hash_rows: HashRows) -> BagNet:
    """Works out what a batch comes to on a mirror table without a key. `leaving` are the rows that the filter turned away."""
    batch = completed(batch)
    counted = batch.op != Op.TRUNCATE
    away = np.zeros(len(batch), np.bool_)
    away[leaving] = True
    truncate = None
    emptied = np.flatnonzero(~counted)
    if len(emptied) and target.on_truncate == "truncate":
        truncate = int(batch.ordinal[emptied[-1]])
        counted[: emptied[-1]] = False
    refused = incomplete(batch, counted)
    counted[[one.row for one in refused]] = False
    if target.on_delete == "ignore":
        counted &= (batch.op != Op.DELETE) | away
    comes = np.flatnonzero(counted & ~away & (batch.op != Op.DELETE))
    gone = np.flatnonzero(counted & (batch.op == Op.DELETE))
    changed = np.flatnonzero(counted & (batch.op == Op.UPDATE))
    if not len(gone) and not len(changed):
        rows = _brought(batch, comes, hash_rows(picked(batch.columns, comes)))
        return BagNet(truncate, _no_removals(), _no_removals(), rows, refused)
    hashes = hash_rows(_values(batch, np.concatenate([comes, gone]), changed))
    row = np.concatenate([comes, gone, changed])
    walk = _walk(codes([hashes]), row, len(comes))
    softly = (away[row] | (batch.op[row] == Op.DELETE)) & (target.on_delete == "soft")
    # of the rows that are taken as many are marked as deletes took; a row that an update took lives on as the new one
    marks = np.bincount(walk.code[len(comes) :], softly[len(comes) :], len(walk.count)).astype(np.int64)
    code = walk.code[: len(comes)]
    marked = ~walk.stays & (_rank(code, ~walk.stays) < marks[code])
    rows = _brought(batch, comes, hashes.slice(0, len(comes)))
    if marked.any():
        rows = replace(rows, deleted=np.where(marked, batch.time[walk.taken[code]], -1))
    marks = np.minimum(walk.count, marks - np.bincount(code[marked], minlength=len(marks)))
    return BagNet(
        truncate,
        _removals(batch, hashes, walk, walk.count - marks),
        _removals(batch, hashes, walk, marks),
        rows.take(walk.stays | marked),
        refused,
    )


def _rank(code: Longs, of: Mask) -> Longs:
    """int64[n]: how many of the marked places before this one have the same code."""
    rank = np.zeros(len(code), np.int64)
    order = np.flatnonzero(of)[np.argsort(code[of], kind="stable")]
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return rank


def _no_removals() -> Removals:
    none = np.empty(0, np.int64)
    return Removals(pa.array([], pa.string()), none, none, none)


def _removals(batch: ChangeBatch, hashes: pa.StringArray, walk: _Walk, count: Longs) -> Removals:
    some = np.flatnonzero(count > 0)
    taken = walk.taken[some]
    return Removals(hashes.take(pa.array(walk.example[some])), count[some], batch.ordinal[taken], batch.time[taken])


def incomplete(batch: ChangeBatch, counted: Mask) -> list[RefusedRow]:
    """Rows of which the log did not carry all that identifies them."""
    refused: dict[int, RefusedRow] = {}
    bare = counted & (batch.op == Op.UPDATE)
    if batch.has_old is not None:
        bare &= ~batch.has_old
    for row in np.flatnonzero(bare):
        refused[int(row)] = RefusedRow(int(row), None, "the table has no key, and the log did not carry the old row")
    for c in batch.presence:
        name = batch.schema.names[c]
        for row in np.flatnonzero(batch.absent(c) & counted):
            refused.setdefault(int(row), RefusedRow(int(row), name, f"the table has no key, and the log left out the column {name!r}"))
    return list(refused.values())


def _values(batch: ChangeBatch, new: Longs, old: Longs) -> tuple[pa.StringArray, ...]:
    """The values of the rows `new`, and behind them the old values of the rows `old`."""
    return tuple(
        pa.concat_arrays([column.take(pa.array(new)), batch.old.get(c, column).take(pa.array(old))])
        for c, column in enumerate(batch.columns)
    )


def _brought(batch: ChangeBatch, rows: Longs, hashes: pa.StringArray) -> Rows:
    return Rows(rows, picked(batch.columns, rows), batch.ordinal[rows], batch.time[rows], row_hash=hashes)


@dataclass(frozen=True, slots=True, eq=False)
class _Walk:
    """code int64[events]: which kind of row. For each kind: `count` to remove from the target, `taken` the row of the batch that took the
    last one (-1: none), `example` an event. `stays` bool[brought]: the rows that the batch brings and doesn't take away again.
    """

    code: Longs
    count: Longs
    taken: Longs
    example: Longs
    stays: Mask


def _walk(code: Longs, row: Longs, brought: int) -> _Walk:
    """Follows how many rows of each kind there are; the first `brought` events bring one, the others take one, if there is one.

    A target that holds c rows of a kind before holds max(c + a, b) after any sequence of such events, where a is their sum and b the
    greatest sum of what comes after one that takes. So the last s = max(a, b) that come stay, and s - a rows go from the target.
    """
    kinds = int(code.max(initial=-1)) + 1
    events = np.arange(len(code))
    brings = events < brought
    order = np.lexsort((2 * row + brings, code))
    kind, step = code[order], np.where(brings[order], 1, -1)
    sums = np.cumsum(step)
    total = np.zeros(kinds, np.int64)
    np.add.at(total, code, np.where(brings, 1, -1))
    after = np.cumsum(total)[kind] - sums
    takes = step < 0
    stay = total.copy()
    np.maximum.at(stay, kind[takes], after[takes])
    taken = np.full(kinds, -1, np.int64)
    np.maximum.at(taken, code[~brings], row[~brings])
    coming = np.cumsum(~takes)
    ends = np.cumsum(np.bincount(code[brings], minlength=kinds))[kind] - coming  # rows of the kind that come later
    stays = np.zeros(len(code), np.bool_)
    stays[order] = ~takes & (ends < stay[kind])
    example = np.zeros(kinds, np.int64)
    example[code] = events
    return _Walk(code, stay - total, taken, example, stays[:brought])
