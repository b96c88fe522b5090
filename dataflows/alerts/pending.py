"""Contracts that were changed and are not in force: they break what others rely on, or are not sound."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dataflows.contracts_in_force import ContractStanding, standing_of
from journal import contracts
from journal.contracts import KeptContract
from journal.local import JournalReader
from pipeline.errors import ConfigError
from pipeline.model import Dataset, Pipeline
from quality.alerts.conditions import Condition, Kind, Subject
from quality.alerts.discreet import command

_MOST = 3  # changes that are named


class PendingContracts:
    """Those of a pipeline. Files are compared again when they have changed."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._known: dict[str, tuple[object, str | None]] = {}

    def conditions(self, reader: JournalReader) -> Iterator[Condition]:
        """One for each dataset whose file waits. None before the first start, when nothing is in force."""
        with reader.view() as (db, _):
            kept = contracts.in_force(db)
        for name, dataset in self._pipeline.datasets.items():
            said = self._said(dataset, kept[name]) if name in kept and dataset.contract is not None else None
            if said is not None:
                shown = command("sluice", "status", str(self._pipeline.file))
                yield Condition(f"contract/{name}", Kind.CONTRACT, Subject(name), said, time.time(), shown)

    def _said(self, dataset: Dataset, kept: KeptContract) -> str | None:
        """What is told of a contract that waits."""
        mark = (kept.n, _mark(dataset))
        if dataset.name not in self._known or self._known[dataset.name][0] != mark:
            try:
                said = _told(standing_of(dataset, kept), kept)
            except ConfigError as error:
                said = error.message
            self._known[dataset.name] = (mark, said)
        return self._known[dataset.name][1]


def _mark(dataset: Dataset) -> object:
    """What a file had when it was looked at."""
    try:
        found = dataset.contract.stat() if dataset.contract is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size)


def _told(standing: ContractStanding, kept: KeptContract) -> str | None:
    if standing.problem is not None:
        return f"the contract in the file is not sound, so {kept.version}, which is in force, judges"
    if standing.diff is None or standing.written is None or not standing.pending:
        return None
    breaking = [f"{one.subject}: {one.says}" for one in standing.diff.breaking]
    more = f"; and {len(breaking) - _MOST} more" if len(breaking) > _MOST else ""
    said = "; ".join(breaking[:_MOST]) + more
    return f"the contract {standing.written.version} waits for approval, until then {kept.version} judges: {said}"
