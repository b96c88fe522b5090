"""What is the case with a pipeline now, as far as somebody has to know of it: from its journal and its state, by reading alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import accumulate

from dataflows.alerts.lateness import late_sinks
from dataflows.alerts.ownership import Ownership
from dataflows.alerts.pending import PendingContracts
from dataflows.audit_promises import TRIPPED
from dataflows.build import dataset_name
from journal.alerting import Kept
from journal.audits import Audits, Incident
from journal.local import JournalReader
from journal.opening import has_journal
from journal.quarantine import Cause
from journal.state import SourceReport, State
from pipeline.errors import SluiceError
from pipeline.model import Pipeline
from quality.alerts.conditions import Blind, Condition, Kind, Seen, Subject, decoded
from quality.alerts.discreet import cause_told, command, error_told
from quality.alerts.payload import clean

MOST_CAUSES = 100
"""Of a dataset, that are told one by one: the oldest. Those that came later are told as one."""
_OF_JOURNAL = (Kind.CAUSE, Kind.LATE, Kind.APPROVAL, Kind.CONTRACT)
_PROMISES = {"freshness": Kind.FRESHNESS, "latency": Kind.LATE, "completeness": Kind.COMPLETENESS}
"""Incidents that have a kind of their own here."""
_FIXED = ("patched", "rule-changed")
"""What records are that wait for approval."""


class Observing:
    """Looks at a pipeline, again and again, from one thread; keeps journal and state open meanwhile."""

    def __init__(self, pipeline: Pipeline, ownership: Ownership) -> None:
        self._pipeline = pipeline
        self._ownership = ownership
        self._held = ExitStack()
        self._state = self._held.enter_context(closing(State.open(pipeline.state)))
        self._audits = self._held.enter_context(closing(Audits.open(pipeline.state)))
        self._reader: JournalReader | None = None
        self._causes: Sequence[Cause] | None = None
        self._known: Mapping[str, Kept] = {}
        self._now = 0.0
        self._pending = PendingContracts(pipeline)

    def look(self, now: float, known: Mapping[str, Kept]) -> Seen:
        """All that is the case. What is `known` says since when it has been. Raises SluiceError where the state cannot be read."""
        self._known, self._now = known, now
        self._ownership.refresh()
        conditions = [*self._sources(), *self._sinks(), *self._incidents()]
        blind: Blind = ()
        try:
            reader = self._opened()
            if reader is None:
                blind = [(kind, None) for kind in _OF_JOURNAL]
            else:
                conditions += [*self._quarantine(reader), *self._unapproved(reader)]
                conditions += self._pending.conditions(reader)
                conditions += late_sinks(self._pipeline, self._ownership, reader, self._state, now)
        except SluiceError:  # what is wrong with the journal ingest says of itself
            blind = [(kind, None) for kind in _OF_JOURNAL]
        return Seen([self._lasting(condition) for condition in conditions], blind)

    def _opened(self) -> JournalReader | None:
        """The journal, up to date; opened anew where it is another file than before. None before the first run."""
        there = has_journal(self._pipeline)  # brings a copy of topics up to date
        if self._reader is not None and self._reader.gone():
            self._reader.close()
            self._reader = None
        if self._reader is None and there:
            self._reader = JournalReader.open(self._pipeline.state, self._pipeline.name)
            self._causes = None
        return self._reader

    def _lasting(self, condition: Condition) -> Condition:
        """In one line of bounded length, with the time since when it has been so, which for some of them nobody has put down."""
        condition = replace(condition, what=clean(condition.what))
        known = self._known.get(condition.key)
        if known is None or known.phase == "over" or condition.kind is Kind.CAUSE:
            return condition
        return replace(condition, since=min(condition.since, decoded(known.content).since))

    def _sources(self) -> Iterator[Condition]:
        for name, told in self._state.sources().items():
            if name not in self._pipeline.sources:
                continue
            if told.get("state") == "stopped" and told.get("error"):
                said = error_told(told["error"], sensitive=self._ownership.sensitive(None))
                yield self._stopped(f"stopped/source/{name}", Subject(source=name), f"the source {name} has stopped: {said}")
                continue
            yield from self._tables(name, told)

    def _tables(self, source: str, told: SourceReport) -> Iterator[Condition]:
        tripped: Mapping[str, str] = told.get("breakers") or {}
        for dataset, said in tripped.items():
            what = f"the breaker of {dataset} has tripped: {said}"
            yield Condition(f"breaker/{dataset}", Kind.BREAKER, Subject(dataset), what, self._now, self._list(dataset))
        for table, found in told.get("tables", {}).items():
            dataset = dataset_name(self._pipeline, source, table)
            if found.get("state") == "stopped" and found.get("error") and dataset not in tripped:
                said = error_told(found["error"], sensitive=self._ownership.sensitive(dataset))
                what = f"the table {table} of {source} has stopped: {said}"
                yield self._stopped(f"stopped/table/{source}/{table}", Subject(dataset), what)

    def _sinks(self) -> Iterator[Condition]:
        stopped: dict[str, str] = {}
        for place, told in self._state.sinks().items():
            name = place.partition("/")[0]  # of one worker of several
            if name in self._pipeline.sinks and told.state == "stopped" and told.error:
                stopped.setdefault(name, told.error)
        for name, error in stopped.items():
            said = error_told(error, sensitive=self._ownership.sensitive(None))
            yield self._stopped(f"stopped/sink/{name}", Subject(sink=name), f"the sink {name} has stopped: {said}")

    def _incidents(self) -> Iterator[Condition]:
        for one in self._audits.incidents():
            if one.dataset in self._pipeline.datasets and one.kind != TRIPPED:  # which the source's own words tell sooner
                yield self._incident(one)

    def _incident(self, one: Incident) -> Condition:
        kind = _PROMISES.get(one.kind, Kind.INCIDENT)
        what = str(one.detail.get("message") or one.kind)
        if kind is Kind.INCIDENT:
            said = error_told(what, sensitive=self._ownership.sensitive(one.dataset))
            what = f"{one.kind}: {said}" + (f" (rule {one.rule})" if one.rule else "")
        count = one.detail.get("count")
        shown = command("sluice", "report", str(self._pipeline.file))
        key = f"incident/{one.dataset}/{one.kind}/{one.rule}"
        return Condition(key, kind, Subject(one.dataset), what, one.since, shown, count if isinstance(count, int) else None)

    def _stopped(self, key: str, subject: Subject, what: str) -> Condition:
        return Condition(key, Kind.STOPPED, subject, what, self._now, command("sluice", "status", str(self._pipeline.file)))

    def _quarantine(self, reader: JournalReader) -> Iterator[Condition]:
        if reader.changed() or self._causes is None:
            self._causes = reader.causes()
        refused = [cause for cause in self._state.refused_causes() if cause.sink in self._pipeline.sinks]
        by_dataset: dict[str, list[Cause]] = {}
        for cause in sorted([*self._causes, *refused], key=lambda one: (one.first_at, one.group)):
            by_dataset.setdefault(cause.dataset, []).append(cause)
        for dataset, causes in by_dataset.items():
            arrived = _Arrivals(reader, dataset, causes[0].first_at)
            shown, others = causes[:MOST_CAUSES], causes[MOST_CAUSES:]
            yield from (self._cause(cause, arrived.since(cause.first_at)) for cause in shown)
            if others:
                what, first = "further causes in quarantine", others[0].first_at
                records, of = sum(cause.records for cause in others), arrived.since(first)
                key = f"quarantine/{dataset}/others"
                yield Condition(key, Kind.CAUSE, Subject(dataset), what, first, self._list(dataset), records, of, len(others))

    def _unapproved(self, reader: JournalReader) -> Iterator[Condition]:
        after = self._pipeline.alerts.approval_after if self._pipeline.alerts is not None else None
        if after is None:
            return
        waiting = Counter(reader.statuses(*_FIXED))
        for dataset, found in self._state.refused_statuses(list(self._pipeline.sinks)).items():
            waiting[dataset] += sum(found.statuses.get(status, 0) for status in _FIXED)
        for dataset, records in waiting.items():
            if records:
                what = "fixed records wait for somebody to approve them"
                shown = self._list(dataset, "--status", _FIXED[0])
                key = f"approval/{dataset}"
                yield Condition(key, Kind.APPROVAL, Subject(dataset), what, self._now, shown, records, lasting=after)

    def _cause(self, cause: Cause, of: int) -> Condition:
        contract, sensitive = self._ownership.contract(cause.dataset), self._ownership.sensitive(cause.dataset)
        shaped = not self._ownership.hides(cause.dataset, cause.reason.column)
        said = cause_told(cause.reason, cause.pattern, contract, sensitive=sensitive, shaped=shaped)
        what = said if cause.sink is None else f"the sink {cause.sink} refuses records: {said}"
        key = f"quarantine/{cause.dataset}/{cause.group}"
        shown = self._list(cause.dataset, "--group", cause.group)
        return Condition(key, Kind.CAUSE, Subject(cause.dataset), what, cause.first_at, shown, cause.records, of)

    def _list(self, dataset: str, *more: str) -> str:
        return command("sluice", "quarantine", "list", str(self._pipeline.file), "--dataset", dataset, *more)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._held.close()


class _Arrivals:
    """How many changes of a dataset came since a time."""

    def __init__(self, reader: JournalReader, dataset: str, since: float) -> None:
        minutes = reader.minutes(dataset, since)
        self._starts = [minute.start for minute in minutes]
        self._before = [0, *accumulate(minute.tally.rows for minute in minutes)]

    def since(self, time: float) -> int:
        """In its minute, and after it."""
        return self._before[-1] - self._before[bisect_left(self._starts, int(time // 60) * 60)]
