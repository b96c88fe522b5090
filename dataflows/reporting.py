"""Gathers the numbers of the owners' reports from the journal and the state."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from dataflows.build import contracts
from dataflows.ingest import EVERY_RULE
from dataflows.progress import counts_of
from journal.ledger import Tally
from journal.local import JournalReader
from journal.opening import find_reader
from journal.quarantine import Cause, Wanted
from journal.state import SinkProgress, State
from pipeline.model import Pipeline
from quality.contract import Contract
from quality.report.model import Cause as CauseOnPage
from quality.report.model import DatasetReport, RuleLine, SinkLine
from quality.report.page import write_reports
from quality.rules import Scope

_SAMPLES = 3


def report(pipeline: Pipeline, folder: Path) -> list[Path]:
    """Writes the reports of a pipeline into `folder`, whether or not it runs. Returns the paths of the files."""
    rules = contracts(pipeline)
    found = find_reader(pipeline)
    if found is None:
        now = datetime.now(UTC)
        names = sorted({*pipeline.datasets, *rules})
        return write_reports([_nothing(pipeline, name, rules.get(name), now) for name in names], folder)
    with found as reader:
        state = State.open(pipeline.state)
        try:
            return write_reports(_reports(pipeline, rules, reader, state), folder)
        finally:
            state.close()


def _reports(pipeline: Pipeline, rules: Mapping[str, Contract], reader: JournalReader, state: State) -> list[DatasetReport]:
    last, totals = reader.balance()
    names = {schema.dataset for source in pipeline.sources for schema in reader.resume(source).schemas.values()}
    names |= {*totals, *pipeline.datasets}
    return [_dataset(pipeline, name, rules.get(name), reader, state, totals.get(name, Tally()), last) for name in sorted(names)]


def _dataset(
    pipeline: Pipeline, name: str, contract: Contract | None, reader: JournalReader, state: State, total: Tally, last: int
) -> DatasetReport:
    sinks = state.sinks()
    causes = [*reader.causes(name), *(cause for cause in state.refused_causes(name) if cause.sink in pipeline.sinks)]
    return DatasetReport(
        pipeline=pipeline.name,
        dataset=name,
        owner=(contract.owner if contract else None) or pipeline.owner,
        contract=_title(contract),
        written_at=datetime.now(UTC),
        rows_in=total.rows,
        quarantined=total.undelivered,
        dropped=total.dropped,
        open_quarantine=sum(cause.records for cause in causes),
        first_position=None if total.first_ordinal is None else str(total.first_ordinal),
        last_position=None if total.last_ordinal is None else str(total.last_ordinal),
        first_time=_moment(total.first_time),
        last_time=_moment(total.last_time),
        sinks=[_sink(sink, name, total, sinks.get(sink), last) for sink, block in pipeline.sinks.items() if block.route(name) is not None],
        rules=[] if contract is None else _rules(contract, reader.rule_totals(name)),
        causes=[_cause(pipeline, cause, contract, reader) for cause in causes],
    )


def _nothing(pipeline: Pipeline, name: str, contract: Contract | None, now: datetime) -> DatasetReport:
    return DatasetReport(
        pipeline=pipeline.name, dataset=name, owner=(contract.owner if contract else None) or pipeline.owner, contract=_title(contract),
        written_at=now, rows_in=0, quarantined=0, dropped=0, open_quarantine=0, first_position=None, last_position=None, first_time=None,
        last_time=None,
    )  # fmt: skip


def _title(contract: Contract | None) -> str | None:
    return None if contract is None else f"{contract.name or contract.id} {contract.version}"


def _moment(micros: int | None) -> datetime | None:
    return None if not micros else datetime.fromtimestamp(micros / 1e6, UTC)


def _sink(sink: str, dataset: str, total: Tally, progress: SinkProgress | None, last: int) -> SinkLine:
    counts = counts_of(progress, dataset)
    return SinkLine(
        sink=sink,
        rows_in=total.rows,
        delivered=counts.delivered,
        filtered=counts.filtered,
        quarantined=total.undelivered + counts.quarantined,
        dropped=total.dropped,
        caught_up=progress is not None and progress.seq == last,
    )


def _rules(contract: Contract, totals: Mapping[str, Tally]) -> list[RuleLine]:
    judged = totals.get(EVERY_RULE, Tally()).evaluated
    return [
        RuleLine(
            rule=rule.id,
            columns=", ".join(rule.columns),
            action=rule.action.value,
            engine=rule.compile(contract.types_in_files).engine,
            evaluated=judged,
            failed=totals.get(rule.id, Tally()).failed,
        )
        for rule in contract.rules
        if rule.scope is not Scope.SET
    ]


def _cause(pipeline: Pipeline, cause: Cause, contract: Contract | None, reader: JournalReader) -> CauseOnPage:
    """A cause with the values of some of its records, which are masked already where the contract says so."""
    wanted = Wanted(dataset=cause.dataset, status="open", group=cause.group)
    records = [] if cause.sink else reader.quarantined(wanted, limit=_SAMPLES)
    values = [record.reasons[0].value for record in records]
    return CauseOnPage(
        group=cause.group,
        rule=cause.reason.rule,
        column=cause.reason.column,
        message=cause.reason.message,
        records=cause.records,
        since=datetime.fromtimestamp(cause.first_at, UTC),
        samples=list(dict.fromkeys("null" if value is None else value for value in values)),
        command=f"sluice quarantine list {shlex.quote(str(pipeline.file))} --dataset {shlex.quote(cause.dataset)} --group {cause.group}",
    )
