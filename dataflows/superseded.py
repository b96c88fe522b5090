"""Of changes that come late, what must still happen: a newer change of a key that has passed since has the last word on that key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, Mask, Op, Presence
from journal.grouping import in_order
from journal.joining import join
from journal.sitting import key_texts
from sinks.lineage import Touch, trace

Newest = Callable[[str, Sequence[str]], Mapping[str, int]]
"""Of a dataset and keys (see key_text): the ordinals of the newest changes that have passed since a key sits in quarantine; 0: none has."""

_NOTHING = np.zeros(0, np.int64)


def still_new(batch: ChangeBatch, newest: Newest) -> tuple[ChangeBatch, set[int]]:
    """What is left of a batch, and the ordinals of what has been overtaken.

    Of a change that takes another key each key counts on its own: where only the new one has been overtaken the row of the old one has to
    go all the same, where only the old one has the row comes under its new key.
    """
    if not batch.schema.key or not len(batch):
        return batch, set()
    own, left, moved = _overtaken(batch, newest)
    gone = own & (~moved | left)
    only_left = own & moved & ~left
    if left.any():
        batch = _without_old(batch, left & moved & ~own)
    parts = [batch.take(~(gone | only_left))]
    if only_left.any():
        parts.append(_deletes(batch.take(only_left)))
    return in_order(join(parts)) if len(parts) > 1 else parts[0], set(batch.ordinal[gone].tolist())


def _overtaken(batch: ChangeBatch, newest: Newest) -> tuple[Mask, Mask, Mask]:
    """bool[n] each: rows whose key has a newer change; whose former key has one; and that had another key before."""
    lineage = trace(batch, _NOTHING)
    own, left, moved = (np.zeros(len(batch), np.bool_) for _ in range(3))
    keys = key_texts(batch.schema.key, lineage.keys, np.arange(len(lineage.rows)))
    known = newest(batch.dataset, keys)
    if not any(known.values()):
        return own, left, moved
    ordinals = batch.ordinal.tolist()
    for entry, (row, touch, code, key) in enumerate(zip(lineage.rows.tolist(), lineage.touch, lineage.code, keys, strict=True)):
        behind = code >= 0 and known.get(key, 0) > ordinals[row]
        if entry >= lineage.n and touch == Touch.LEFT:
            moved[row], left[row] = True, behind
        else:
            own[row] = behind
    return own, left, moved


def _without_old(batch: ChangeBatch, rows: Mask) -> ChangeBatch:
    """The batch with rows that tell of no old row."""
    if batch.has_old is None or not rows.any():
        return batch
    kept = pa.array(~rows)
    old = {c: pc.if_else(kept, column, None) for c, column in batch.old.items()}
    return replace(batch, old=old, has_old=batch.has_old & ~rows)


def _deletes(batch: ChangeBatch) -> ChangeBatch:
    """The rows under their former keys go."""
    key = set(batch.schema.key_indices)
    nothing = pa.nulls(len(batch), pa.string())
    columns = tuple(
        (pc.coalesce(batch.old[c], column) if c in batch.old else column) if c in key else nothing for c, column in enumerate(batch.columns)
    )
    absent = {c: np.full(len(batch), Presence.ABSENT, np.uint8) for c in range(len(columns)) if c not in key}
    op = np.full(len(batch), Op.DELETE, np.uint8)
    return replace(batch, op=op, columns=columns, presence=absent, old={}, has_old=None, defects=(), payloads=None)
