"""Whole pipelines: `run` until told to stop, `sync` until every sink holds what the sources had when it began."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import structlog

from dataflows.build import build_source, check_routes, contracts, dataset_name
from dataflows.contracts_in_force import in_force
from dataflows.copy_names import CopyNames
from dataflows.enriching import Enrichments
from dataflows.given import resume_from
from dataflows.lookups import Lookups
from dataflows.maps import Maps
from dataflows.stopping import Stop
from dataflows.supervise import Child, Supervisor
from journal.locks import ProcessLock
from journal.opening import catch_up, find_reader, open_reader
from journal.processes import WATCH
from journal.state import EVERY_SINK, SourceReport, State
from pipeline.errors import EXIT_NO, ConfigError, SluiceError, TransientError
from pipeline.model import Pipeline
from sources.base import CopyState, Resume, Source

log = structlog.get_logger("sluice.run")

_TICK = 0.05
_QUARANTINED = 3
_WATCH_AFTER = 10.0  # seconds: it has nothing to do before, and the others start in the meantime
_DEATHS = 6  # of a process, after which `sync` does not count on it any more

Arguments = Sequence[str]


def _judgeable(pipeline: Pipeline) -> Pipeline:
    """The pipeline with the contracts that are in force. Raises ConfigError for one by which nothing can be judged."""
    pipeline = in_force(pipeline)
    contracts(pipeline)
    return pipeline


def run_all(pipeline: Pipeline, arguments: Arguments, progress: Callable[[State], None] | None = None) -> int:
    """`sluice run`: every process of the pipeline, until SIGTERM. `arguments` are those of the command, for its children."""
    stop = Stop()
    stop.on_signals()
    pipeline = _judgeable(pipeline)
    check_routes(pipeline)
    Maps(pipeline)
    Enrichments(pipeline, Lookups(pipeline))
    with ExitStack() as held:
        held.enter_context(run_lock(pipeline))
        state = State.open(pipeline.state)
        held.callback(state.close)
        supervisor = Supervisor([*_names(pipeline), *([WATCH] if pipeline.watched else [])], arguments, late={WATCH: _WATCH_AFTER})
        held.callback(supervisor.stop)
        supervisor.start()
        while not stop.wait(0.2):
            supervisor.tend()
            if progress is not None:
                progress(state)
            ingest, *others = supervisor.children
            sinks = [child for child in others if child.name != WATCH]
            if ingest.ended is not None or (sinks and all(child.ended is not None for child in sinks)):
                supervisor.stop()
                return max(child.ended or 0 for child in (ingest, *sinks))
    return 0


def run_lock(pipeline: Pipeline) -> ProcessLock:
    """Held by whatever runs all of a pipeline."""
    return ProcessLock(pipeline.state, "run", f"the pipeline {pipeline.name}")


def _names(pipeline: Pipeline) -> list[str]:
    return ["ingest", *(f"deliver:{name}" for name in pipeline.sinks)]


def resume_of(pipeline: Pipeline, source: str) -> Resume:
    """Where a source would go on, as the journal on disk says."""
    found = find_reader(pipeline)
    if found is None:
        return Resume(None, CopyState(), {})
    with found as reader:
        known = reader.resume(source)
    return resume_from(known)


@dataclass
class SyncAnswer:
    """What became of a sync: the exit code, and for each sink that did not get everything the reason."""

    code: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    quarantined: int = 0


class _Sync:
    """The wait of `sync`: first for ingest, then for each sink."""

    def __init__(
        self, pipeline: Pipeline, supervisor: Supervisor, state: State, sources: Mapping[str, Source], heads: Mapping[str, str]
    ) -> None:
        self.pipeline = pipeline
        self.supervisor = supervisor
        self.state = state
        self.sources = sources
        self.heads = heads
        # what was told before this began says nothing; compared, not ordered, as a clock may jump
        self._sources_before = {name: status.updated_at for name, status in state.sources().items()}
        self._sinks_before = {name: progress.updated_at for name, progress in state.sinks().items()}
        self._ends: dict[str, int | None] = {}  # the entry that a sink has to reach
        self.failed: dict[str, str] = {}
        self._away: dict[str, float] = {}

    def ingested(self, patience: float) -> bool:
        """Whether the journal holds all that the sources had committed when this began, but for those that will not get there."""
        told = {name: status for name, status in self.state.sources().items() if status.updated_at != self._sources_before.get(name)}
        running = [name for name in self.sources if name not in told or told[name]["state"] != "stopped"]
        read = all(self._read(name, told.get(name), patience) for name in self.sources)
        return bool(running) and read and not self._copies_under_way(EVERY_SINK) and not self._waiting()

    def _waiting(self) -> bool:
        """Whether rows still wait for a lookup; in the end they are let go, or quarantined."""
        if not self.pipeline.lookups:
            return False
        with open_reader(self.pipeline) as reader:
            return bool(reader.waiting())

    def _read(self, name: str, status: SourceReport | None, patience: float) -> bool:
        label = f"source {name}"
        if status is None:
            return False
        if status["state"] == "stopped" or self._away_for(label, status["state"] in ("retrying", "paused"), patience):
            self.failed[label] = status["error"] or status["state"]
            return True
        if status["state"] != "streaming" or any(table["state"] == "copying" for table in status["tables"].values()):
            return False
        if self.sources[name].reached(resume_of(self.pipeline, name).watermark, self.heads[name]):
            return True
        held_up = self._held_up()
        if held_up is not None:
            self.failed[label] = f"it is read once the lookup {held_up} is there"
        return held_up is not None

    def _held_up(self) -> str | None:
        """A lookup that nothing has come of yet, and whose source will not get there: until then other sources are not read."""
        for lookup in self.pipeline.lookups.values():
            if f"source {lookup.source}" in self.failed:
                known = resume_of(self.pipeline, lookup.source)
                is_stream = self.pipeline.sources[lookup.source].stream is not None
                if known.watermark is None if is_stream else lookup.table not in known.copies.copied:
                    return lookup.name
        return None

    def _away_for(self, name: str, away: bool, patience: float) -> bool:
        """Whether it has been away for longer than that, without a break."""
        if not away:
            self._away.pop(name, None)
            return False
        return time.monotonic() - self._away.setdefault(name, time.monotonic()) > patience

    def stopped_tables(self) -> dict[str, str]:
        """Tables that a rule or the source has stopped, with the reason."""
        told = self.state.sources()
        return {
            f"{source}.{table}": found["error"] or "stopped"
            for source, status in told.items()
            for table, found in status.get("tables", {}).items()
            if found["state"] == "stopped"
        }

    def delivered(self, child: Child, last: int, patience: float) -> bool:
        """Whether a sink holds everything up to entry `last`, or will not."""
        sink = child.name.partition(":")[2]
        progress = self.state.sinks().get(sink)
        if child.ended is not None or child.restarts > _DEATHS:
            ended = f"its process ended with {child.ended}" if child.ended is not None else "its process keeps dying"
            self.failed[sink] = progress.error if progress is not None and progress.error else f"{ended}: see the log"
            return True
        if progress is None or progress.updated_at == self._sinks_before.get(sink):
            return False
        if self._away_for(sink, progress.state == "retrying", patience):
            self.failed[sink] = progress.error or "away"
            return True
        if self._copies_under_way(sink):
            self._ends[sink] = None  # of a copy for this sink: known once it is made
            return False
        end = self._ends.setdefault(sink, last)
        if end is None:
            with open_reader(self.pipeline) as reader:
                end = self._ends[sink] = reader.last_seq()
        return progress.state in ("running", "copying") and progress.seq >= end

    def _copies_under_way(self, sink: str) -> bool:
        """Whether a copy for this sink is still to come. One of a table that is stopped, or not read any more, is not waited for."""
        requested = self.state.copy_requests().get(sink, frozenset())
        if not requested:
            return False
        names = CopyNames(self.pipeline)
        read = {
            (dataset_name(self.pipeline, name, table), names.at(name, table))
            for name, status in self.state.sources().items()
            for table, found in status["tables"].items()
            if found["state"] != "stopped" and f"source {name}" not in self.failed
        }
        routed = {copy for dataset, copy in read if sink == EVERY_SINK or self.pipeline.sinks[sink].route(dataset) is not None}
        return bool(requested & routed)


def sync(
    pipeline: Pipeline,
    arguments: Arguments,
    *,
    timeout: float = 60.0,
    fail_on_quarantine: bool = False,
    progress: Callable[[State], None] | None = None,
) -> SyncAnswer:
    """Makes what is missing, copies, and streams until every sink holds all that was committed when it began.

    Raises Refused or TransientError where a source can't be connected to, PreflightError where it isn't ready, if it is the only one; of
    several the others are finished, and the answer says why this one is not. A server that goes away is waited for `timeout` seconds.
    """
    stop = Stop()
    stop.on_signals()
    pipeline = _judgeable(pipeline)
    check_routes(pipeline)
    Maps(pipeline)
    Enrichments(pipeline, Lookups(pipeline))
    with ExitStack() as held:
        held.enter_context(run_lock(pipeline))
        sources = {name: build_source(pipeline, block) for name, block in pipeline.sources.items()}
        _await_journal(pipeline, timeout, stop)
        heads, failed = _heads(pipeline, sources, timeout, stop)
        state = State.open(pipeline.state)
        held.callback(state.close)
        supervisor = Supervisor(_names(pipeline), arguments)
        held.callback(supervisor.stop)
        waiting = _Sync(pipeline, supervisor, state, {name: sources[name] for name in heads}, heads)
        waiting.failed.update({f"source {name}": error.message for name, error in failed.items()})
        supervisor.start()
        code = _wait(waiting, stop, timeout, progress)
        supervisor.stop(in_order=code != 0)
        stopped = waiting.stopped_tables()
        answer = SyncAnswer(code, {**waiting.failed, **stopped})
        found = find_reader(pipeline)
        if found is not None:
            with found as reader:
                answer.quarantined = sum(reader.open_quarantine().values()) + sum(state.open_refused().values())
        if answer.code == 0 and answer.failed:
            answer.code = max([EXIT_NO, *(error.exit_code for error in failed.values())])
        if answer.code == 0 and fail_on_quarantine and answer.quarantined:
            answer.code = _QUARANTINED
        return answer


def _await_journal(pipeline: Pipeline, timeout: float, stop: Stop) -> None:
    """Until the brokers of a journal that is in topics answer. Raises TransientError where they do not in time."""
    until = time.monotonic() + timeout
    while True:
        try:
            return catch_up(pipeline)
        except TransientError:
            if time.monotonic() > until or stop.wait(_TICK):
                raise


def _heads(pipeline: Pipeline, sources: Mapping[str, Source], timeout: float, stop: Stop) -> tuple[dict[str, str], dict[str, SluiceError]]:
    """What each source has committed now; and why one cannot tell. Raises that where none can, and ConfigError for the file at once."""
    heads: dict[str, str] = {}
    failed: dict[str, SluiceError] = {}
    until = time.monotonic() + timeout
    for name, source in sources.items():
        while name not in heads and name not in failed:
            try:
                heads[name] = _head(pipeline, name, source)
            except ConfigError:
                raise
            except TransientError as error:
                if not source.waited_for or time.monotonic() > until or stop.wait(_TICK):
                    failed[name] = error
            except SluiceError as error:
                failed[name] = error
    for name, reason in failed.items():
        if not heads:
            raise reason
        log.error("source is left out", source=name, error=reason.message, hint=reason.hint)
    return heads, failed


def _head(pipeline: Pipeline, name: str, source: Source) -> str:
    resume = resume_of(pipeline, name)
    found = source.preflight(resume)
    refusal = found.refusal()
    if refusal is not None:
        raise refusal
    # what a table that already flows has become stops that table alone
    new = {table: schema for table, schema in found.tables.items() if table not in resume.schemas}
    mapped, problems = Maps(pipeline).tables(name, new, found.old_rows)
    if problems:
        raise ConfigError.of(problems)
    lookups = Lookups(pipeline)
    for table, schema in mapped.items():
        lookups.know(name, table, schema)
    check_routes(pipeline, {schema.dataset: schema for schema in mapped.values()})
    return source.head()


def _wait(waiting: _Sync, stop: Stop, timeout: float, progress: Callable[[State], None] | None) -> int:
    ingest, *sinks = waiting.supervisor.children
    last: int | None = None
    while not stop.wait(_TICK):
        waiting.supervisor.tend()
        if progress is not None:
            progress(waiting.state)
        if last is None:
            if ingest.ended is not None:
                return ingest.ended or EXIT_NO
            if ingest.restarts > _DEATHS:
                waiting.failed["ingest"] = "the process keeps dying: see the log"
                return EXIT_NO
            if waiting.ingested(timeout):
                with open_reader(waiting.pipeline) as reader:
                    last = reader.last_seq()
        elif sum(not waiting.delivered(child, last, timeout) for child in sinks) == 0:
            return 0
    return 130
