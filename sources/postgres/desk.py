"""Where copies that go on beside the stream meet it: what of the stream is dropped, held or passed while a table is copied.

A copy reads a snapshot S. Of the table's changes in the stream, those that S shows are in the copy already; the others come after it,
and are held until it is whole. Before S is there:
- a table that was never copied (or not to the end) has nothing that a change could be applied to: its changes are dropped, and S must
  show them;
- a table that is only copied again goes on as ever; S must show what went by.
Walsender reads a commit from the log a moment before it is visible to snapshots. So whatever was dropped or passed since the wait for
older transactions began is remembered, and S is taken anew until it shows all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from journal.batch import ChangeBatch, CopyMarker, Entry, Held
from journal.schema import TableSchema
from sources.postgres.visibility import Visible


@dataclass(eq=False)
class TableCopy:
    """A copy of one table, for all sinks or for one.

    first    nothing of the table was ever copied before
    passes   the table's changes go on until the snapshot is there
    again    what has happened since the snapshot needs yet another copy
    void     the table was stopped: what is copied is not to be used
    """

    table: str
    sink: str | None = None
    first: bool = False
    passes: bool = False
    watching: bool = False
    passed: set[int] = field(default_factory=set)
    snapshot: Visible | None = None
    schema: TableSchema | None = None
    again: bool = False
    void: bool = False

    def marker(self, phase: str, source: str) -> CopyMarker:
        assert self.schema is not None  # noqa: S101  (known since the snapshot)
        return CopyMarker(self.schema, source, self.table, phase, 0, self.first and phase == "start", self.sink)


class CopyDesk:
    """All copies of one source that wait or go on. Any thread."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._copies: dict[str, list[TableCopy]] = {}
        self._stopped: set[str] = set()
        self._due: list[CopyMarker] = []
        self._waiting: list[TableCopy] = []
        self._changed = threading.Condition()

    def request(self, copy: TableCopy, *, once: bool = False) -> None:
        """Puts a copy at the end of the queue. The same again is not queued twice; with `once`, nor beside one that goes on."""
        with self._changed:
            alike = [other for other in self._copies.get(copy.table, ()) if other.sink == copy.sink]
            for other in alike:
                if other.snapshot is None:
                    other.passes = other.passes and copy.passes
                    return
            if alike and once:
                return
            self._copies.setdefault(copy.table, []).append(copy)
            self._waiting.append(copy)
            self._changed.notify_all()

    def next(self, timeout: float) -> TableCopy | None:
        """The copy that is to be made next, if one comes within `timeout` seconds."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout)
            return self._waiting.pop(0) if self._waiting else None

    def wake(self) -> None:
        """Ends the wait of `next`."""
        with self._changed:
            self._changed.notify_all()

    def watch(self, copy: TableCopy) -> None:
        """From now on the copy's snapshot has to show what goes by."""
        with self._changed:
            copy.watching = True

    def forget_seen(self, copy: TableCopy, visible: Visible) -> None:
        """What a snapshot of now shows, any later one shows too."""
        with self._changed:
            copy.passed = visible.unseen(copy.passed)

    def settle(self, copy: TableCopy, look: Callable[[], tuple[Visible, TableSchema]]) -> bool:
        """Takes the snapshot by `look`, while the stream stands still. False: it does not show all that went by, another is needed."""
        with self._changed:
            visible, schema = look()
            if copy.passed and visible.unseen(copy.passed):
                return False
            copy.snapshot, copy.schema, copy.passed = visible, schema, set()
            self._due.append(copy.marker("start", self._source))
            return True

    def finish(self, copy: TableCopy) -> Sequence[CopyMarker]:
        """The copy is whole: what was held is let go after the marker, and the table's changes pass from now on."""
        with self._changed:
            self._remove(copy)
            if copy.void:
                return [copy.marker("abandoned", self._source)]
            end = copy.marker("end", self._source)
            return [end, *_unsettling(end)] if copy.again else [end]

    def abandon(self, copy: TableCopy) -> CopyMarker:
        """The copy is given up, to be made anew with another snapshot. Its changes are dropped till then: that one will show them."""
        with self._changed:
            marker = copy.marker("abandoned", self._source)
            copy.snapshot, copy.first, copy.passes = None, False, False
            return marker

    def withdraw(self, copy: TableCopy) -> None:
        """Nobody makes this copy any more."""
        with self._changed:
            self._remove(copy)

    def _remove(self, copy: TableCopy) -> None:
        left = [other for other in self._copies.get(copy.table, ()) if other is not copy]
        if left:
            self._copies[copy.table] = left
        else:
            self._copies.pop(copy.table, None)
        if copy in self._waiting:
            self._waiting.remove(copy)

    def unsettle(self, table: str, schema: TableSchema) -> None:
        """The journal is to know, before it knows anything newer, that the copy it holds of the table is not good any more."""
        with self._changed:
            under_way = [copy for copy in self._copies.get(table, ()) if copy.sink is None and copy.snapshot is not None]
            for copy in under_way:
                copy.again = True
            if not under_way:
                self._due += _unsettling(CopyMarker(schema, self._source, table, "start", 0))

    def stop(self, table: str) -> None:
        """Drops the table's changes from now on."""
        with self._changed:
            self._stopped.add(table)
            for copy in list(self._copies.get(table, ())):
                if copy.snapshot is None:
                    self._remove(copy)
                copy.void = True

    def resume(self, table: str) -> None:
        """Takes `stop` back; the table needs a copy."""
        with self._changed:
            self._stopped.discard(table)

    def due(self) -> list[Entry]:
        """Markers that come before whatever is read from now on."""
        with self._changed:
            due, self._due = self._due, []
            return list(due)

    def route(self, batches: Sequence[tuple[ChangeBatch, npt.NDArray[np.uint32]]]) -> list[Entry]:
        """What becomes of a stretch of the stream; markers that are due come first. xid is that of the topmost transaction of each row."""
        with self._changed:
            entries: list[Entry] = []
            entries += self._due
            self._due = []
            if not self._copies and not self._stopped:
                entries += [batch for batch, _ in batches]
            else:
                for batch, xids in batches:
                    entries += self._routed(batch, xids)
            return entries

    def _routed(self, batch: ChangeBatch, xids: npt.NDArray[np.uint32]) -> list[Entry]:
        entries: list[Entry] = []
        copies = self._copies.get(batch.table, ())
        passes = batch.table not in self._stopped
        for copy in copies:
            if copy.snapshot is None:
                if copy.watching:
                    copy.passed.update(np.unique(xids).tolist())
                if copy.sink is None:
                    passes = passes and (copy.passes or _under_way(copies))
                continue
            newer = ~copy.snapshot.sees(xids)
            if newer.any():
                held = batch.take(newer)
                entries.append(Held(held if copy.sink is None else replace(held, sink=copy.sink)))
            if copy.sink is None:
                passes = False
        return [batch, *entries] if passes else entries

    @property
    def has_due(self) -> bool:
        """Whether markers wait to be handed out."""
        with self._changed:
            return bool(self._due)

    @property
    def busy(self) -> bool:
        """Whether there are copies, so that the stream is not to be waited for long."""
        with self._changed:
            return bool(self._copies or self._due)

    def copying(self) -> set[str]:
        """Tables with a copy that waits or goes on."""
        with self._changed:
            return set(self._copies)


def _unsettling(marker: CopyMarker) -> list[CopyMarker]:
    return [replace(marker, phase=phase, first=False) for phase in ("start", "abandoned")]


def _under_way(copies: Sequence[TableCopy]) -> bool:
    return any(copy.sink is None and copy.snapshot is not None for copy in copies)
