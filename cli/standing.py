"""How a pipeline does, from what is on disk: the journal, what processes last said of themselves, and which of them live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from dataflows.contracts_in_force import ContractStanding, kept_of, standing_of
from dataflows.worker import Worker
from journal.audits import Audits
from journal.ledger import Tally
from journal.local import JournalReader
from journal.opening import find_reader
from journal.processes import INGEST, RUN, WATCH, Processes, delivering
from journal.state import SinkProgress, SourceReport, State
from journal.watching import TickReport, Watching
from pipeline.errors import ConfigError
from pipeline.model import Dataset, Pipeline, SinkBlock, SourceBlock
from pipeline.names import is_pattern, split_name
from sinks.base import Counts, Cursor
from sinks.bookkeeping import workers_place

_SOURCE = ("confirmed", "server", "lag_bytes", "lag_messages", "lag_seconds", "wal_status", "safe_wal_size")


def standing(pipeline: Pipeline) -> dict[str, Any]:
    """The answer of `status --json`. Raises JournalError for a journal that cannot be read."""
    with ExitStack() as held:
        state = held.enter_context(closing(State.open(pipeline.state)))
        watching = held.enter_context(closing(Watching.open(pipeline.state)))
        audits = held.enter_context(closing(Audits.open(pipeline.state)))
        reader = find_reader(pipeline)
        if reader is not None:
            held.enter_context(reader)
        incidents = Counter(one.dataset for one in audits.incidents())
        return _Standing(pipeline, state, reader, watching.ticks(), incidents).answer()


class _Standing:
    def __init__(
        self,
        pipeline: Pipeline,
        state: State,
        reader: JournalReader | None,
        ticks: Mapping[str, TickReport],
        incidents: Mapping[str, int],
    ) -> None:
        self._pipeline = pipeline
        self._state = state
        self._reader = reader
        self._ticks = ticks
        self._incidents = incidents
        self._totals: Mapping[str, Tally] = {} if reader is None else reader.totals()
        self._ran = reader is not None
        self._processes = Processes(pipeline, state)
        self._kept = kept_of(pipeline)
        self._supervised = self._processes.since(RUN)

    def answer(self) -> dict[str, Any]:
        return {
            "pipeline": self._pipeline.name,
            "running": self._supervised is not None or any(map(self._processes.alive, self._locks())),
            "sources": self._sources(),
            "datasets": self._datasets(),
            "sinks": self._sinks(),
            "watch": self._watch(),
        }

    def _watch(self) -> dict[str, Any] | None:
        """The process `watch`, and what it does again and again; None where it has nothing to do and never had."""
        ticks = self._ticks
        if not ticks and not self._pipeline.watched:
            return None
        failing = next((one for one in ticks.values() if one.state == "failing"), None)
        error = None if failing is None else failing.error
        told = max((one.updated_at for one in ticks.values()), default=0.0)
        phase = None if not ticks else "running" if failing is None else "retrying"
        return {
            "state": self._phase(WATCH, phase, error, told),
            "error": error,
            "ticks": {
                name: {"state": one.state, "error": one.error, "ran_at": one.ran_at, "seconds": one.seconds} for name, one in ticks.items()
            },
            "machines": self._processes.machines(WATCH),
        }

    def _locks(self) -> list[str]:
        return [INGEST, *(delivering(name) for name in self._pipeline.sinks)]

    def _phase(self, lock: str, told: str | None, error: str | None, when: float = 0.0) -> str:
        """What a process, or a part of it, does now: what it said last, at `when`, holds only while it lives.

        One that is not alive though it has been since its supervisor began is being started again.
        """
        alive = self._processes.alive(lock)
        if not alive and self._supervised is None:
            return "stopped" if self._ran else "starting"
        if told is None or (told == "stopped" and error is None):
            return "starting"
        if alive or told == "stopped":
            return told
        return "retrying" if self._supervised is not None and when > self._supervised else "starting"

    def _sources(self) -> dict[str, Any]:
        known = self._state.sources()
        answer = {}
        for name, block in self._pipeline.sources.items():
            told = known.get(name, SourceReport({}, 0.0))
            tables = {
                table: {
                    **found,
                    "state": self._phase(INGEST, found["state"], found.get("error"), told.updated_at),
                    "error": found.get("error"),
                }
                for table, found in told.get("tables", {}).items()
            }
            if not told:
                tables = {table: {"state": self._phase(INGEST, None, None), "error": None} for table in _literal(block)}
            answer[name] = {
                "state": self._phase(INGEST, told.get("state"), told.get("error"), told.updated_at),
                "error": told.get("error"),
                **{key: told.get(key) for key in _SOURCE},
                "reconnects": told.get("reconnects", 0),
                "unknown_fields": told.get("unknown_fields", {}),
                "tables": tables,
                "machines": self._processes.machines(INGEST),
            }
        return answer

    def _names(self) -> list[str]:
        """Datasets that have had changes, and those that the file names."""
        names = dict.fromkeys(self._pipeline.datasets)
        for source, block in self._pipeline.sources.items():
            bare = {table: table if block.stream is not None else split_name(table)[-1] for table in _literal(block)}
            names |= dict.fromkeys(self._pipeline.dataset_of(source, table) or name for table, name in bare.items())
        return list(names | dict.fromkeys(self._totals))

    def _datasets(self) -> dict[str, Any]:
        waiting: Counter[str] = Counter({} if self._reader is None else self._reader.open_quarantine())
        for (_, dataset), number in self._state.open_refused().items():
            waiting[dataset] += number
        answer: dict[str, Any] = {}
        for name in self._names():
            tally = self._totals.get(name, Tally())
            answer[name] = {
                "in": tally.rows,
                "quarantined": tally.undelivered,
                "dropped": tally.dropped,
                "warned": tally.warned,
                "open_quarantine": waiting[name],
                "incidents": self._incidents.get(name, 0),
            }
            if name in self._pipeline.datasets and self._pipeline.datasets[name].contract is not None:
                answer[name]["contract"] = self._contract(self._pipeline.datasets[name])
            if name in self._pipeline.datasets and self._pipeline.datasets[name].enrich is not None:
                answer[name]["waiting"] = 0 if self._reader is None else self._reader.waiting().get(name, 0)
        return answer

    def _contract(self, dataset: Dataset) -> dict[str, Any]:
        """What judges a dataset, and what waits for approval."""
        if dataset.name not in self._kept:  # nothing has run yet; to read the file would take long, and `check` does
            return ContractStanding(None).answer()
        try:
            return standing_of(dataset, self._kept[dataset.name]).answer()
        except ConfigError as error:
            return ContractStanding(self._kept.get(dataset.name), problem=error).answer()

    def _sinks(self) -> dict[str, Any]:
        known = self._state.sinks()
        return {name: self._sink(block, known.get(name)) for name, block in self._pipeline.sinks.items()}

    def _sink(self, block: SinkBlock, told: SinkProgress | None) -> dict[str, Any]:
        cursor = None
        if told is not None and told.cursor is not None and self._reader is not None and told.journal == self._reader.id:
            cursor = Cursor.decode(told.cursor)
        batches, seconds = (0, 0.0) if self._reader is None else self._reader.lag(0 if cursor is None else cursor.seq)
        counts = {} if cursor is None else cursor.counts
        datasets = {}
        for name in self._names():
            if block.route(name) is not None:
                found = counts.get(name, Counts())
                datasets[name] = {"delivered": found.delivered, "filtered": found.filtered, "quarantined": found.quarantined}
        phase, error, when = (None, None, 0.0) if told is None else (told.state, told.error, told.updated_at)
        return {
            "state": self._phase(delivering(block.name), phase, error, when),
            "error": error,
            "lag_batches": batches,
            "lag_seconds": round(seconds, 3),
            "workers": self._workers(block.name, 1 if cursor is None else cursor.of),
            "waiting_for_copy": [] if cursor is None else sorted(cursor.waiting),
            "datasets": datasets,
            "machines": self._processes.machines(delivering(block.name)),
        }

    def _workers(self, sink: str, of: int) -> list[dict[str, Any]]:
        """Those of this machine and of others, of whom nothing is known here; one process alone is none."""
        known = self._state.sinks()
        found = []
        for number in range(of if of > 1 else 0):
            told = known.get(workers_place(sink, number) if number else sink)
            phase, error, when = (None, None, 0.0) if told is None else (told.state, told.error, told.updated_at)
            lock = Worker(number, of).lock(sink)
            found.append({"worker": number, "state": self._phase(lock, phase, error, when), "error": error})
        return found


def _literal(block: SourceBlock) -> list[str]:
    """The tables that a source names, patterns aside; or the one stream that it is."""
    if block.stream is not None:
        return [block.stream]
    return [table for table in getattr(block.config, "tables", ()) if not is_pattern(table)]
