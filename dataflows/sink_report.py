"""What a deliver process, or one worker of several, says of itself: to the state, and over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from dataflows.build import build_sink
from dataflows.deliver import DeliverState
from dataflows.observe import DeliverMetrics, Health
from dataflows.worker import ALONE, Worker
from journal.local import JournalReader
from journal.passages import RESOLUTION, Passage
from journal.state import State
from pipeline.errors import SluiceError, TransientError
from pipeline.model import Pipeline, SinkBlock
from sinks.base import Cursor, SharedSink
from sinks.bookkeeping import workers_place
from sinks.sharing import whole

_LOOK_EVERY = 0.5  # seconds

Look = Callable[[], Cursor | None]


def looker(pipeline: Pipeline, block: SinkBlock, worker: Worker, held: ExitStack) -> Look | None:
    """For the first of several workers: tells what all of them together have brought into the target, wherever they run."""
    if worker.number or worker.of == 1:
        return None
    sink = build_sink(pipeline, block)
    held.callback(sink.close)

    def look() -> Cursor | None:
        cursors = sink.cursors() if isinstance(sink, SharedSink) else []
        return whole(cursors) if cursors else None

    return look


class SinkReport:
    """What the deliver process says of itself, to the state and over HTTP."""

    def __init__(
        self,
        sink: str,
        state: State,
        flow: DeliverState,
        metrics: DeliverMetrics,
        worker: Worker = ALONE,
        look: Look | None = None,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        """`look`, where there is one, tells what the sink holds: more than what this process has committed. `told` is called once the
        state knows how far the sink is."""
        self._after = told
        self._sink = sink
        self._worker = worker
        self._look = look
        self._look_at = 0.0
        self._state = state
        self._flow = flow
        self._metrics = metrics
        self._reader: JournalReader | None = None
        self._held: tuple[Cursor, float] | None = None  # what the target holds, and since when
        self._opened = False
        self._error: str | None = None
        self._phase = "starting"
        self._told: tuple[object, ...] = ()
        self._told_at = 0.0
        self._lined = 0  # the entry of the last line of when what was there
        self._lined_at = 0.0

    def follow(self, pipeline: Pipeline) -> None:
        """Opens the journal a second time: a connection of the beat's own thread."""
        self._reader = JournalReader.open(pipeline.state, pipeline.name)

    def committed(self, cursor: Cursor) -> None:
        self._opened = True
        if self._look is None:
            self._hold(cursor)

    def _hold(self, cursor: Cursor) -> None:
        if self._held is None or self._held[0] != cursor:
            self._held = (cursor, time.time())

    def failed(self, error: SluiceError) -> None:
        """The process ends with this error; with one that may pass, it is to be started again."""
        self._phase, self._error = "retrying" if isinstance(error, TransientError) else "stopped", str(error)

    def ended(self) -> None:
        self._phase = "stopped"

    def _now(self) -> tuple[str, str | None]:
        if self._phase != "starting":
            return self._phase, self._error
        if self._flow.error is not None:
            return "retrying", self._flow.error
        if not self._opened:
            return "starting", None
        return ("copying" if self._held is not None and self._held[0].waiting else "running"), None

    def tell(self) -> None:
        phase, error = self._now()
        now = time.monotonic()
        if self._look is not None and error is None and phase != "starting" and (now >= self._look_at or phase == "stopped"):
            self._look_at = now + _LOOK_EVERY
            try:
                if (found := self._look()) is not None:
                    self._hold(found)
            except TransientError as away:
                phase, error = "retrying", away.message
        held = self._held
        cursor = None if held is None else held[0]
        told = (phase, error, cursor)
        if told == self._told and now - self._told_at < 2.0:
            return
        self._told, self._told_at = told, now
        if self._reader is not None and self._reader.gone():
            self._flow.ending.over(TransientError("the journal is another file than that which was opened", hint="was it deleted?"))
        batches, seconds = (0, 0.0)
        if self._reader is not None and cursor is not None:
            batches, seconds = self._reader.lag(cursor.seq)
        self._metrics.lag_entries.labels(self._sink).set(batches)
        self._metrics.lag_seconds.labels(self._sink).set(seconds)
        told_cursor = cursor.encode() if cursor else None
        seq, journal = (cursor.seq, cursor.journal) if cursor else (0, "")
        name = workers_place(self._sink, self._worker.number) if self._worker.number else self._sink
        progress = partial(self._state.sink_progress, name, state=phase, error=error, journal=journal, seq=seq, cursor=told_cursor)
        lined = self._lined_at + RESOLUTION
        if self._worker.number or self._reader is None or held is None or seq <= self._lined or (now < lined and self._phase == "starting"):
            progress()
        else:
            progress(passage=Passage(seq, held[1], self._reader.ordinal_at(seq)), oldest=self._reader.first_seq())
            self._lined, self._lined_at = seq, now
        self._after()

    def health(self) -> Health:
        phase, error = self._now()
        return Health(live=phase != "stopped", ready=phase in ("running", "copying"), state=phase, error=error)
