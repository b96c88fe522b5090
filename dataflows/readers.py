"""Processes that read topics for ingest: each has a part of every topic's partitions, and sends what it has read to the first one.

The first is ingest itself: it alone judges, gives each change its place in the order of all, and writes the journal. It tells the others
where to begin, and how much of what they sent it has taken, so that only so much is ever under way. When one of them dies all of them end,
and what was under way is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import bytewax.operators as op
import structlog
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from dataflows.ending import Ending
from dataflows.stopping import Stop
from dataflows.worker import Worker
from journal.batch import Segment
from pipeline.errors import TerminalError
from sources.base import CopyState, Resume, Source

log = structlog.get_logger("sluice.ingest")

_MOST = 6  # segments of one reader that are under way
_PATIENCE = 0.005  # seconds: what comes from others comes in the same thread
_INBOX = "inbox"


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """From ingest to a reader: where to begin, by source, once; and how many of its segments have been taken since the last order."""

    begin: Mapping[str, str | None] | None = None
    taken: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """From a reader to ingest: a stretch of a source, or the error that stopped it there."""

    reader: int
    source: str
    segment: Segment | None = None
    unknown: Mapping[str, int] = field(default_factory=dict)
    error: TerminalError | None = None


class Readers:
    """Ingest's view of the others."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        begin: Mapping[str, str | None],
        worker: Worker,
        stop: Stop,
        failed: Callable[[str, TerminalError], None],
    ) -> None:
        """`sources` are those that are read in parts, `begin` their watermarks in the journal; `failed` is told what stopped one."""
        self._sources = sources
        self._stop = stop
        self._failed = failed
        self._orders: dict[int, Order] = {number: Order(begin) for number in range(1, worker.of)}

    def orders(self) -> list[tuple[str, Order]]:
        """Those that have not been given yet."""
        if self._stop:
            raise StopIteration
        given = [(str(number), order) for number, order in self._orders.items()]
        self._orders.clear()
        return given

    def received(self, read: Read) -> None:
        """Puts what a reader sent in its place."""
        if read.error is not None:
            self._failed(read.source, read.error)
        elif read.segment is not None:
            self._sources[read.source].receive(read.reader, read.segment, read.unknown, partial(self._taken, read.reader))

    def _taken(self, reader: int) -> None:
        known = self._orders.get(reader, Order())
        self._orders[reader] = Order(known.begin, known.taken + 1)


class Reading:
    """A reader: its parts of the sources."""

    def __init__(self, sources: Mapping[str, Source], worker: Worker, stop: Stop, ending: Ending) -> None:
        self._sources = sources
        self._worker = worker
        self._stop = stop
        self._ending = ending
        self._running: list[str] = []
        self._under_way = 0
        self.begun = False
        self.drained = False

    def obey(self, order: Order) -> None:
        """Begins, or goes on."""
        if order.begin is not None:
            for name, watermark in order.begin.items():
                self._sources[name].start(Resume(watermark, CopyState(), {}))
                self._running.append(name)
            log.info("reading for ingest", reader=self._worker.number, sources=self._running)
        self._under_way -= order.taken

    def next(self) -> list[tuple[str, Read]]:
        """What has been read, unless enough is under way."""
        self.begun = True
        if self._stop:
            self.drained = True
            raise StopIteration
        self._ending.raised()
        if not self._running or self._under_way >= _MOST:
            self._stop.wait(_PATIENCE)
            return []
        found = [read for name in list(self._running) if (read := self._take(name)) is not None]
        self._under_way += sum(read.segment is not None for read in found)
        return [(_INBOX, read) for read in found]

    def _take(self, name: str) -> Read | None:
        source = self._sources[name]
        try:
            segment = source.take(_PATIENCE / len(self._running))
        except TerminalError as error:
            self._running.remove(name)
            return Read(self._worker.number, name, error=error)
        return None if segment is None else Read(self._worker.number, name, segment, dict(source.status().unknown_fields))


Items = Sequence[tuple[str, Any]]


class _From(StatefulSourcePartition[tuple[str, Any], None]):
    """Where an exchange takes from."""

    def __init__(self, take: Callable[[], Items]) -> None:
        self._take = take

    def next_batch(self) -> Items:
        return self._take()

    def next_awake(self) -> datetime | None:
        return None

    def snapshot(self) -> None:
        """Nothing to keep: what is under way is read again."""


class _To(StatefulSinkPartition[Any, None]):
    """Where it gives to."""

    def __init__(self, give: Callable[[Any], None]) -> None:
        self._give = give

    def write_batch(self, items: list[Any]) -> None:
        for item in items:
            self._give(item)

    def snapshot(self) -> None:
        """Nothing to keep: see above."""


class _Sources(FixedPartitionedSource[tuple[str, Any], None]):
    """The parts that this process has."""

    def __init__(self, parts: Mapping[str, StatefulSourcePartition[tuple[str, Any], None]]) -> None:
        self._parts = parts

    def list_parts(self) -> list[str]:
        return list(self._parts)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> StatefulSourcePartition[tuple[str, Any], None]:
        return self._parts[for_part]


class _Targets(FixedPartitionedSink[Any, None]):
    """The parts that this process has; `all` are those of all, by which keys find theirs."""

    def __init__(self, parts: Mapping[str, StatefulSinkPartition[Any, None]], names: Sequence[str]) -> None:
        self._parts = parts
        self._names = sorted(names)

    def list_parts(self) -> list[str]:
        return list(self._parts)

    def part_fn(self, item_key: str) -> int:
        return self._names.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> StatefulSinkPartition[Any, None]:
        return self._parts[for_part]


def exchange(flow: Dataflow, worker: Worker, readers: Readers | None, reading: Reading | None) -> None:
    """Adds to a flow, which must be the same in all processes, what goes from reader to ingest and back.

    Ingest gives its `readers`, a reader its `reading`.
    """
    me = str(worker.number)
    others = [str(number) for number in range(1, worker.of)]
    given = op.input("read", flow, _Sources({} if reading is None else {me: _From(reading.next)}))
    op.output("inbox", given, _Targets({} if readers is None else {_INBOX: _To(readers.received)}, [_INBOX]))
    orders = op.input("orders", flow, _Sources({} if readers is None else {me: _From(readers.orders)}))
    op.output("desk", orders, _Targets({} if reading is None else {me: _To(reading.obey)}, others))


def none_here(flow: Dataflow) -> None:
    """Adds the steps of ingest to the flow of a reader, which has no part in them."""
    stream = op.input("sources", flow, _Sources({}))
    op.output("journal", op.flat_map_value("judge", stream, lambda item: [item]), _Targets({}, ["journal"]))
