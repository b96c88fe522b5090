"""Sinks that are behind by more than contracts promise. What else contracts promise of datasets as a whole the auditor looks after."""

from __future__ import annotations

from collections.abc import Iterator

from dataflows.alerts.ownership import Ownership
from journal.local import JournalReader
from journal.state import State
from pipeline.model import Pipeline
from quality.alerts.conditions import Condition, Kind, Subject
from quality.alerts.discreet import command


def late_sinks(pipeline: Pipeline, ownership: Ownership, reader: JournalReader, state: State, now: float) -> Iterator[Condition]:
    """For each dataset the sinks that have not had for too long what they could have: longer than its `latency`, else its `freshness`."""
    allowed = {name: seconds for name in pipeline.datasets if (seconds := _allowed(ownership, name)) is not None}
    if not allowed:
        return
    shown = command("sluice", "status", str(pipeline.file))
    for sink, told in state.sinks().items():
        if sink not in pipeline.sinks:
            continue
        behind = reader.lag(told.seq if told.journal == reader.id else 0)[1]
        for dataset, seconds in allowed.items():
            if behind > seconds and pipeline.sinks[sink].route(dataset) is not None:
                what = f"the sink {sink} is behind by more than the {duration(seconds)} that the contract promises"
                key = f"late/{dataset}/{sink}"
                yield Condition(key, Kind.LATE, Subject(dataset), what, now - behind + seconds, shown)


def _allowed(ownership: Ownership, dataset: str) -> float | None:
    contract = ownership.contract(dataset)
    return None if contract is None else contract.within("latency") or contract.within("freshness")


def duration(seconds: float) -> str:
    """A length of time, in the unit that a person would use."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
