"""One process of a pipeline: ingest, or deliver for one sink, from its lock to its last commit."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial

import structlog
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from dataflows.build import build_sink, router_for
from dataflows.copy_names import CopyNames
from dataflows.deliver import DeliverState, deliver_flow
from dataflows.delivery import Delivery
from dataflows.ending import Ending
from dataflows.lean import forgo_pandas
from dataflows.observe import DeliverMetrics, Health, HealthServer
from dataflows.records import Places
from dataflows.stopping import Stop
from dataflows.supervise import SUPERVISED
from journal.bell import Listener, Ringer
from journal.local import JournalReader, journal_exists
from journal.locks import ProcessLock
from journal.passages import RESOLUTION, Passage
from journal.processes import delivering
from journal.state import State
from pipeline.errors import ConfigError, JournalError, SluiceError, TransientError
from pipeline.model import KafkaJournal, Pipeline, SinkBlock
from pipeline.names import nearest
from sinks.base import Cursor

log = structlog.get_logger("sluice")

EXIT_AGAIN = 75  # an error that may be over when the process is started again (EX_TEMPFAIL of sysexits)
_EPOCH = timedelta(seconds=60)  # nothing depends on epochs: both flows commit at the ends of transactions
_PATIENCE = 10.0  # seconds for a process whose supervisor was killed to drain and let go of its lock


def run_one(pipeline: Pipeline, only: str) -> int:
    """Runs `ingest` or `deliver:SINK` until SIGTERM, or for good reason. Returns the exit code; raises SluiceError before it has begun."""
    stop = Stop()
    stop.on_signals()
    forgo_pandas()
    supervisor = os.environ.get(SUPERVISED)
    if supervisor is not None and supervisor.isdigit():
        threading.Thread(target=_follow, args=(stop, int(supervisor)), name="supervisor", daemon=True).start()
    try:
        if only == "ingest":
            from dataflows.ingest_process import run_ingest

            return run_ingest(pipeline, stop)
        return run_deliver(pipeline, sink_named(pipeline, only), stop)
    except TransientError as error:
        log.error("ended", process=only, error=error.message, hint=error.hint)
        return EXIT_AGAIN


def sink_named(pipeline: Pipeline, only: str) -> SinkBlock:
    """The sink that `deliver:SINK` means. Raises ConfigError."""
    kind, _, name = only.partition(":")
    if kind != "deliver" or name not in pipeline.sinks:
        known = ["ingest", *(f"deliver:{sink}" for sink in pipeline.sinks)]
        raise ConfigError(f"there is no process `{only}` in {pipeline.name}", hint=nearest(only, known) or f"known: {', '.join(known)}")
    return pipeline.sinks[name]


def _follow(stop: Stop, supervisor: int) -> None:
    """Drains when the supervisor has died: whoever starts it again starts other processes."""
    while os.getppid() == supervisor and not stop.wait(0.5):
        pass
    stop.set()


class Beat:
    """Tells the state, some times a second and on a thread of its own, how a process does."""

    def __init__(self, tell: Callable[[], None], every: float = 0.2) -> None:
        self._tell = tell
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            try:
                self._tell()
            except SluiceError as error:  # the state is for people; the stream goes on without it
                log.warning("state could not be written", error=error.message, hint=error.hint)
                self._over.wait(5.0)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._tell()


def run_flow(flow: Dataflow, ending: Ending) -> None:
    """Runs a flow in this thread to its end. Raises what ended it: our own error where there is one behind Bytewax's."""
    try:
        cli_main(flow, epoch_interval=_EPOCH)  # type: ignore[no-untyped-call]
    except Exception as error:
        found: BaseException | None = error
        while found is not None and not isinstance(found, SluiceError):
            found = found.__cause__ or found.__context__
        if found is not None:
            raise found from error
        raise
    ending.raised()


