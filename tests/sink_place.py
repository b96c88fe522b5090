"""What a sink's tests are given to work with: an empty target of their own, and a hand that feeds sinks as a deliver process does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from journal.batch import ChangeBatch, CopyMarker, Op
from journal.schema import TableSchema
from sinks.base import Cursor, RefusedRow, Sink, Target
from tests.sink_batches import Did, changes

JOURNAL = "journal-of-the-tests"


class Place(Protocol):
    """An empty target, and what can happen to it."""

    def sink(self, name: str = "out", pipeline: str = "test") -> Sink:
        """A sink on this target, not yet open. Two of one name and pipeline are two processes of one sink."""
        ...

    def table(self, name: str) -> Sequence[Mapping[str, str | None]]:
        """Every row of a table with all its columns as text, those of Sluice too."""
        ...

    def make_foreign_table(self, name: str) -> None:
        """A table that is not Sluice's, with a column `id`."""
        ...

    def drop_table(self, name: str) -> None:
        """Somebody drops a table of the sink."""
        ...

    def crash(self, sink: Any) -> None:
        """The process of the sink is gone, without a word to anybody."""
        ...

    def away(self) -> AbstractContextManager[None]:
        """The target cannot be reached."""
        ...

    def powerless(self) -> Sink:
        """A sink that has no right to make what it needs."""
        ...


class Hand:
    """Feeds one sink. Ordinals go up from call to call."""

    def __init__(self, place: Place, name: str = "out") -> None:
        self.place = place
        self.sink = place.sink(name)
        self.cursor = self.sink.open(JOURNAL) or Cursor(JOURNAL, 0)
        self.next = self.cursor.seq * 1_000_000 + 1

    def write(self, target: Target, *did: Did, leaving: Sequence[int] = ()) -> Sequence[RefusedRow]:
        """One transaction with these changes."""
        self.sink.begin()
        refused = self.put(target, *did, leaving=leaving)
        self.commit()
        return refused

    def put(self, target: Target, *did: Did, leaving: Sequence[int] = ()) -> Sequence[RefusedRow]:
        """These changes, into the open transaction."""
        batch = changes(target.schema, *did, first=self.next)
        self.next += len(did)
        return self.give(target, batch, leaving)

    def give(self, target: Target, batch: ChangeBatch, leaving: Sequence[int] = ()) -> Sequence[RefusedRow]:
        """A batch as it is, into the open transaction."""
        self.sink.prepare(target)
        return self.sink.write(target, batch, np.array(leaving, np.int64))

    def mark(self, target: Target, marker: CopyMarker) -> None:
        self.sink.begin()
        self.sink.prepare(target)
        self.sink.mark(target, marker)
        self.commit()

    def commit(self) -> None:
        self.cursor = replace(self.cursor, seq=self.cursor.seq + 1)
        self.sink.commit(self.cursor)

    def live(self, target: Target) -> list[dict[str, str | None]]:
        """What the sink says it holds, in no particular order."""
        return [row for table in self.sink.read(target, None) for row in table.to_pylist()]

    def names(self, target: Target, column: str = "name") -> dict[str, str | None]:
        """One column of the live rows by `id`."""
        return {str(row["id"]): row[column] for row in self.live(target)}

    def as_held(self, target: Target, rows: Sequence[Mapping[str, str | None]]) -> Counter[str]:
        """Rows as the target would give them back, counted."""
        batch = changes(target.schema, *(Did(Op.INSERT, row) for row in rows), first=1)
        return counted(self.sink.held(target, batch).to_pylist())


def counted(rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Rows as a multiset."""
    return Counter(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in rows)


def mirror(schema: TableSchema, table: str | None = None, **options: Any) -> Target:
    return Target(schema.dataset, table or schema.dataset, schema, **options)


def history(schema: TableSchema, table: str | None = None, **options: Any) -> Target:
    return Target(schema.dataset, table or schema.dataset, schema, mode="history", **options)
