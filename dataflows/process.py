"""One process of a pipeline: ingest, or deliver for one sink, from its lock to its last commit."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial

import structlog
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from dataflows.beat import Beat, follow_supervisor, share
from dataflows.build import build_sink, router_for
from dataflows.contracts_in_force import coming_into_force
from dataflows.copy_names import CopyNames
from dataflows.deliver import DeliverState, deliver_flow
from dataflows.delivery import Delivery
from dataflows.ending import Ending
from dataflows.lean import forgo_pandas
from dataflows.observe import DeliverMetrics, HealthServer
from dataflows.records import Places
from dataflows.returning import Returning
from dataflows.sensitive import Sensitive
from dataflows.sink_report import SinkReport, looker
from dataflows.stopping import Stop
from dataflows.together import run_together
from dataflows.worker import ALONE, Worker
from journal.bell import Listener, Ringer
from journal.local import JournalReader, journal_exists
from journal.locks import ProcessLock
from journal.returns import Returns
from journal.state import State
from pipeline.errors import ConfigError, JournalError, SluiceError, TransientError
from pipeline.model import KafkaJournal, Pipeline, SinkBlock
from pipeline.names import nearest
from sinks.bookkeeping import workers_place

log = structlog.get_logger("sluice")

EXIT_AGAIN = 75  # an error that may be over when the process is started again (EX_TEMPFAIL of sysexits)
_EPOCH = timedelta(seconds=60)  # nothing depends on epochs: both flows commit at the ends of transactions
_PATIENCE = 10.0  # seconds for a process whose supervisor was killed to drain and let go of its lock


def run_one(pipeline: Pipeline, only: str, worker: Worker = ALONE) -> int:
    """Runs `ingest` or `deliver:SINK`, or one worker of that, until SIGTERM, or for good reason. Returns the exit code; raises SluiceError
    before it has begun."""
    stop = Stop()
    stop.on_signals()
    forgo_pandas()
    if only == "ingest" and worker.number:
        pipeline = coming_into_force(pipeline)
    follow_supervisor(stop)
    try:
        if only == "ingest":
            from dataflows.ingest_process import run_ingest
            from dataflows.reader_process import run_reader

            return run_ingest(pipeline, stop, worker) if worker.number == 0 else run_reader(pipeline, stop, worker)
        return run_deliver(pipeline, sink_named(pipeline, only), stop, worker)
    except TransientError as error:
        log.error("ended", process=worker.named(only), error=error.message, hint=error.hint)
        return EXIT_AGAIN


def sink_named(pipeline: Pipeline, only: str) -> SinkBlock:
    """The sink that `deliver:SINK` means. Raises ConfigError."""
    kind, _, name = only.partition(":")
    if kind != "deliver" or name not in pipeline.sinks:
        known = ["ingest", *(f"deliver:{sink}" for sink in pipeline.sinks), "watch"]
        raise ConfigError(f"there is no process `{only}` in {pipeline.name}", hint=nearest(only, known) or f"known: {', '.join(known)}")
    return pipeline.sinks[name]


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


def run_deliver(pipeline: Pipeline, block: SinkBlock, stop: Stop, worker: Worker = ALONE) -> int:
    """Delivers to one sink, or is one of the workers that do, until asked to stop."""
    name = f"deliver:{block.name}"
    with ExitStack() as held:
        held.enter_context(ProcessLock(pipeline.state, worker.lock(block.name), f"{worker.named(name)} of {pipeline.name}", _PATIENCE))
        state = State.open(pipeline.state)
        held.callback(state.close)
        share(pipeline, worker.lock(block.name), held)
        flow_state = DeliverState()
        metrics = DeliverMetrics()
        returns, settling = (held.enter_context(closing(Returns(pipeline.state))) for _ in range(2))  # of a thread each
        look = looker(pipeline, block, worker, held)
        report = SinkReport(block.name, state, flow_state, metrics, worker, look, partial(settling.settle, block.name))
        if name in pipeline.monitoring:
            host, port = pipeline.monitoring[name]
            port += worker.number * len(pipeline.monitoring)
            held.callback(HealthServer(host, port, metrics.registry, report.health).close)
        held.callback(Beat(report.tell).close)
        if pipeline.journal.kafka is not None:
            _follow_topics(pipeline, pipeline.journal.kafka, flow_state.ending, held)
        reader = _journal(pipeline, stop, flow_state.ending)
        if reader is None:
            return 0
        held.callback(reader.close)
        report.follow(pipeline)
        bell = Listener(pipeline.state, workers_place(block.name, worker.number) if worker.number else block.name)
        held.callback(bell.close)
        sink = build_sink(pipeline, block)
        held.callback(sink.close)
        sensitive = Sensitive(pipeline)
        delivery = Delivery(
            sink,
            block,
            reader,
            router_for(pipeline),
            metrics,
            ask_copy=lambda datasets: state.request_copies(block.name, datasets),
            remind=lambda datasets: state.remind_of_copies(block.name, datasets),
            keep=lambda records, seq: state.keep_refused(block.name, sensitive.marked(records), seq),
            forget=lambda seq: state.forget_refused(block.name, seq),
            committed=report.committed,
            place=Places(pipeline, lambda source: reader.resume(source).notes),
            names=CopyNames(pipeline),
            worker=worker,
            returning=Returning(returns, block.name),
        )
        log.info("delivering", sink=block.name, pid=os.getpid())
        flow = deliver_flow(f"deliver-{block.name}", delivery, reader, bell, flow_state, stop)
        try:
            if worker.addresses:
                run_together(flow, flow_state, worker, stop, partial(_leaving, report))
            else:
                run_flow(flow, flow_state.ending)
        except SluiceError as error:
            report.failed(error)
            raise
        report.ended()
        return 0


def _leaving(report: SinkReport) -> None:
    report.ended()
    report.tell()


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