def run_deliver(pipeline: Pipeline, block: SinkBlock, stop: Stop) -> int:
    """Delivers to one sink until asked to stop."""
    name = f"deliver:{block.name}"
    with ExitStack() as held:
        held.enter_context(ProcessLock(pipeline.state, delivering(block.name), f"{name} of {pipeline.name}", _PATIENCE))
        state = State.open(pipeline.state)
        held.callback(state.close)
        share(pipeline, delivering(block.name), held)
        flow_state = DeliverState()
        metrics = DeliverMetrics()
        report = _SinkReport(block.name, state, flow_state, metrics)
        if name in pipeline.monitoring:
            held.callback(HealthServer(*pipeline.monitoring[name], metrics.registry, report.health).close)
        held.callback(Beat(report.tell).close)
        if pipeline.journal.kafka is not None:
            _follow_topics(pipeline, pipeline.journal.kafka, flow_state.ending, held)
        reader = _journal(pipeline, stop, flow_state.ending)
        if reader is None:
            return 0
        held.callback(reader.close)
        report.follow(pipeline)
        bell = Listener(pipeline.state, block.name)
        held.callback(bell.close)
        sink = build_sink(pipeline, block)
        held.callback(sink.close)
        delivery = Delivery(
            sink,
            block,
            reader,
            router_for(pipeline),
            metrics,
            ask_copy=lambda datasets: state.request_copies(block.name, datasets),
            remind=lambda datasets: state.remind_of_copies(block.name, datasets),
            keep=lambda records, seq: state.keep_refused(block.name, records, seq),
            forget=lambda seq: state.forget_refused(block.name, seq),
            committed=report.committed,
            place=Places(pipeline, lambda source: reader.resume(source).notes),
            names=CopyNames(pipeline),
        )
        log.info("delivering", sink=block.name, pid=os.getpid())
        try:
            run_flow(deliver_flow(f"deliver-{block.name}", delivery, reader, bell, flow_state, stop), flow_state.ending)
        except SluiceError as error:
            report.failed(error)
            raise
        report.ended()
        return 0


def share(pipeline: Pipeline, process: str, held: ExitStack) -> None:
    """Where the journal is in topics, tells other machines what is written into the state here, and takes what they tell.

    `process` is the lock of the process.
    """
    if pipeline.journal.kafka is not None:
        from journal.exchange import Exchange

        held.callback(Exchange(pipeline.state, pipeline.name, pipeline.journal.kafka, process).close)


def _follow_topics(pipeline: Pipeline, kafka: KafkaJournal, ending: Ending, held: ExitStack) -> None:
    """Keeps the folder's copy of a journal in topics, where no other process does."""
    from journal.keeping import Follower

    ringer = Ringer(pipeline.state, list(pipeline.sinks))
    held.callback(ringer.close)
    held.callback(Follower(pipeline.state, pipeline.name, kafka, ringer.ring, ending.over).close)


def _journal(pipeline: Pipeline, stop: Stop, ending: Ending) -> JournalReader | None:
    """The journal, once ingest has made it; None when asked to stop before."""
    while not stop:
        ending.raised()
        there = journal_exists(pipeline.state)
        try:
            return JournalReader.open(pipeline.state, pipeline.name)
        except JournalError:
            if there and journal_exists(pipeline.state):  # else it has been made this instant, or is being made anew
                raise
        stop.wait(0.05)
    return None


class _SinkReport:
    """What the deliver process says of itself, to the state and over HTTP."""

    def __init__(self, sink: str, state: State, flow: DeliverState, metrics: DeliverMetrics) -> None:
        self._sink = sink
        self._state = state
        self._flow = flow
        self._metrics = metrics
        self._reader: JournalReader | None = None
        self._held: tuple[Cursor, float] | None = None  # what the target holds, and since when
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
        if self._held is None:
            return "starting", None
        return ("copying" if self._held[0].waiting else "running"), None

    def tell(self) -> None:
        phase, error = self._now()
        held = self._held
        cursor = None if held is None else held[0]
        now = time.monotonic()
        told = (phase, error, cursor)
        if told == self._told and now - self._told_at < 2.0:
            return
        self._told, self._told_at = told, now
        batches, seconds = (0, 0.0)
        if self._reader is not None and cursor is not None:
            batches, seconds = self._reader.lag(cursor.seq)
        self._metrics.lag_entries.labels(self._sink).set(batches)
        self._metrics.lag_seconds.labels(self._sink).set(seconds)
        told_cursor = cursor.encode() if cursor else None
        seq, journal = (cursor.seq, cursor.journal) if cursor else (0, "")
        progress = partial(self._state.sink_progress, self._sink, state=phase, error=error, journal=journal, seq=seq, cursor=told_cursor)
        if self._reader is None or held is None or seq <= self._lined or (now < self._lined_at + RESOLUTION and self._phase == "starting"):
            progress()
            return
        progress(passage=Passage(seq, held[1], self._reader.ordinal_at(seq)), oldest=self._reader.first_seq())
        self._lined, self._lined_at = seq, now

    def health(self) -> Health:
        phase, error = self._now()
        return Health(live=phase != "stopped", ready=phase in ("running", "copying"), state=phase, error=error)
