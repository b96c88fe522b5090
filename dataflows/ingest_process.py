"""The ingest process of a pipeline: its sources, its gates and the journal, from lock to last commit."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial

import structlog

from dataflows.beat import Beat, share
from dataflows.build import build_source, contracts, dataset_name
from dataflows.contracts_in_force import put_in_force
from dataflows.copy_names import CopyNames
from dataflows.erasing import Retention
from dataflows.given import resume_from
from dataflows.ingest import IngestState, JournalStep, Relief, ingest_flow
from dataflows.judged_by import JudgedBy
from dataflows.judging import Judge
from dataflows.lean import seldom_collect
from dataflows.lookups import Lookups, Precedence
from dataflows.observe import Health, HealthServer, IngestMetrics
from dataflows.process import run_flow
from dataflows.readers import Readers, exchange
from dataflows.records import Places, judged_records
from dataflows.requests import open_requests
from dataflows.stages import load_stages
from dataflows.stopping import Stop
from dataflows.strict_order import strict_order
from dataflows.together import run_together
from dataflows.waiting import Waiting
from dataflows.worker import ALONE, Worker
from journal.bell import Ringer
from journal.local import JournalReader, JournalWriter
from journal.locks import ProcessLock, wanting
from journal.opening import open_writer
from journal.processes import INGEST
from journal.state import EVERY_SINK, State
from pipeline.errors import TerminalError, TransientError
from pipeline.model import Pipeline
from sources.base import Source, SourceStatus, TableStatus

log = structlog.get_logger("sluice.ingest")

_PATIENCE = 10.0
_REQUESTS_EVERY = 1.0
_TELL_EVERY = 2.0
_FOR_OWNERS = 0.04  # seconds between two transactions for what they ask for


def run_ingest(pipeline: Pipeline, stop: Stop, worker: Worker = ALONE) -> int:
    """Reads every source of a pipeline into its journal until asked to stop, alone or with others that read for it.

    Raises the error that stopped the last source.
    """
    with ExitStack() as held:
        with wanting(pipeline.state, INGEST):  # a command may be at work in its place
            held.enter_context(ProcessLock(pipeline.state, INGEST, f"ingest of {pipeline.name}", _PATIENCE))
        state = State.open(pipeline.state)
        held.callback(state.close)
        share(pipeline, INGEST, held)
        journal = _journal(pipeline, state)
        held.callback(journal.close)
        pipeline = put_in_force(pipeline, journal)
        rules = contracts(pipeline)
        sources = {name: build_source(pipeline, block) for name, block in pipeline.sources.items()}
        for source in sources.values():
            held.callback(source.close)
        divided = {name: source for name, source in sources.items() if source.divisible} if worker.of > 1 else {}
        for source in divided.values():
            source.part(worker.number, worker.of)
        metrics = IngestMetrics()
        flow_state = IngestState()
        notes = {name: dict(journal.resume(name).notes) for name in sources}
        record = partial(judged_records, journal.id, Places(pipeline, notes.__getitem__), pipeline.owner)
        stages = load_stages(pipeline, rules, journal)
        lookups, versions, earlier = stages.lookups, stages.versions, stages.earlier
        waiting = Waiting(pipeline, lookups, lambda: journal.clock)
        waiting.restore(journal.waiting.all())
        first = journal.next_ordinal
        judged_by = JudgedBy(first, rules, notes.__getitem__)
        judge = Judge(
            first,
            partial(stages.gate, rules),
            record,
            lambda source, found: notes[source].update(found),
            stages.maps,
            waiting,
            judged_by,
            versions,
            earlier,
            strict_order(journal, rules),
        )
        report = _Report(pipeline, sources, state, flow_state, judge, metrics, journal)
        report.follow()
        held.callback(report.close)
        if "ingest" in pipeline.monitoring:
            held.callback(HealthServer(*pipeline.monitoring["ingest"], metrics.registry, report.health).close)
        held.callback(Beat(report.tell).close)
        ringer = Ringer(pipeline.state, list(pipeline.sinks))
        held.callback(ringer.close)
        step = JournalStep(
            journal,
            judge,
            sources,
            flow_state,
            metrics,
            ringer,
            state.copy_requested,
            lambda sink, copy, requested: state.copies_done(sink, [copy], requested),
            CopyNames(pipeline).at,
            lookups,
            versions,
            earlier,
        )
        begin = {name: journal.resume(name).watermark for name in divided}
        _begin(sources, journal, step, flow_state, lookups)
        streams = [name for name, block in pipeline.sources.items() if block.stream is not None]
        precedence = Precedence(
            lookups,
            streams,
            sources,
            lambda name: journal.resume(name).watermark,
            lambda name, table: (name, table) in judge.stopped_tables or dataset_name(pipeline, name, table) in judge.stopped,
        )
        seldom_collect()
        log.info("ingesting", sources=list(sources), pid=os.getpid())
        relief = Relief(journal, partial(state.passed, journal.id, list(pipeline.sinks)))
        requests = open_requests(pipeline, rules, journal, state, stages, ringer.ring)
        held.callback(requests.close)
        retention = Retention(journal, pipeline.state, rules)

        def relieve() -> bool:
            step.look_after_waiting()
            if flow_state.handed == flow_state.done:  # else something of a transaction may be on its way
                requests.work(_FOR_OWNERS)
                requests.begin_again()
                retention.tick()
            return relief()

        flow = partial(ingest_flow, "ingest", sources, judge, step, flow_state, stop, relieve, precedence, lambda: requests.busy)
        if worker.of > 1:
            readers = Readers(divided, begin, worker, stop, flow_state.stop)
            run_together(flow(lambda made: exchange(made, worker, readers, None)), flow_state, worker, stop, report.tell)
        else:
            run_flow(flow(), flow_state.ending)
        if flow_state.stopped and not stop:
            raise next(iter(flow_state.stopped.values()))
        return 0


def _journal(pipeline: Pipeline, state: State) -> JournalWriter:
    """The journal. While it is away that is what every source waits for."""
    try:
        return open_writer(pipeline)
    except TransientError as error:
        for name in pipeline.sources:
            state.source_status(name, asdict(SourceStatus("retrying", error=str(error))))
        raise


def _begin(sources: Mapping[str, Source], journal: JournalWriter, step: JournalStep, flow_state: IngestState, lookups: Lookups) -> None:
    """Starts each source where the journal stands. What a contract had stopped before is tried again first."""
    for name, source in sources.items():
        known = journal.resume(name)
        for table in journal.held_tables(name) - known.begun:
            step.release(name, table)
            step.commit_release(name)
        try:
            resume = resume_from(known)
            requested = dict.fromkeys(lookups.unmade(name, known.copied))
            source.start(replace(resume, copies=replace(resume.copies, requested=requested)))
        except TerminalError as error:
            flow_state.stop(name, error)


class _Report:
    """What ingest says of itself, to the state and over HTTP; and what sinks ask of its sources."""

    def __init__(
        self,
        pipeline: Pipeline,
        sources: Mapping[str, Source],
        state: State,
        flow: IngestState,
        judge: Judge,
        metrics: IngestMetrics,
        journal: JournalWriter,
    ) -> None:
        """Of the journal, which another thread writes, only what any thread may ask."""
        self._journal = journal
        self._pipeline = pipeline
        self._names = CopyNames(pipeline)
        self._sources = sources
        self._state = state
        self._flow = flow
        self._judge = judge
        self._metrics = metrics
        self._told: dict[str, tuple[SourceStatus | None, float]] = {}
        self._next_requests = 0.0
        self._reader: JournalReader | None = None

    def follow(self) -> None:
        """Opens the journal a second time: a connection of the beat's own thread."""
        self._reader = JournalReader.open(self._pipeline.state, self._pipeline.name)

    def tell(self) -> None:
        now = time.monotonic()
        for name, source in self._sources.items():
            status = self._status(name, source)
            last, when = self._told.get(name, (None, 0.0))
            if status != last or now - when > _TELL_EVERY:
                self._state.source_status(name, asdict(status))
                self._told[name] = (status, now)
                self._measure(name, status)
        if now >= self._next_requests:
            self._next_requests = now + _REQUESTS_EVERY
            self._ask()

    def _status(self, name: str, source: Source) -> SourceStatus:
        """The source's own word, with what the gate and the journal have to add."""
        status = source.status()
        error = self._flow.stopped.get(name) or self._flow.ending.error
        if error is not None:
            return replace(status, state="retrying" if isinstance(error, TransientError) else "stopped", error=str(error))
        tables = {table: self._table(name, table, found) for table, found in status.tables.items()}
        of = {dataset_name(self._pipeline, name, table) for table in tables}
        tripped = {dataset: why for dataset, why in self._judge.tripped.copy().items() if dataset in of}
        status = replace(status, tables=tables, breakers=tripped)
        if (trouble := self._journal.trouble) is not None:
            return replace(status, state="retrying", error=trouble)
        if self._flow.full:
            return replace(status, state="paused", error="the journal is full: a sink is too far behind")
        return status

    def _table(self, source: str, table: str, found: TableStatus) -> TableStatus:
        error = self._judge.stopped.get(dataset_name(self._pipeline, source, table)) or self._judge.stopped_tables.get((source, table))
        return found if error is None else replace(found, state="stopped", error=error)

    def _measure(self, name: str, status: SourceStatus) -> None:
        metrics = self._metrics
        metrics.reconnects.labels(name).set(status.reconnects)
        if status.lag_bytes is not None:
            metrics.lag_bytes.labels(name).set(status.lag_bytes)
        if status.lag_messages is not None:
            metrics.lag_messages.labels(name).set(status.lag_messages)
        for field, records in status.unknown_fields.items():
            metrics.unknown_fields.labels(name, field).set(records)
        if status.lag_seconds is not None:
            metrics.lag_seconds.labels(name).set(status.lag_seconds)
        for gauge, position in ((metrics.confirmed, status.confirmed), (metrics.server, status.server)):
            number = None if position is None else self._sources[name].number(position)
            if number is not None:
                gauge.labels(name).set(number)
        if self._reader is not None:
            metrics.journal_bytes.set(self._journal.size())
            passed = self._state.passed(self._reader.id, list(self._pipeline.sinks)) or 0
            metrics.journal_age.set(self._reader.lag(passed)[1])

    def _ask(self) -> None:
        """Copies that sinks wait for; a source that is at one already does nothing more."""
        if self._reader is None:
            return
        wanted = self._state.copy_requests()
        for name, source in self._sources.items() if wanted else ():
            for table in self._reader.resume(name).schemas:
                for sink, copies in wanted.items():
                    if self._names.at(name, table) in copies and (sink == EVERY_SINK or sink in self._pipeline.sinks):
                        source.copy_again(table, None if sink == EVERY_SINK else sink)

    def health(self) -> Health:
        states = {name: self._status(name, source) for name, source in self._sources.items()}
        bad = [status for status in states.values() if status.state == "stopped"]
        ready = all(status.state in ("streaming", "copying") for status in states.values())
        worst = bad[0] if bad else next((status for status in states.values() if status.state != "streaming"), None)
        return Health(
            live=len(bad) < len(states), ready=ready, state=worst.state if worst else "streaming", error=worst.error if worst else None
        )

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
