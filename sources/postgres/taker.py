"""What ingest takes: stretches of the stream and of copies, as segments with the position that they reach."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog

from journal.batch import ChangeBatch, CopyMarker, Entry, Held, Segment
from journal.schema import TableSchema
from pipeline.errors import Refused, TransientError
from sources.base import Recall
from sources.postgres.desk import CopyDesk
from sources.postgres.handouts import Handouts
from sources.postgres.position import Watermark
from sources.postgres.recall import recalled, wants
from sources.postgres.roster import Roster
from sources.postgres.session import Connection, Server
from sources.postgres.stream import Decoded, Relation, ReplicationStream, Stretch

log = structlog.get_logger("sluice.postgres")

_TURN = 0.01  # seconds that the stream is waited for while a copy goes on
_AGAIN = 0.5  # seconds between two tries to read values again


@dataclass(eq=False)
class _Unfinished:
    """A stretch on its way out; the first `done` entries have the values that the log left out. `tells`: its end alone is news."""

    entries: list[Entry]
    end: int | None
    received: float
    tells: bool = True
    done: int = 0


class Taker:
    """The end of a source that its taker's thread runs. Only `begin`, `attach` and what asks or tells of positions is for
    other threads.

    A session that breaks is dropped; what was taken of it is remembered, so that the next one, which begins at what is durable, gives
    nothing twice.
    """

    def __init__(
        self,
        source: str,
        server: Server,
        recall: Recall,
        roster: Roster,
        desk: CopyDesk,
        handouts: Handouts,
        broken: Callable[[ReplicationStream, TransientError], None],
    ) -> None:
        """`broken` is told, with the reason, when a session is over."""
        self._source = source
        self._server = server
        self._recall = recall
        self._roster = roster
        self._desk = desk
        self._handouts = handouts
        self._broken = broken
        self._stream: ReplicationStream | None = None
        self._watermark: Watermark | None = None
        self._flowing = False
        self._announce = False
        self._inside = False  # part of a transaction has been handed out
        self._last = (0, -1)  # the last change of the stream that was handed out: commit LSN and ordinal in the transaction
        self._unfinished: deque[_Unfinished] = deque()
        self._retry_at = 0.0
        self._trouble: str | None = None  # why values could not be read again, last time
        self._copy_turn = True
        self._session: Connection | None = None
        self._marks = threading.Lock()
        self._mark = 0
        self._due_mark = 0
        self._durable_mark = 0
        self._flow_mark = 0
        self._ending: dict[str, int] = {}
        self.last_commit = 0.0  # commit time, in seconds since 1970, of the newest change that was taken
        self.last_rows = 0.0  # time.monotonic() when that was

    def begin(self, watermark: Watermark, *, announce: bool, flowing: bool) -> None:
        """Where reading begins. With `announce` the journal is told so; unless `flowing`, the stream waits for `flow` to be handed out."""
        self._flowing = flowing
        self._announce = announce
        self._watermark = watermark
        self._handouts.wake()

    def flow(self) -> Sequence[Entry]:
        """To be put behind the first copies: what comes after it may be streamed."""
        with self._marks:
            self._flow_mark = self._mark
        self._flowing = True
        return []

    @property
    def streaming(self) -> bool:
        """Whether the first copies are over and durable."""
        with self._marks:
            return self._flowing and self._durable_mark >= self._flow_mark

    def ending(self) -> set[str]:
        """Tables whose copy is handed out to its end, which is not durable yet."""
        with self._marks:
            return {table for table, mark in self._ending.items() if mark > self._durable_mark}

    def attach(self, stream: ReplicationStream) -> None:
        """A session that has started. It gives again what was taken and is not durable."""
        self._stream = stream
        self._handouts.wake()

    def settled(self) -> bool:
        """Whether all markers that were due are durable."""
        if self._desk.has_due:
            return False
        with self._marks:
            return self._durable_mark >= self._due_mark

    def passed(self, lsn: int) -> bool:
        """Whether all that committed before `lsn` has been taken."""
        watermark = self._watermark
        return watermark is not None and watermark.lsn >= lsn

    def confirmed(self, watermark: Watermark) -> None:
        with self._marks:
            self._durable_mark = max(self._durable_mark, watermark.mark)

    def take(self, timeout: float) -> Segment | None:
        """See Source.take. Raises what ended the stream for good."""
        until = time.monotonic() + timeout
        while True:
            left = max(0.0, until - time.monotonic())
            segment = self._next(left)
            if segment is not None or (left == 0.0 and (self._unfinished or not self._handouts.waiting)):
                return segment

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _next(self, timeout: float) -> Segment | None:
        if self._watermark is None:
            self._handouts.wait(timeout)
            return None
        if self._announce:
            self._announce = False
            return self._segment([], time.monotonic(), due=False)
        if self._unfinished:
            early = self._retry_at - time.monotonic()
            if early > timeout:
                self._handouts.pause(timeout)
                return None
            self._handouts.pause(early)
            return self._finished()
        stream = self._stream if self._flowing else None
        self._copy_turn = not self._copy_turn or stream is None
        if self._copy_turn:
            segment = self._copied()
            if segment is not None:
                return segment
        if stream is None:
            self._handouts.wait(timeout)
            return None
        return self._streamed(stream, min(timeout, _TURN) if self._desk.busy else timeout)

    def _copied(self) -> Segment | None:
        """What copies have handed out, behind the markers that are due."""
        entries = self._desk.due()
        due = bool(entries)
        handout = self._handouts.take()
        if handout is not None:
            entries += handout.open()
        if not entries:
            return None
        return self._segment(entries, handout.read if handout is not None else time.monotonic(), due)

    def _streamed(self, stream: ReplicationStream, timeout: float) -> Segment | None:
        try:
            stretch = stream.take(timeout)
        except TransientError as error:
            self._stream = None
            self._broken(stream, error)
            return None
        if stretch is None:
            return None
        self._unfinished.extend(self._routed(stretch))
        return self._finished()

    def _routed(self, stretch: Stretch) -> Iterator[_Unfinished]:
        """A stretch that ends inside a transaction is cut where that one begins: it may be long until a stretch ends between two.

        Its position is a good one to resume from: the server sends what commits there or later.
        """
        batches = [fresh for decoded in stretch.batches if len((fresh := self._fresh(decoded)).batch)]
        if batches:
            self._last = max(self._last, *((int(batch.lsn[-1]), int(batch.nth[-1])) for batch, _ in batches))
            self.last_commit = float(batches[-1][0].time[-1]) / 1e6
            self.last_rows = time.monotonic()
        if stretch.end is None and batches:
            whole, batches = _cut(batches, self._last[0])
            yield _Unfinished(self._desk.route(whole), self._last[0], stretch.received, tells=False)
        yield _Unfinished(self._desk.route(batches), stretch.end, stretch.received)

    def _fresh(self, decoded: Decoded) -> Decoded:
        """Without what an earlier session has given already."""
        batch = decoded.batch
        lsn, nth = self._last
        if not len(batch) or batch.lsn[0] > lsn or (batch.lsn[0] == lsn and batch.nth[0] > nth):
            return decoded
        new = (batch.lsn > lsn) | ((batch.lsn == lsn) & (batch.nth > nth))
        return Decoded(batch.take(new), decoded.xid[new])

    def _finished(self) -> Segment | None:
        """What is on its way out, with what has to be read again. None: that is not possible now, and will be tried once more."""
        while self._unfinished:
            if not self._fill(self._unfinished[0]):
                return None
            segment = self._given(self._unfinished.popleft())
            if segment is not None:
                return segment
        return None

    def _fill(self, unfinished: _Unfinished) -> bool:
        entries = unfinished.entries
        try:
            while unfinished.done < len(entries):
                entries[unfinished.done] = self._filled(entries[unfinished.done])
                unfinished.done += 1
        except TransientError as error:
            if error.message != self._trouble:
                log.warning("values that the log left out cannot be read now", source=self._source, error=error.message)
            if self._trouble is not None and self._stream is not None:
                # a server that shuts down lets nobody in, and waits until this session has confirmed all that it was sent
                stream, self._stream = self._stream, None
                self._broken(stream, error)
            self._trouble = error.message
            self._drop_session()
            self._retry_at = time.monotonic() + _AGAIN
            return False
        self._trouble = None
        return True

    def _given(self, unfinished: _Unfinished) -> Segment | None:
        """The segment, if there is anything to say; moves the position."""
        assert self._watermark is not None  # noqa: S101  (there is no stream before it)
        entries, end = unfinished.entries, unfinished.end
        news = bool(entries)
        if end is None:
            self._inside = self._inside or news
        else:
            # an end without rows is news where rows wait for it, or where nothing else would tell how far the log was read
            news = news or self._inside or (unfinished.tells and end > self._watermark.lsn)
            self._inside = False
            self._watermark = self._watermark.at(max(self._watermark.lsn, end))
        if not news:
            return None
        return self._segment(entries, unfinished.received, any(isinstance(entry, CopyMarker) for entry in entries))

    def _segment(self, entries: Sequence[Entry], received: float, due: bool) -> Segment:
        assert self._watermark is not None  # noqa: S101
        watermark = None
        with self._marks:
            if due:
                self._due_mark = self._mark + 1
            for entry in entries:
                if isinstance(entry, CopyMarker) and entry.phase == "end":
                    self._ending[entry.table] = self._mark + 1
            if not self._inside:
                self._mark += 1
                watermark = replace(self._watermark, mark=self._mark).encode()
        return Segment(self._source, entries, watermark, received)

    def _filled(self, entry: Entry) -> Entry:
        batch = entry.batch if isinstance(entry, Held) else entry
        if not isinstance(batch, ChangeBatch) or not batch.presence or not wants(batch) or not self._recall(batch.table):
            return entry
        table = self._roster.table(batch.table)
        if table is None:
            return entry
        try:
            batch = recalled(self._server, self.session(), table, batch)
        except Refused as error:
            self._drop_session()
            log.warning("values that the log left out cannot be read again", source=self._source, table=batch.table, error=error.message)
            return entry
        return Held(batch) if isinstance(entry, Held) else batch

    def resolve(self, relation: Relation) -> TableSchema | None:
        """What the stream asks about a table that it describes."""
        try:
            with self._server.told():
                return self._roster.resolve(relation, self.session())
        except TransientError:
            self._drop_session()
            raise

    def session(self) -> Connection:
        """A session for look-ups, of the taker's thread."""
        if self._session is None or self._session.closed:
            self._session = self._server.connect()
        return self._session

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _cut(batches: Sequence[Decoded], lsn: int) -> tuple[list[Decoded], list[Decoded]]:
    """Changes of transactions before the one that commits at `lsn`, and those of that one."""
    before, inside = [], []
    for batch, xids in batches:
        place = int(np.searchsorted(batch.lsn, lsn))
        if place:
            before.append(Decoded(batch.slice(0, place), xids[:place]))
        if place < len(batch):
            inside.append(Decoded(batch.slice(place, len(batch)), xids[place:]))
    return before, inside
