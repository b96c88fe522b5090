"""The ingest process of a pipeline: its sources, its gates and the journal, from lock to last commit."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial

import structlog

from dataflows.build import build_source, contracts
from dataflows.ingest import IngestState, JournalStep, Relief, ingest_flow
from dataflows.judging import Judge
from dataflows.locks import ProcessLock
from dataflows.observe import Health, HealthServer, IngestMetrics
from dataflows.process import Beat, run_flow
from dataflows.records import judged_records
from dataflows.stopping import Stop
from journal.bell import Ringer
from journal.local import JournalWriter
from journal.schema import TableSchema
from journal.state import State
from pipeline.errors import SluiceError
from pipeline.model import Pipeline
from quality.contract import Contract
from quality.gate import Gate
from sources.base import CopyState, Resume, Source, SourceStatus

log = structlog.get_logger("sluice.ingest")

_PATIENCE = 10.0
_REQUESTS_EVERY = 1.0


def run_ingest(pipeline: Pipeline, stop: Stop) -> int:
    """Reads every source of a pipeline into its journal until asked to stop. Raises the error that stopped the last source."""
    rules = contracts(pipeline)
    with ExitStack() as held:
        held.enter_context(ProcessLock(pipeline.state, "ingest", f"ingest of {pipeline.name}", _PATIENCE))
        state = State.open(pipeline.state)
        held.callback(state.close)
        limits = pipeline.journal
        journal = JournalWriter.open(pipeline.state, pipeline.name, max_bytes=limits.max_bytes, retention_seconds=limits.retention_seconds)
        held.callback(journal.close)
        sources = {name: build_source(pipeline, block) for name, block in pipeline.sources.items()}
        for source in sources.values():
            held.callback(source.close)
        metrics = IngestMetrics()
        flow_state = IngestState()
        judge = Judge(journal.next_ordinal, partial(_gate, rules), partial(judged_records, journal.id, pipeline.owner))
        report = _Report(sources, state, flow_state, judge, journal, metrics, pipeline)
        if "ingest" in pipeline.monitoring:
            held.callback(HealthServer(*pipeline.monitoring["ingest"], metrics.registry, report.health).close)
        held.callback(Beat(report.tell).close)
        ringer = Ringer(pipeline.state, list(pipeline.sinks))
        held.callback(ringer.close)
        step = JournalStep(journal, judge, sources, flow_state, metrics, ringer)
        _begin(sources, journal, state, step, flow_state)
        log.info("ingesting", sources=list(sources), pid=os.getpid())
        relief = Relief(journal, partial(state.passed, list(pipeline.sinks)))
        try:
            run_flow(ingest_flow(f"{pipeline.name}.ingest", sources, judge, step, flow_state, stop, relief))
        except SluiceError as error:
            report.failed(error)
            raise
        finally:
            report.over = True
        if flow_state.stopped and not stop:
            raise next(iter(flow_state.stopped.values()))
        return 0


def _gate(rules: Mapping[str, Contract], schema: TableSchema) -> Gate:
    return Gate(rules.get(schema.dataset), schema)


def _begin(sources: Mapping[str, Source], journal: JournalWriter, state: State, step: JournalStep, flow_state: IngestState) -> None:
    """Starts each source where the journal stands. What a contract had stopped before is tried again first."""
    requests = state.copy_requests()
    for name, source in sources.items():
        watermark, copied, begun, schemas = journal.resume(name)
        for table in journal.held_tables(name) - begun:
            step.release(table, None)
            step.commit_release(name)
        asked = {table: sink for table, schema in schemas.items() for sink, datasets in requests.items() if schema.dataset in datasets}
        try:
            source.start(Resume(watermark, CopyState(copied, begun, asked), schemas))
        except SluiceError as error:
            if len(sources) == 1:
                raise
            log.error("source stopped", source=name, error=error.message, hint=error.hint)
            flow_state.stopped[name] = error


class _Report:
    """What ingest says of itself, to the state and over HTTP; and what sinks ask of its sources."""

    over = False

    def __init__(
        self,
        sources: Mapping[str, Source],
        state: State,
        flow: IngestState,
        judge: Judge,
        journal: JournalWriter,
        metrics: IngestMetrics,
        pipeline: Pipeline,
    ) -> None:
        self._sources = sources
        self._state = state
        self._flow = flow
        self._judge = judge
        self._journal = journal
        self._metrics = metrics
        self._told: dict[str, tuple[SourceStatus, float]] = {}
        self._error: SluiceError | None = None
        self._next_requests = 0.0

    def failed(self, error: SluiceError) -> None:
        self._error = error

    def tell(self) -> None:
        now = time.monotonic()
        for name, source in self._sources.items():
            status = self._status(name, source)
            last, when = self._told.get(name, (None, 0.0))
            if status != last or now - when > 2.0:
                self._state.source_status(name, asdict(status))
                self._told[name] = (status, now)
                self._measure(name, status)
        if now >= self._next_requests and not self.over:
            self._next_requests = now + _REQUESTS_EVERY

    def _status(self, name: str, source: Source) -> SourceStatus:
        raise NotImplementedError
