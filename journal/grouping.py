"""Entries that become one batch when they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from journal import store
from journal.batch import ChangeBatch
from journal.codec import Row, Stream
from journal.known import Streams

_MOST_ROWS = 65_536  # of a joined batch


@dataclass(slots=True, eq=False)
class Group:
    """Entries that become one: batches of one stream, from `first` to `seq`; or a marker, alone."""

    stream: Stream
    kind: int
    first: int
    seq: int
    rows: list[Row]
    count: int

    def take(self, seq: int, stream: Stream, kind: int, row: Row) -> bool:
        """Adds an entry, if it can be joined."""
        if kind == store.MARKER or self.kind == store.MARKER or self.count + row.rows > _MOST_ROWS or not stream.joins(self.stream):
            return False
        self.seq = seq
        self.rows.append(row)
        self.count += row.rows
        return True


def grouped(entries: Iterable[tuple[Any, ...]], streams: Streams) -> list[Group]:
    """Joins batches of one dataset that nothing of the same dataset stands between."""
    groups: list[Group] = []
    newest: dict[str, Group] = {}  # by dataset
    for seq, number, kind, *numbers in entries:
        stream, row = streams[number], Row(*numbers)
        group = newest.get(stream.schema.dataset)
        if group is None or not group.take(seq, stream, kind, row):
            group = newest[stream.schema.dataset] = Group(stream, kind, seq, seq, [row], row.rows)
            groups.append(group)
    return groups


def in_order(batch: ChangeBatch) -> ChangeBatch:
    """What partitions have taken apart, in the order in which it came."""
    ordinals = batch.ordinal
    return batch if (ordinals[1:] > ordinals[:-1]).all() else batch.take(np.argsort(ordinals))
