"""Small batches made into large ones, so that a sink which is behind catches up by columns and not by rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from journal.batch import Bytes, ChangeBatch, CopyMarker, Mask

_MOST_ROWS = 65_536

Numbered = tuple[int, ChangeBatch | CopyMarker]


def joined(entries: Sequence[Numbered]) -> list[Numbered]:
    """Joins batches of one dataset that nothing of the same dataset stands between; each gets the number of its last part.

    Changes of a dataset, and its markers, keep their order.
    """
    if len(entries) < 2:
        return list(entries)
    groups: list[_Group] = []
    newest: dict[str, _Group] = {}  # by dataset
    for seq, entry in entries:
        group = newest.get(entry.dataset)
        if group is None or not group.take(seq, entry):
            group = newest[entry.dataset] = _Group(seq, entry)
            groups.append(group)
    return [(group.seq, _join(group.parts) if len(group.parts) > 1 else group.first) for group in groups]


class _Group:
    """Batches that become one; or a marker, alone."""

    def __init__(self, seq: int, first: ChangeBatch | CopyMarker) -> None:
        self.seq = seq
        self.first = first
        self.parts = [first] if isinstance(first, ChangeBatch) else []
        self._rows = sum(map(len, self.parts))

    def take(self, seq: int, entry: ChangeBatch | CopyMarker) -> bool:
        """Adds a batch, if it can be joined."""
        if not isinstance(entry, ChangeBatch) or not self.parts or self._rows + len(entry) > _MOST_ROWS:
            return False
        ours = self.parts[0]
        if entry.schema != ours.schema or (entry.source, entry.table, entry.sink) != (ours.source, ours.table, ours.sink):
            return False
        self.seq = seq
        self.parts.append(entry)
        self._rows += len(entry)
        return True


def _join(batches: Sequence[ChangeBatch]) -> ChangeBatch:
    presence = sorted({column for batch in batches for column in batch.presence})
    old = sorted({column for batch in batches for column in batch.old})
    return replace(
        batches[0],
        op=np.concatenate([batch.op for batch in batches]),
        lsn=np.concatenate([batch.lsn for batch in batches]),
        nth=np.concatenate([batch.nth for batch in batches]),
        time=np.concatenate([batch.time for batch in batches]),
        ordinal=np.concatenate([batch.ordinal for batch in batches]),
        columns=tuple(pa.concat_arrays(parts) for parts in zip(*(batch.columns for batch in batches), strict=True)),
        presence={column: np.concatenate([_presence(batch, column) for batch in batches]) for column in presence},
        old={column: pa.concat_arrays([_old(batch, column) for batch in batches]) for column in old},
        has_old=np.concatenate([_has_old(batch) for batch in batches]) if any(b.has_old is not None for b in batches) else None,
    )


def _presence(batch: ChangeBatch, column: int) -> Bytes:
    codes = batch.presence.get(column)
    return np.zeros(len(batch), np.uint8) if codes is None else codes


def _old(batch: ChangeBatch, column: int) -> pa.StringArray:
    values = batch.old.get(column)
    return pa.nulls(len(batch), pa.string()) if values is None else values


def _has_old(batch: ChangeBatch) -> Mask:
    return np.zeros(len(batch), np.bool_) if batch.has_old is None else batch.has_old
