"""Gathers the numbers of the owners' reports from the journal and the state."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from dataflows.build import contracts
from dataflows.contracts_in_force import in_force
from dataflows.hidden import Hidden
from dataflows.ingest import EVERY_RULE
from dataflows.progress import counts_of
from dataflows.quality_numbers import QualityNumbers
from dataflows.report_audits import agreement_of, incidents_of
from dataflows.report_causes import approvals, causes_of, list_command
from dataflows.report_changes import changes_of
from dataflows.report_contracts import written_of
from journal.audits import Audits
from journal.history import History
from journal.ledger import Tally
from journal.local import JournalReader
from journal.opening import find_reader
from journal.state import State
from journal.trouble import may_write
from pipeline.model import Pipeline
from quality.contract import Contract
from quality.report.effectiveness import WINDOW
from quality.report.levels import Measured, freshness_of, level_lines
from quality.report.model import Cell, Contact, DatasetReport, RuleLine, SinkLine
from quality.report.page import write_reports
from quality.rules import Rule, Scope

_LONGEST = 400  # characters of what a rule says


def report(pipeline: Pipeline, folder: Path) -> list[Path]:
    """Writes the reports of a pipeline into `folder`, whether or not it runs. Returns the paths of the files."""
    rules = contracts(in_force(pipeline))
    found = find_reader(pipeline)
    if found is None:
        names = sorted({*pipeline.datasets, *rules})
        return write_reports(pipeline.name, [_nothing(pipeline, name, rules.get(name)) for name in names], folder)
    with found as reader, closing(State.open(pipeline.state)) as state, closing(History.open(pipeline.state)) as history:
        numbers = QualityNumbers(pipeline, rules, reader, state, history)
        if may_write(pipeline.state):  # what is seen at this moment is kept for reports to come
            history.keep([numbers.sample(name) for name in numbers.datasets])
        with closing(Audits.open(pipeline.state)) as audits:
            reports = [_Gathering(name, numbers, reader, state, audits).report() for name in numbers.datasets]
        return write_reports(pipeline.name, reports, folder)


class _Gathering:
    """One dataset's report."""

    def __init__(self, name: str, numbers: QualityNumbers, reader: JournalReader, state: State, audits: Audits) -> None:
        self._name = name
        self._numbers = numbers
        self._pipeline = numbers.pipeline
        self._contract = numbers.contracts.get(name)
        self._total = numbers.totals.get(name, Tally())
        self._reader = reader
        self._state = state
        self._audits = audits

    def report(self) -> DatasetReport:
        name, numbers, pipeline, contract, total = self._name, self._numbers, self._pipeline, self._contract, self._total
        waiting = numbers.waiting(name)
        written = written_of(pipeline, name, numbers.kept.get(name))
        hidden = Hidden(pipeline, numbers.kept)(name)
        silent = numbers.gone(name) or hidden is None  # nobody says which values may be shown
        causes, left = causes_of(pipeline, name, numbers.groups, hidden or frozenset(), self._reader, self._state, silent)
        effectiveness = numbers.effectiveness(name)
        lately = numbers.lately(name)
        budget = numbers.budget(name, lately)
        now = datetime.fromtimestamp(numbers.now, UTC)
        levels = contract.service_levels if contract else ()
        return DatasetReport(
            pipeline=pipeline.name,
            dataset=name,
            owner=numbers.owner(name),
            contract=_title(contract),
            written_at=now,
            rows_in=total.rows,
            quarantined=total.undelivered,
            dropped=total.dropped,
            open_quarantine=waiting.open,
            first_position=None if total.first_ordinal is None else str(total.first_ordinal),
            last_position=None if total.last_ordinal is None else str(total.last_ordinal),
            first_time=_moment(total.first_time),
            last_time=_moment(total.last_time),
            sinks=[self._sink(sink) for sink, block in pipeline.sinks.items() if block.route(name) is not None],
            rules=self._rules(),
            causes=causes,
            gone=numbers.gone(name),
            contract_file=self._file(),
            contract_written=written.version,
            contacts=_contacts(contract),
            statuses=waiting.statuses,
            causes_left=left,
            list_command=list_command(pipeline, name),
            oldest=None if waiting.oldest is None else datetime.fromtimestamp(waiting.oldest, UTC),
            levels=level_lines(levels, numbers.measured(name, lately), now),
            freshness_level=freshness_of(levels),
            trend=numbers.trend(name, budget),
            heat=self._heat(),
            effectiveness=effectiveness,
            budget=budget,
            pending=[*([written.pending] if written.pending else []), *approvals(pipeline, name, waiting.statuses.get("patched", 0))],
            incidents=incidents_of(pipeline, name, self._audits, None if contract is None else hidden),
            agreement=agreement_of(name, self._audits, numbers.now - WINDOW),
            changes=changes_of(name, numbers.known, self._reader),
            refused=numbers.refused_changes(name),
        )

    def _file(self) -> str | None:
        block = self._pipeline.datasets.get(self._name)
        return None if block is None or block.contract is None else str(block.contract)

    def _sink(self, sink: str) -> SinkLine:
        total, progress = self._total, self._numbers.sinks.get(sink)
        counts = counts_of(progress, self._name)
        return SinkLine(
            sink=sink,
            rows_in=total.rows,
            delivered=counts.delivered,
            filtered=counts.filtered,
            quarantined=total.undelivered + counts.quarantined,
            dropped=total.dropped,
            refused=counts.quarantined,
            caught_up=progress is not None and progress.journal == self._reader.id and progress.seq == self._numbers.last,
        )

    def _over_rows(self) -> list[Rule]:
        return [rule for rule in self._contract.rules if rule.scope is not Scope.SET] if self._contract else []

    def _rules(self) -> list[RuleLine]:
        found = self._over_rows()
        if not found or self._contract is None:
            return []
        totals = self._numbers.rule_totals.get(self._name, {})
        judged = totals.get(EVERY_RULE, Tally()).evaluated
        asked = self._numbers.rule_counts(self._name, EVERY_RULE)
        return [
            RuleLine(
                rule=rule.id,
                columns=", ".join(rule.columns),
                action=rule.action.value,
                engine=rule.compile(self._contract.types_in_files).engine,
                evaluated=judged,
                failed=totals.get(rule.id, Tally()).failed,
                kind=rule.kind,
                says=rule.says if len(rule.says) <= _LONGEST else rule.says[:_LONGEST] + "…",
                severity=rule.severity,
                trend=[
                    None if not of.evaluated else max(0.0, 1 - found.failed / of.evaluated)
                    for of, found in zip(asked, self._numbers.rule_counts(self._name, rule.id), strict=True)
                ],
            )
            for rule in found
        ]

    def _heat(self) -> list[Cell]:
        judged = sum(tally.evaluated for tally in self._numbers.rule_counts(self._name, EVERY_RULE))
        failed: dict[tuple[str, str], int] = {}
        for rule in self._over_rows():
            broken = sum(tally.failed for tally in self._numbers.rule_counts(self._name, rule.id))
            for column in [rule.column] if rule.column is not None else rule.columns:
                at = (rule.kind, column)
                failed[at] = failed.get(at, 0) + broken
        return [Cell(kind, column, number, judged) for (kind, column), number in failed.items()]


def _nothing(pipeline: Pipeline, name: str, contract: Contract | None) -> DatasetReport:
    """Of a dataset of which nothing has been read."""
    now = datetime.now(UTC)
    return DatasetReport(
        pipeline=pipeline.name,
        dataset=name,
        owner=(contract.owner if contract else None) or pipeline.owner,
        contract=_title(contract),
        written_at=now,
        rows_in=0,
        quarantined=0,
        dropped=0,
        open_quarantine=0,
        first_position=None,
        last_position=None,
        first_time=None,
        last_time=None,
        contract_file=None if contract is None else str(contract.file),
        contacts=_contacts(contract),
        levels=level_lines(contract.service_levels if contract else (), Measured(), now),
    )


def _title(contract: Contract | None) -> str | None:
    return None if contract is None else f"{contract.name or contract.id} {contract.version}"


def _contacts(contract: Contract | None) -> Sequence[Contact]:
    return [Contact(one.channel, one.tool, one.url) for one in contract.contacts] if contract else []


def _moment(micros: int | None) -> datetime | None:
    return None if not micros else datetime.fromtimestamp(micros / 1e6, UTC)
