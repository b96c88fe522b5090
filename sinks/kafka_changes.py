"""Which messages a batch becomes: one for each change, in order, and one more for a key that a row has left. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from journal.batch import Bytes, ChangeBatch, Longs, Mask, Op, Presence
from sinks.base import RefusedRow, Target
from sinks.lineage import Touch, completed, trace
from sinks.rows import picked

LACKING = "the log left out the unchanged column {column!r}, and the source had the row no longer when it was asked for it"
NO_KEY = "the dataset has no key, so that no message can say which row {what}"
_WHAT = {Op.UPDATE: "was changed", Op.DELETE: "was deleted"}


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """m messages, in the order of the changes.

    rows     int64[m], the row of the batch
    put      bool[m]: the message has a value; others say that there is no row with the key any more
    keys     one string array[m] for each key column; none where rows have no key
    columns  one string array[p] for each column of the schema: the values of the p messages that have one
    refused  rows that cannot be told
    """

    rows: Longs
    put: Mask
    keys: tuple[pa.StringArray, ...]
    columns: tuple[pa.StringArray, ...]
    refused: Sequence[RefusedRow]


def changes_of(target: Target, batch: ChangeBatch, leaving: Longs) -> Changes:
    """Works out the messages of a batch without truncates. `leaving` are the rows that the filter turned away.

    A value that the log left out is that of the row's change before in the batch, else what was read again from the source.
    """
    if not target.schema.key:
        return _without_key(target, batch, leaving)
    batch = completed(batch)
    lineage = trace(batch, leaving)
    refused = _unkeyed(batch, lineage.code[: lineage.n], leaving)
    told = np.ones(len(batch), np.bool_)
    if target.on_delete == "ignore":
        told = lineage.touch[: lineage.n] != Touch.GONE
    puts = np.flatnonzero(lineage.touch[: lineage.n] == Touch.PUT)
    sources: dict[int, Longs] = {}
    for c in batch.presence:
        if c in batch.schema.key_indices:
            continue
        source, lost, again = lineage.continued(batch.presence[c], puts)
        sources[c] = source
        name = batch.schema.names[c]
        for row in puts[lost & ~again]:
            told[row] = False
            if not target.filtered:  # behind a filter the row's own later change follows
                refused.setdefault(int(row), RefusedRow(int(row), name, LACKING.format(column=name)))
    told[[*refused]] = False
    entries = _entries(lineage.rows, lineage.touch, lineage.code, lineage.order, told)
    put = lineage.touch[entries] == Touch.PUT
    rows = lineage.rows[entries]
    written = rows[put]
    place = np.searchsorted(puts, written)
    columns = [picked([column], sources[c][place] if c in sources else written)[0] for c, column in enumerate(batch.columns)]
    return Changes(rows, put, picked(lineage.keys, entries), tuple(columns), [refused[row] for row in sorted(refused)])


def _entries(rows: Longs, touch: Bytes, code: Longs, order: Longs, told: Mask) -> Longs:
    """Touches that become messages, in order: all that are told and have a key. A row that leaves the filter under a new key leaves
    only its old one."""
    kept = told[rows] & (code >= 0)
    n = len(told)
    kept[rows[n:][touch[rows[n:]] == Touch.AWAY]] = False
    entries = np.flatnonzero(kept)
    return entries if len(rows) == n else entries[np.argsort(order[entries], kind="stable")]


def _unkeyed(batch: ChangeBatch, code: Longs, leaving: Longs) -> dict[int, RefusedRow]:
    """Rows that cannot be placed: a part of their key is null, or the log left it out."""
    refused: dict[int, RefusedRow] = {}
    away = np.zeros(len(batch), np.bool_)
    away[leaving] = True
    doubtful = (code < 0) & ~away
    if not doubtful.any():
        return refused
    for k in batch.schema.key_indices:
        name = batch.schema.names[k]
        absent = batch.absent(k) & doubtful
        null = np.asarray(batch.columns[k].is_null()) & doubtful & ~absent & (batch.op != Op.DELETE)
        for row in np.flatnonzero(absent):
            refused.setdefault(int(row), RefusedRow(int(row), name, f"the log left out the key column {name!r}"))
        for row in np.flatnonzero(null):
            refused.setdefault(int(row), RefusedRow(int(row), name, f"the key column {name!r} is null"))
    return refused


def _without_key(target: Target, batch: ChangeBatch, leaving: Longs) -> Changes:
    """Of rows without identity only their coming can be told."""
    batch = completed(batch)
    put = batch.op != Op.DELETE
    put[leaving] = False
    refused: dict[int, RefusedRow] = {}
    if target.on_delete != "ignore":
        untold = np.isin(batch.op, (Op.UPDATE, Op.DELETE))
        untold[leaving] = False
        put &= ~untold
        for row in np.flatnonzero(untold):
            refused[int(row)] = RefusedRow(int(row), None, NO_KEY.format(what=_WHAT[Op(int(batch.op[row]))]))
    for c in batch.presence:
        name = batch.schema.names[c]
        for row in np.flatnonzero((batch.presence[c] == Presence.ABSENT) & put):
            put[row] = False
            refused.setdefault(int(row), RefusedRow(int(row), name, LACKING.format(column=name)))
    rows = np.flatnonzero(put)
    return Changes(rows, np.ones(len(rows), np.bool_), (), picked(batch.columns, rows), [refused[row] for row in sorted(refused)])
