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
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from dataflows.backoff import Backoff
from dataflows.delivery import Delivery
from dataflows.ending import Ending
from dataflows.stopping import Stop
from journal.batch import ChangeBatch, CopyMarker
from journal.bell import Listener
from journal.local import JournalReader
from pipeline.errors import TransientError

log = structlog.get_logger("sluice.deliver")

_PATIENCE = 0.1  # seconds that an idle flow waits for the bell
_REST_AFTER = 0.25
_MOST_BYTES = 16 << 20
_NAP = 0.005
_DRAIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Consecutive journal entries (seq, entry), up to and with `last`; `whole` if they end where ingest committed.

    `generation` counts the failures before it was read: after another one it is void, as it will be read again.
    """

    entries: Sequence[tuple[int, ChangeBatch | CopyMarker]]
    last: int
    whole: bool
    generation: int


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
        self.ending = Ending()

    def failed(self, error: TransientError) -> None:
        self.generation += 1
        self.opened = False
        self.error = error.message


class _Outlet(StatefulSourcePartition[tuple[str, Stretch], None]):
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
        self._room = _MOST_BYTES if delivery.sink.most_rows is None else _MOST_BYTES // 4

    def next_batch(self) -> list[tuple[str, Stretch]]:
        with self._state.ending.on_error():
            if not self._state.ending:
                return self._next()
        raise StopIteration

    def _next(self) -> list[tuple[str, Stretch]]:
        state = self._state
        idle = state.handed == state.done
        if self._stop and idle and not (self._middle and self._in_time()):
            raise StopIteration
        if not state.opened:
            return self._open() if idle else []
        if not self._stop and (ahead := self._not_before - time.monotonic()) > 0:
            self._stop.wait(min(ahead, _NAP))
            return []
        found = self._reader.read(state.after, max_bytes=self._room, sink=self._delivery.sink.name)
        if found.last > state.after:
            state.after = found.last
            state.handed += 1
            self._middle = not found.whole
            self._last_work = time.monotonic()
            state.rested = False
            size = self._measured([entry for _, entry in found.entries if isinstance(entry, ChangeBatch)])
            few = found.whole and size < self._room // 2
            self._not_before = self._last_work + self._delivery.sink.pace if few else 0.0
            return [("sink", Stretch(found.entries, found.last, found.whole, state.generation))]
        if idle:
            self._rest()
            self._bell.wait(_PATIENCE)
        return []

    def _measured(self, batches: Sequence[ChangeBatch]) -> int:
        """The bytes of what was read, by which the next read keeps to the rows that the sink likes best in a transaction."""
        size, rows = sum(batch.nbytes for batch in batches), sum(len(batch) for batch in batches)
        most = self._delivery.sink.most_rows
        if most is not None and rows:
            largest = max(len(batch) for batch in batches)  # a read goes on until there is no room, so by up to one batch beyond
            self._room = max(1, min(_MOST_BYTES, (most - largest) * size // rows))
        return size

    def _open(self) -> list[tuple[str, Stretch]]:
        if self._stop:
            raise StopIteration
        if self._state.error is not None and self._stop.wait(self._backoff.next()):
            raise StopIteration
        try:
            self._state.after = self._delivery.open()
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

    def _in_time(self) -> bool:
        """Whether there is time left to finish what ingest committed at once; without it everything of it is rolled back."""
        self._drained_by = self._drained_by or time.monotonic() + _DRAIN_SECONDS
        return time.monotonic() < self._drained_by

    def worked(self) -> None:
        self._backoff.reset()

    def _rest(self) -> None:
        if self._state.rested or time.monotonic() - self._last_work < _REST_AFTER:
            return
        try:
            self._delivery.flush()
            self._delivery.sink.rest()
        except TransientError as error:
            self._delivery.abandon()
            self._state.failed(error)
        self._state.rested = True

    def next_awake(self) -> datetime | None:
        return None

    def snapshot(self) -> None:
        """The target is the resume state."""


class _Journal(FixedPartitionedSource[tuple[str, Stretch], None]):
    def __init__(self, outlet: _Outlet) -> None:
        self._outlet = outlet

    def list_parts(self) -> list[str]:
        return ["journal"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Outlet:
        return self._outlet


class _TargetStep(StatefulSinkPartition[Stretch, None]):
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
                self._delivery.commit(stretch.last)
                self._outlet.worked()
        except TransientError as error:
            log.warning("sink failed, trying again", sink=self._delivery.sink.name, error=error.message, hint=error.hint)
            self._delivery.abandon()
            self._state.failed(error)

    def snapshot(self) -> None:
        """Nothing to keep: see write_batch."""

    def close(self) -> None:
        """Also runs when an error ends the flow: what is open must not stay."""
        self._delivery.abandon()


class _Target(FixedPartitionedSink[Stretch, None]):
    def __init__(self, step: _TargetStep) -> None:
        self._step = step

    def list_parts(self) -> list[str]:
        return ["sink"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _TargetStep:
        return self._step


def deliver_flow(name: str, delivery: Delivery, reader: JournalReader, bell: Listener, state: DeliverState, stop: Stop) -> Dataflow:
    """journal → sink, in one worker."""
    outlet = _Outlet(delivery, reader, bell, state, stop)
    flow = Dataflow(name)
    stream = op.input("journal", flow, _Journal(outlet))
    op.output("sink", stream, _Target(_TargetStep(delivery, state, outlet)))
    return flow
