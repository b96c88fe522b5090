"""The net effect of a batch on a table that mirrors its source: which keys go, which rows are written, and what must be kept of old ones.

A batch may touch a key many times. What counts is how it ends, and whose values a row continues that the log left out as unchanged.
Every function is pure. A sink applies a `Net` in this order: `truncate`; reading what `moved` continues (it is whole then); `deletes` and
`marked`; `whole` and the filled `moved`; `partial`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from journal.batch import ChangeBatch, Longs, Mask, Op
from sinks.base import RefusedRow, Target
from sinks.lineage import Lineage, Touch, completed, trace
from sinks.rows import Keys, Rows, picked

LACKING = "the sink does not hold the row whose unchanged column {column!r} the log left out"


@dataclass(frozen=True, slots=True, eq=False)
class Net:
    """What a batch comes to, for a table with a key. The parts name different keys.

    truncate  every row of the target that is older than this position goes, before all else; None: none does
    moved     rows that continue the target's row of another key (`base`), which this batch removes or overwrites: they must be filled
              (Rows.filled) from what the target held before any of this was written
    deletes   keys whose row goes
    marked    keys whose row, if there is one, is softly deleted since `time`, unless it already is
    whole     rows to insert, or to put over what is there
    partial   rows of which the target keeps the `missing` columns. Where the target lacks the row it is written if `recallable`, else
              it is lacking (see there). With on_delete: soft a row that is softly deleted in the target is not one to continue.
    refused   rows that no target can take
    dropped   rows (indices of the batch) that cannot be taken, the refused ones among them
    squashed  whether a row stands for others too: when one is refused the rest must be worked out again without it (see `settle`)
    """

    truncate: int | None
    moved: Rows
    deletes: Keys
    marked: Keys
    whole: Rows
    partial: Rows
    refused: Sequence[RefusedRow]
    dropped: Longs
    squashed: bool


def settle(
    target: Target, batch: ChangeBatch, leaving: Longs, apply: Callable[[Net], Sequence[RefusedRow]], undo: Callable[[], None]
) -> list[RefusedRow]:
    """Applies the net effect of a batch, as if rows that are refused had never been in it; returns those.

    `apply` writes a Net, all but the rows that it returns; `undo` takes back what the last `apply` wrote.
    """
    index = np.arange(len(batch))
    refused: list[RefusedRow] = []
    while True:
        net = net_effect(target, batch, leaving)
        found = list(net.refused)
        applied = not (net.squashed and len(net.dropped))
        if applied:
            found += apply(net)
        refused += [replace(one, row=int(index[one.row])) for one in found]
        lost = np.union1d(net.dropped, np.array([one.row for one in found], np.int64))
        if not (net.squashed and len(lost)):
            return refused
        if applied:
            undo()
        kept = np.ones(len(batch), np.bool_)
        kept[lost] = False
        away = np.zeros(len(batch), np.bool_)
        away[leaving] = True
        batch, leaving, index = batch.take(kept), np.flatnonzero(away[kept]), index[kept]


def lacking(target: Target, rows: Rows, at: Longs) -> list[RefusedRow]:
    """Those of the rows at `at`, which the target turned out to lack, that have to be refused.

    Behind a filter nobody is at fault: the source's row was gone when it was asked for, and its own later change follows.
    """
    if target.filtered:
        return []
    refused = []
    for i in at:
        column = next(c for c, mask in rows.missing.items() if mask[i] and not (c in rows.recalled and rows.recalled[c][i]))
        name = target.schema.names[column]
        if rows.deleted is None or rows.deleted[i] < 0:
            refused.append(RefusedRow(int(rows.rows[i]), name, LACKING.format(column=name)))
    return refused


def net_effect(target: Target, batch: ChangeBatch, leaving: Longs) -> Net:
    """Works out what a batch comes to on a mirror table with a key. `leaving` are the rows that the filter turned away."""
    if _each_for_itself(batch, leaving):
        whole = Rows(np.arange(len(batch)), batch.columns, batch.ordinal, batch.time)
        none = whole.none()
        no_keys = Keys(none.rows, (), none.rows, none.rows)
        return Net(None, none, no_keys, no_keys, whole, none, (), none.rows, squashed=False)
    kept, away, truncate = _counted(target, batch, leaving)
    batch = completed(batch, trust_recalled=keeps_gone_rows(target))
    refused = _unkeyed(batch, kept, away)
    kept[[one.row for one in refused]] = False
    index = np.flatnonzero(kept)
    batch = batch.take(kept)
    lineage = trace(batch, np.flatnonzero(away[kept]))
    last = lineage.last
    soft = _softly(target, lineage, away[kept])
    shown, since = _shown(lineage, last, soft, batch.time)
    put = shown >= 0
    rows, orphan = _resolved(batch, lineage, last[put], shown[put], since[put] if soft.any() else None)
    partial = rows.partial
    cut = orphan & partial & ~rows.recallable
    base = lineage.origin[lineage.root[shown[put]]]
    moved = partial & ~orphan & (lineage.code[base] != lineage.code[last[put]])
    rows = replace(rows, rows=index[rows.rows], base=picked(lineage.keys, base) if moved.any() else None)
    refused += lacking(target, rows, np.flatnonzero(cut))
    return Net(
        truncate,
        rows.take(moved),
        _keys(batch, lineage, index, last[shown == _NOTHING]),
        replace(_keys(batch, lineage, index, last[shown == _TARGETS]), time=since[shown == _TARGETS]),
        rows.take(~partial | (orphan & ~cut)).forgetting(),
        replace(rows.take(partial & ~orphan & ~moved), base=None),
        refused,
        np.union1d(rows.rows[cut], np.array([one.row for one in refused], np.int64)),
        lineage.repeats or len(lineage.rows) > lineage.n,
    )


def _each_for_itself(batch: ChangeBatch, leaving: Longs) -> bool:
    """Whether every row is whole, has a key, and is the only one with it: most batches are like that."""
    if len(leaving) or batch.presence or not ((batch.op != Op.DELETE) & (batch.op != Op.TRUNCATE)).all():
        return False
    lineage = trace(batch, leaving)
    return not lineage.repeats and lineage.n == len(lineage.rows) and int(lineage.code.min(initial=0)) >= 0


def keeps_gone_rows(target: Target) -> bool:
    """Whether the row that the target holds under a key can be another one, long gone at the source: what was read again is surer."""
    return "ignore" in (target.on_delete, target.on_truncate)


def _counted(target: Target, batch: ChangeBatch, leaving: Longs) -> tuple[Mask, Mask, int | None]:
    """Rows that count (the last truncate takes what is before it), rows that leave, and the position of the truncate."""
    kept = batch.op != Op.TRUNCATE
    away = np.zeros(len(batch), np.bool_)
    away[leaving] = True
    truncate = None
    emptied = np.flatnonzero(~kept)
    if len(emptied) and target.on_truncate == "truncate":
        kept[: emptied[-1]] = False
        truncate = int(batch.ordinal[emptied[-1]])
    if target.on_delete == "ignore":
        kept &= (batch.op != Op.DELETE) | away
    return kept, away, truncate


def _unkeyed(batch: ChangeBatch, kept: Mask, away: Mask) -> list[RefusedRow]:
    """Rows that can't be placed: a part of their key is null, or the log left it out."""
    refused: dict[int, RefusedRow] = {}
    for k in batch.schema.key_indices:
        name = batch.schema.names[k]
        absent = batch.absent(k) & kept & ~away
        for row in np.flatnonzero(absent):
            refused[int(row)] = RefusedRow(int(row), name, f"the log left out the key column {name!r}")
        if batch.columns[k].null_count:
            null = np.asarray(batch.columns[k].is_null()) & kept & ~away & ~absent & (batch.op != Op.DELETE)
            for row in np.flatnonzero(null):
                refused.setdefault(int(row), RefusedRow(int(row), name, f"the key column {name!r} is null"))
    return list(refused.values())


