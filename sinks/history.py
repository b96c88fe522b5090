"""What a batch adds to a history table: a row for each change, with unchanged values filled in.

Beside the dataset's columns a history table has `_op`, `_sluice_old_key` (JSON, of a change of key), `_sluice_position` and
`_sluice_committed_at`; one of a dataset without a key also has `_sluice_row`, and its updates name the old row's hash as
`{"_sluice_row": …}` in `_sluice_old_key`, so that the rows that are live can be counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Bytes, ChangeBatch, Longs, Mask, Op, Presence
from journal.types import parse_type
from sinks.base import RefusedRow, Target
from sinks.lineage import Lineage, Touch, codes, completed, trace
from sinks.mirror import keeps_gone_rows, lacking
from sinks.multiset import HashRows, incomplete
from sinks.row_hash import ROW
from sinks.rows import Rows, picked

OP = "_op"
OLD_KEY = "_sluice_old_key"
COMMITTED_AT = "_sluice_committed_at"

CountLive = Callable[[pa.StringArray], Longs]
NUMBERS = ("smallint", "integer", "bigint", "oid")


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Rows to append to a history table, m of them, in the order of the changes.

    rows     Their `missing` values are those of the newest older row of the table with the key `base` (every row has a base where any
             value is missing or any row is `if_held`), if that one is live: not a delete, and no truncate came after it
    op       string array[m], the words of Op
    old_key  string array[m], JSON or null
    if_held  bool[m]: deletes that count only if the table holds a live row of the key `base`
    refused  rows that cannot be taken
    """

    rows: Rows
    op: pa.StringArray
    old_key: pa.StringArray
    if_held: Mask
    refused: Sequence[RefusedRow]

    def take(self, rows: Longs | Mask) -> Log:
        """The given rows (indices, or a mask), in that order."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        chosen = pa.array(index)
        return replace(
            self, rows=self.rows.take(index), op=self.op.take(chosen), old_key=self.old_key.take(chosen), if_held=self.if_held[index]
        )


def log_of(target: Target, batch: ChangeBatch, leaving: Longs) -> Log:
    """Works out what a batch adds to the history of a dataset with a key. `leaving` are the rows that the filter turned away."""
    batch = completed(batch, trust_recalled=keeps_gone_rows(target))
    away = np.zeros(len(batch), np.bool_)
    away[leaving] = True
    refused = _without_key(batch, away)
    traced = trace(batch, leaving)
    lineage, emptied = _by_truncates(traced, batch.op)
    held, known = _held(target, *((traced, np.zeros_like(emptied)) if target.on_truncate == "ignore" else (lineage, emptied)))
    goes = away | (batch.op == Op.DELETE)
    kept = _told(target, batch, away)
    if target.filtered:
        kept &= ~goes | held | ~known
    kept[[one.row for one in refused]] = False
    index = np.flatnonzero(kept)
    rows, orphan = _rows(batch, lineage, index, away, goes, emptied)
    cut = orphan & rows.partial & ~rows.recallable
    refused += lacking(target, rows, np.flatnonzero(cut))
    if_held = goes[index] & ~known[index] if target.filtered else np.zeros(len(index), np.bool_)
    log = Log(rows, _words(batch.op, away, index), _old_keys(batch, lineage, index, goes), if_held, refused)
    return log.take(~cut) if cut.any() else log


def bag_log_of(target: Target, batch: ChangeBatch, leaving: Longs, hash_rows: HashRows, count_live: CountLive) -> Log:
    """The same for a dataset without a key. `count_live` tells how many live rows of each hash the table holds."""
    batch = completed(batch)
    away = np.zeros(len(batch), np.bool_)
    away[leaving] = True
    refused = incomplete(batch, batch.op != Op.TRUNCATE)
    sound = np.ones(len(batch), np.bool_)
    sound[[one.row for one in refused]] = False
    goes = away | (batch.op == Op.DELETE)
    columns = _leaving_values(batch, away & (batch.op == Op.UPDATE))
    new = hash_rows(columns)
    changed = np.flatnonzero(sound & (batch.op == Op.UPDATE))
    old = hash_rows(picked([batch.old.get(c, column) for c, column in enumerate(batch.columns)], changed))
    kept = _told(target, batch, away) & sound & ~(away & (batch.op != Op.UPDATE))
    taken = np.ones(len(batch), np.bool_)
    if target.filtered:
        taken = _taken(batch, new, old, changed, goes, count_live)
        kept &= ~goes | taken
    index = np.flatnonzero(kept)
    old_key = np.full(len(batch), None, object)
    for row, was in zip(changed, old.to_pylist(), strict=True):
        old_key[row] = json.dumps({ROW: was}) if taken[row] and not goes[row] else None
    empty = batch.op[index] == Op.TRUNCATE
    hashes = pc.if_else(pa.array(empty), None, new.take(pa.array(index)))
    rows = Rows(index, picked(columns, np.where(empty, -1, index)), batch.ordinal[index], batch.time[index], row_hash=hashes)
    return Log(rows, _words(batch.op, away, index), pa.array(old_key[index], pa.string()), np.zeros(len(index), np.bool_), refused)


def _told(target: Target, batch: ChangeBatch, away: Mask) -> Mask:
    """bool[n]: changes that this history tells at all. What the filter takes away is told even where deletes are not."""
    told = np.ones(len(batch), np.bool_)
    if target.on_delete == "ignore":
        told &= (batch.op != Op.DELETE) | away
    if target.on_truncate == "ignore":
        told &= batch.op != Op.TRUNCATE
    return told


def _without_key(batch: ChangeBatch, away: Mask) -> list[RefusedRow]:
    refused: dict[int, RefusedRow] = {}
    for k in batch.schema.key_indices:
        name = batch.schema.names[k]
        for row in np.flatnonzero(batch.absent(k) & (batch.op != Op.TRUNCATE) & ~away):
            refused.setdefault(int(row), RefusedRow(int(row), name, f"the log left out the key column {name!r}"))
    return list(refused.values())


def _by_truncates(lineage: Lineage, op: Bytes) -> tuple[Lineage, Mask]:
    """The lineage with keys told apart before and after each truncate; and bool[n], rows before which the batch has a truncate."""
    passed = np.cumsum(op == Op.TRUNCATE)
    if not passed.any():
        return lineage, np.zeros(lineage.n, np.bool_)
    code = np.where(lineage.code < 0, -1, lineage.code * (int(passed[-1]) + 1) + passed[lineage.rows])
    known = code >= 0
    code[known] = codes([pa.array(code[known])])
    return replace(lineage, code=code), passed > 0


def _held(target: Target, lineage: Lineage, emptied: Mask) -> tuple[Mask, Mask]:
    """bool[n]: whether the table shows the row as live just before the change, and whether the batch itself knows."""
    # a row that leaves the filter under a new key tells nothing of that key, and an ignored delete tells nothing at all
    silent = lineage.touch == Touch.AWAY
    silent[: lineage.n] &= lineage.origin != np.arange(lineage.n)
    if target.on_delete == "ignore":
        silent |= lineage.touch == Touch.GONE
    before = lineage.before
    while (passed := (before >= 0) & silent[before]).any():
        before = np.where(passed, before[before], before)
    before = before[lineage.origin]
    return (before >= 0) & (lineage.touch[before] == Touch.PUT), (before >= 0) | emptied


def _rows(batch: ChangeBatch, lineage: Lineage, index: Longs, away: Mask, goes: Mask, emptied: Mask) -> tuple[Rows, Mask]:
    """The rows that the changes at `index` become, and which of them continue no row of the target."""
    empty = batch.op[index] == Op.TRUNCATE
    key = dict(zip(batch.schema.key_indices, lineage.keys, strict=True))
    missing: dict[int, Mask] = {}
    recalled: dict[int, Mask] = {}
    columns: list[pa.StringArray] = []
    gone = goes[index]
    for c, column in enumerate(batch.columns):
        source = np.where(empty, -1, index)
        if c in key:
            columns += picked([key[c]], np.where(away[index], lineage.origin[index], source))
            continue
        source = np.where(away[index], -1, source)
        if c in batch.presence:
            found, lost, again = lineage.continued(batch.presence[c], index)
            lost &= ~gone & ~empty
            own = batch.presence[c][index] == Presence.PRESENT
            source = np.where(gone, np.where(own, source, -1), np.where(empty, -1, found))
            if lost.any():
                missing[c], recalled[c] = lost, again & lost
        columns += picked([column], source)
    root = lineage.root[index]
    base = picked(lineage.keys, lineage.origin[np.where(gone, index, root)])
    rows = Rows(index, tuple(columns), batch.ordinal[index], batch.time[index], None, missing, recalled, base)
    return rows, lineage.orphan[root] | emptied[root]


def _words(op: Bytes, away: Mask, index: Longs) -> pa.StringArray:
    words = pa.array([code.word for code in Op])
    place = np.searchsorted(sorted(Op), np.where(away, Op.DELETE, op)[index])
    return words.take(pa.array(np.argsort(list(Op))[place]))


def _old_keys(batch: ChangeBatch, lineage: Lineage, index: Longs, goes: Mask) -> pa.StringArray:
    """JSON of the keys that rows left; whole numbers as numbers, all else as text."""
    left = lineage.rows[lineage.n :]
    told = np.isin(left, index) & ~goes[left]
    if not told.any():
        return pa.nulls(len(index), pa.string())
    values = picked(lineage.keys, np.flatnonzero(told) + lineage.n)
    numbers = [parse_type(batch.schema.types[name]).base in NUMBERS for name in batch.schema.key]
    texts = np.full(len(batch), None, object)
    for row, key in zip(left[told], zip(*(column.to_pylist() for column in values), strict=True), strict=True):
        shown = [int(value) if number and value is not None else value for number, value in zip(numbers, key, strict=True)]
        texts[row] = json.dumps(dict(zip(batch.schema.key, shown, strict=True)), ensure_ascii=False)
    return pa.array(texts[index], pa.string())


def _leaving_values(batch: ChangeBatch, away: Mask) -> tuple[pa.StringArray, ...]:
    """The values of each row; of rows that the filter turned away the old ones."""
    if not away.any():
        return batch.columns
    chosen = pa.array(away)
    return tuple(pc.if_else(chosen, batch.old[c], column) if c in batch.old else column for c, column in enumerate(batch.columns))


def _taken(batch: ChangeBatch, new: pa.StringArray, old: pa.StringArray, changed: Longs, goes: Mask, count_live: CountLive) -> Mask:
    """bool[n]: deletes and updates for whose old row the table holds one when they come."""
    n = len(batch)
    brings = np.flatnonzero(~goes & (batch.op != Op.TRUNCATE))
    takes = np.concatenate([np.flatnonzero(goes & (batch.op == Op.DELETE)), changed])
    hashes = pa.concat_arrays([new.take(pa.array(np.concatenate([brings, takes[: len(takes) - len(changed)]]))), old])
    row = np.concatenate([brings, takes])
    step = np.where(np.arange(len(row)) < len(brings), 1, -1)
    passed = np.cumsum(batch.op == Op.TRUNCATE)[row]
    kind = codes([pc.binary_join_element_wise(hashes, pa.array(passed).cast(pa.string()), "/")])
    order = np.lexsort((2 * row + (step > 0), kind))
    example = np.zeros(int(kind.max(initial=-1)) + 1, np.int64)
    example[kind] = np.arange(len(kind))
    start = count_live(hashes.take(pa.array(example))) * (passed[example] == 0)
    kind, step, row = kind[order], step[order], row[order]
    sums = np.cumsum(step)
    first = np.flatnonzero(np.diff(kind, prepend=-1))
    level = sums - np.repeat(sums[first] - step[first], np.diff(first, append=len(kind))) + start[kind]
    # how far below zero it would have come before each event; kinds are kept apart by a distance that none can cover
    apart = kind * (2 * n + 4)
    lowest = np.minimum.accumulate(np.minimum(level, 0) - apart)
    until = np.minimum(np.concatenate([[0], lowest[:-1]]) + apart, 0)
    until[first] = 0
    taken = np.zeros(n, np.bool_)
    taken[row[(step < 0) & (level >= until)]] = True
    return taken
