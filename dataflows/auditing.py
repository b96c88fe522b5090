"""The audit of a pipeline: for each dataset with a contract the windows that are due, and what its owner promises of it as a whole."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

from dataflows.audit_flow import audit_flow
from dataflows.audit_judging import DatasetAudit, Surroundings, WindowVerdict
from dataflows.audit_promises import Promises
from dataflows.audit_windows import Window, Windows, latency
from dataflows.ending import Ending
from dataflows.given import resume_from
from dataflows.lookup_query import read_enrichment
from dataflows.maps import Maps
from dataflows.process import run_flow
from dataflows.records import Places
from dataflows.records_as_changes import RecordShapes
from journal.audits import Audits
from journal.following import Following
from journal.reading import JournalReader
from journal.schema import TableSchema
from pipeline.model import Pipeline
from quality.contract import Contract
from quality.kernels.gx import Reference
from quality.rules import Action

_SOON = 120.0  # seconds between the commit of a change and the minute under which it is counted, at most


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit of a dataset came to: its windows' verdicts are in the state."""

    dataset: str
    windows: int
    changes: int
    unaudited: int


class Auditing:
    """Audits the datasets of a pipeline, in one thread. Great Expectations is loaded when the first rule asks for it."""

    def __init__(self, pipeline: Pipeline, audits: Audits, reference: Callable[[], Reference] | None = None) -> None:
        self._pipeline = pipeline
        self._audits = audits
        self._reference = reference or cache(Reference)

    def dataset(
        self,
        reader: JournalReader,
        name: str,
        contract: Contract,
        now: float,
        go_on: Callable[[], bool] = lambda: True,
        *,
        window: int | None = None,
        again: bool = False,
    ) -> Audit:
        """Audits what has come since the last time, window by window, for as long as `go_on` says so. With `again` the newest window is
        looked at once more where nothing has come. Raises SluiceError; what was found before that is kept."""
        audits = self._audits
        known = audits.place(name)
        windows = Windows(reader, name, known, now)
        promises = Promises(audits, name, contract, now)
        promises.balanced(windows.balance, windows.place)
        promises.kept(reader, windows.standing)
        following = Following(reader)
        done: list[Window] = []

        def judge(one: Window) -> WindowVerdict:
            return judging.judge(one, now, breaker_let_go=_let_go(reader, contract, one))

        def keep(verdict: WindowVerdict) -> None:
            self._keep(verdict, now)
            promises.arrived(latency(verdict.window, following.committed_at))
            done.append(verdict.window)

        rows = window or contract.audit.window
        stretches = windows(rows, go_on)
        first = next(stretches, None)
        if first is None:
            if known is None or replace(known, at=now) != windows.place:
                audits.keep((), windows.place)
            first = windows.again(rows) if again else None
        if first is not None:
            judging = DatasetAudit(contract, self._around(reader, name), self._reference)
            ending = Ending()
            run_flow(audit_flow(chain([first], stretches), judge, keep, ending), ending)
        changes = sum(len(piece.batch) for one in done for piece in one.fresh) + sum(len(one.records) for one in done)
        return Audit(name, len(done), changes, windows.place.unaudited)

    def _keep(self, verdict: WindowVerdict, now: float) -> None:
        """Incidents first: what is told again because the place was not kept does no harm."""
        dataset = verdict.window.dataset
        for one in verdict.seen.values():
            self._audits.seen(dataset, one.kind, one.rule, one.detail, now)
        for kind, rules in verdict.well.items():
            well = rules - {rule for shown, rule in verdict.seen if shown == kind}
            self._audits.over(dataset, kind, now, rules=well)
        self._audits.keep(verdict.lines, verdict.window.place)

    def _around(self, reader: JournalReader, name: str) -> Surroundings:
        pipeline = self._pipeline
        notes = cache(lambda source: reader.resume(source).notes)
        dataset = pipeline.datasets[name]
        waits = any(lookup.on_missing == "wait" for lookup in pipeline.lookups.values())
        return Surroundings(
            notes=notes,
            place=Places(pipeline, notes),
            shapes=RecordShapes(Maps(pipeline), cache(lambda source: resume_from(reader.resume(source)).schemas)),
            plain=self._plain(name),
            by_gate=dataset.enrich is None or not waits,
        )

    def _plain(self, name: str) -> Callable[[TableSchema], Collection[str] | None]:
        file = self._pipeline.datasets[name].enrich
        if file is None:
            return lambda schema: None
        enrichment = read_enrichment(file, {one: lookup.key for one, lookup in self._pipeline.lookups.items()})
        return lambda schema: enrichment.passed_through(schema.names)


def _let_go(reader: JournalReader, contract: Contract, window: Window) -> bool:
    """Whether the breaker has let rows pass that broke rules, when those of the window came."""
    if contract.breaker is None or contract.breaker.action != "warn" or not window.fresh:
        return False
    since = min(int(piece.batch.time.min()) for piece in window.fresh) / 1e6 - _SOON
    held = [rule.id for rule in contract.rules if rule.action is Action.QUARANTINE]
    return any(minute.tally.warned for rule in held for minute in reader.minutes(window.dataset, since, rule))