def _softly(target: Target, lineage: Lineage, away: Mask) -> Mask:
    """bool[m]: entries that mark a row as deleted instead of removing it. One that took another key is removed: it lives on there."""
    if target.on_delete != "soft":
        return np.zeros(len(lineage.touch), np.bool_)
    soft: Mask = np.isin(lineage.touch, (Touch.AWAY, Touch.GONE)) | (lineage.touch == Touch.LEFT) & away[lineage.rows]
    return soft


_TARGETS = -1  # the row that the target has, whatever it holds
_NOTHING = -2


def _shown(lineage: Lineage, last: Longs, soft: Mask, time: Longs) -> tuple[Longs, Longs]:
    """For each last entry the row (of the batch, or _TARGETS or _NOTHING) that the target shows in the end, and since when it is softly
    deleted (-1: it lives)."""
    shown = np.where(lineage.touch[last] == Touch.PUT, last, _NOTHING)
    since = np.full(len(last), -1, np.int64)
    marked = soft[last]
    if marked.any():
        before = lineage.before
        first = np.where((before >= 0) & soft & soft[before], before, np.arange(len(before)))
        while (first[first] != first).any():
            first = first[first]
        opened = first[last[marked]]
        found = before[opened]
        shown[marked] = np.where(found < 0, _TARGETS, np.where(lineage.touch[found] == Touch.PUT, found, _NOTHING))
        since[marked] = time[lineage.rows[opened]]
    return shown, since


def _keys(batch: ChangeBatch, lineage: Lineage, index: Longs, entries: Longs) -> Keys:
    rows = lineage.rows[entries]
    return Keys(index[rows], picked(lineage.keys, entries), batch.ordinal[rows], batch.time[rows])


def _resolved(batch: ChangeBatch, lineage: Lineage, entries: Longs, shown: Longs, deleted: Longs | None) -> tuple[Rows, Mask]:
    """The rows that the entries end in, with what the batch knows of their values; and which of them continue no row of the target."""
    key = dict(zip(batch.schema.key_indices, lineage.keys, strict=True))
    missing: dict[int, Mask] = {}
    recalled: dict[int, Mask] = {}
    columns: list[pa.StringArray] = []
    for c, column in enumerate(batch.columns):
        source = shown
        if c in key:
            columns += picked([key[c]], entries)
            continue
        if c in batch.presence:
            source, lost, again = lineage.continued(batch.presence[c], shown)
            if lost.any():
                missing[c], recalled[c] = lost, again
        columns += picked([column], source)
    rows = lineage.rows[entries]
    found = Rows(rows, tuple(columns), batch.ordinal[rows], batch.time[rows], deleted, missing, recalled)
    return found, lineage.orphan[lineage.root[shown]]
