"""The deliver flow of one sink: journal, route, target.

The target itself says how far it got, in the transaction that holds its rows. After a failure whatever was taken from the journal since
is taken again: nothing is kept in between.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import bytewax.operators as op
import structlog
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from dataflows.backoff import Backoff
from dataflows.delivery import Delivery
from dataflows.ending import Ending
from dataflows.stopping import Stop
from journal.batch import ChangeBatch, CopyMarker
from journal.bell import Listener
from journal.local import JournalReader
from journal.reading import Stretch as Found
from pipeline.errors import AgainError, NotYetError, TransientError

log = structlog.get_logger("sluice.deliver")

_PATIENCE = 0.1  # seconds that an idle flow waits for the bell
_OTHERS_PATIENCE = 0.02  # of workers other than the first, for whom nobody rings
_REST_AFTER = 0.25
_MOST_BYTES = 16 << 20
_NAP = 0.005
_DRAIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Consecutive journal entries (seq, entry), up to and with `last`; `whole` if they end where ingest committed, or workers meet.

    `common` ones concern all workers. `generation` counts the failures before it was read: after another one it is void, as it will be
    read again.
    """

    entries: Sequence[tuple[int, ChangeBatch | CopyMarker]]
    last: int
    whole: bool
    generation: int
    common: bool = False


class DeliverState:
    """What both ends of the flow share."""

    def __init__(self) -> None:
        self.handed = 0
        self.done = 0
        self.generation = 0
        self.after = 0  # the last entry that was taken from the journal
        self.opened = False
        self.error: str | None = None  # while retrying
        self.rested = True
        self.begun = False
        self.drained = False
        self.ending = Ending()

    def failed(self, error: TransientError) -> None:
        self.generation += 1
        self.opened = False
        self.error = error.message


