"""What contracts promise of datasets as a whole, and is not kept: that data are fresh, come in time, and are complete."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from dataflows.alerts.ownership import Ownership
from journal.local import JournalReader
from journal.state import State
from pipeline.model import Pipeline
from quality.alerts.conditions import Condition, Kind, Subject
from quality.alerts.discreet import command
from quality.alerts.payload import percent
from quality.contract import Contract

DAY = 86_400.0
"""Seconds over which completeness is looked at."""


def broken_promises(pipeline: Pipeline, ownership: Ownership, reader: JournalReader, state: State, now: float) -> Iterator[Condition]:
    """Those of all datasets whose contracts promise anything. Nothing is said of a dataset that nothing has come of yet."""
    promising = {name: contract for name in pipeline.datasets if (contract := ownership.contract(name)) is not None}
    promising = {name: contract for name, contract in promising.items() if contract.service_levels}
    if not promising:
        return
    totals = reader.totals()
    behind = dict(_behind(pipeline, reader, state))
    report = command("sluice", "report", str(pipeline.file))
    for name, contract in promising.items():
        if name not in totals:
            continue
        newest = totals[name].last_time
        limit = contract.within("freshness")
        if limit is not None and newest and now - newest / 1e6 > limit:
            what = f"the newest change is of {_moment(newest / 1e6)}, and the contract promises that none is older than {duration(limit)}"
            yield Condition(f"freshness/{name}", Kind.FRESHNESS, Subject(name), what, newest / 1e6 + limit, report)
        allowed = contract.within("latency") or limit
        for sink, seconds in behind.items() if allowed is not None else ():
            if seconds > (allowed or 0.0) and pipeline.sinks[sink].route(name) is not None:
                what = f"the sink {sink} is behind by more than the {duration(allowed or 0.0)} that the contract promises"
                status = command("sluice", "status", str(pipeline.file))
                since = now - seconds + (allowed or 0.0)
                yield Condition(f"freshness/{name}/{sink}", Kind.FRESHNESS, Subject(name), what, since, status)
        yield from _incomplete(name, contract, reader, now, report)


def _incomplete(name: str, contract: Contract, reader: JournalReader, now: float, report: str) -> Iterator[Condition]:
    promised = contract.completeness
    if promised is None:
        return
    tallies = [minute.tally for minute in reader.minutes(name, now - DAY)]
    rows = sum(tally.rows for tally in tallies)
    missing = sum(tally.quarantined + tally.dropped - tally.released for tally in tallies)
    if rows and 1 - missing / rows < promised:
        what = f"more of the changes of 24 hours is held back than the {percent(1 - promised)} that the contract allows"
        yield Condition(f"completeness/{name}", Kind.COMPLETENESS, Subject(name), what, now, report, missing, rows)


def _behind(pipeline: Pipeline, reader: JournalReader, state: State) -> Iterator[tuple[str, float]]:
    """For how many seconds a sink has not had what it could have."""
    for name, told in state.sinks().items():
        if name in pipeline.sinks and told.journal == reader.id:
            yield name, reader.lag(told.seq)[1]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="minutes").replace("+00:00", " UTC")


def duration(seconds: float) -> str:
    """A length of time, in the unit that a person would use."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