class _Outlet(StatelessSourcePartition[Stretch]):
    """Reads the journal behind the sink's cursor."""

    def __init__(self, delivery: Delivery, reader: JournalReader, bell: Listener, state: DeliverState, stop: Stop) -> None:
        self._delivery = delivery
        self._reader = reader
        self._bell = bell
        self._state = state
        self._stop = stop
        self._backoff = Backoff()
        self._last_work = time.monotonic()
        self._middle = False  # of what ingest committed at once
        self._drained_by = 0.0
        self._not_before = 0.0  # the next read, while changes come in small numbers
        self._patience = _OTHERS_PATIENCE if delivery.worker.number else _PATIENCE
        self._room = _MOST_BYTES if delivery.sink.most_rows is None else _MOST_BYTES // 4

    def next_batch(self) -> list[Stretch]:
        with self._state.ending.on_error():
            if not self._state.ending:
                return self._next()
        if self._delivery.worker.of > 1:
            self._state.ending.raised()  # its end alone would not end the others
        return self._drained()

    def _next(self) -> list[Stretch]:
        state = self._state
        idle = state.handed == state.done
        if self._stop and idle and not (self._middle and self._in_time()):
            return self._drained()
        if not state.opened:
            return self._open() if idle else []
        if not self._stop and (ahead := self._not_before - time.monotonic()) > 0:
            self._stop.wait(min(ahead, _NAP))
            return []
        found = self._reader.read(state.after, max_bytes=self._room, sink=self._delivery.sink.name, lanes=self._delivery.lanes)
        if found.common and not self._met(found, idle):
            return []
        if found.last > state.after:
            state.after = found.last
            state.handed += 1
            self._middle = not found.whole
            self._last_work = time.monotonic()
            state.rested = False
            size = self._measured([entry for _, entry in found.entries if isinstance(entry, ChangeBatch)])
            few = found.whole and size < self._room // 2
            self._not_before = self._last_work + self._delivery.sink.pace if few else 0.0
            return [Stretch(found.entries, found.last, found.whole, state.generation, found.common)]
        if idle:
            self._rest()
            self._bell.wait(self._patience)
        return []

    def _met(self, found: Found, idle: bool) -> bool:
        """Whether this worker is to write entries that concern all. Else they are passed over once another has, or waited for."""
        if not idle:
            return False
        self._middle = False
        try:
            turn = self._delivery.meet(self._state.after, found.entries, found.last)
        except TransientError as error:
            self._delivery.abandon()
            self._state.failed(error)
            return False
        if turn == "follow":
            self._state.after = self._delivery.cursor.seq
        elif turn == "wait":
            self._stop.wait(_NAP)
        return turn == "write"

    def _measured(self, batches: Sequence[ChangeBatch]) -> int:
        """The bytes of what was read, by which the next read keeps to the rows that the sink likes best in a transaction."""
        size, rows = sum(batch.nbytes for batch in batches), sum(len(batch) for batch in batches)
        most = self._delivery.sink.most_rows
        if most is not None and rows:
            largest = max(len(batch) for batch in batches)  # a read goes on until there is no room, so by up to one batch beyond
            self._room = max(1, min(_MOST_BYTES, (most - largest) * size // rows))
        return size

    def _open(self) -> list[Stretch]:
        if self._stop:
            return self._drained()
        if self._state.error is not None and self._stop.wait(self._backoff.next()):
            return self._drained()
        try:
            self._state.after = self._delivery.open()
        except NotYetError as error:
            self._backoff.reset()
            self._state.failed(error)
            return []
        except TransientError as error:
            if self._state.error != error.message:
                log.warning("sink is away, trying again", sink=self._delivery.sink.name, error=error.message, hint=error.hint)
            self._state.failed(error)
            return []
        if self._state.error is not None:
            log.info("sink is back", sink=self._delivery.sink.name)
        self._state.opened, self._state.error, self._middle = True, None, False
        self._state.rested = False  # what was opened is held, even where there is nothing to do
        return []

    def _drained(self) -> list[Stretch]:
        self._state.drained = True
        raise StopIteration

    def _in_time(self) -> bool:
        """Whether there is time left to finish what ingest committed at once; without it everything of it is rolled back."""
        self._drained_by = self._drained_by or time.monotonic() + _DRAIN_SECONDS
        return time.monotonic() < self._drained_by

    def begun(self) -> None:
        self._state.begun = True

    def worked(self) -> None:
        self._backoff.reset()

    def _rest(self) -> None:
        if time.monotonic() - self._last_work < _REST_AFTER:
            return
        try:
            if not self._state.rested:
                self._delivery.flush()
                self._delivery.sink.rest()
            self._delivery.heed()
        except TransientError as error:
            self._delivery.abandon()
            self._state.failed(error)
        self._state.rested = True

    def next_awake(self) -> datetime | None:
        return None


class _Journal(DynamicSource[Stretch]):
    """Of each worker its own."""

    def __init__(self, outlet: _Outlet) -> None:
        self._outlet = outlet

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Outlet:
        self._outlet.begun()
        return self._outlet


class _TargetStep(StatelessSinkPartition[Stretch]):
    """Writes stretches and commits rows and cursor together at each end of what ingest committed at once."""

    def __init__(self, delivery: Delivery, state: DeliverState, outlet: _Outlet) -> None:
        self._delivery = delivery
        self._state = state
        self._outlet = outlet

    def write_batch(self, items: list[Stretch]) -> None:
        for item in items:
            if item.generation == self._state.generation and not self._state.ending:
                with self._state.ending.on_error():
                    self._write(item)
            self._state.done += 1

    def _write(self, stretch: Stretch) -> None:
        try:
            for seq, entry in stretch.entries:
                self._delivery.write(seq, entry)
            if stretch.whole:
                self._delivery.commit(stretch.last, now=stretch.common)
                self._outlet.worked()
        except TransientError as error:
            if isinstance(error, NotYetError | AgainError):
                log.info("sink begins again", sink=self._delivery.sink.name, reason=error.message)
            else:
                log.warning("sink failed, trying again", sink=self._delivery.sink.name, error=error.message, hint=error.hint)
            self._delivery.abandon()
            self._state.failed(error)

    def close(self) -> None:
        """Also runs when an error ends the flow: what is open must not stay."""
        self._delivery.abandon()


class _Target(DynamicSink[Stretch]):
    """Of each worker its own: what it reads it writes itself, so that nothing goes from one to another."""

    def __init__(self, step: _TargetStep) -> None:
        self._step = step

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _TargetStep:
        return self._step


def deliver_flow(name: str, delivery: Delivery, reader: JournalReader, bell: Listener, state: DeliverState, stop: Stop) -> Dataflow:
    """journal → sink, for one worker."""
    outlet = _Outlet(delivery, reader, bell, state, stop)
    flow = Dataflow(name)
    stream = op.input("journal", flow, _Journal(outlet))
    op.output("sink", stream, _Target(_TargetStep(delivery, state, outlet)))
    return flow
