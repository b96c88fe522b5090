"""Whose a dataset is, and what may be told of it, as its contract says now."""

from __future__ import annotations

from pathlib import Path

import structlog

from pipeline.errors import ConfigError
from pipeline.model import Pipeline
from quality.alerts.conditions import Subject
from quality.alerts.recipients import Whose
from quality.contract import Contract
from quality.contract_reading import load_contract

log = structlog.get_logger("sluice.alerts")


class Ownership:
    """The contracts of a pipeline. A file is read again when it has changed; while one cannot be read, what it said last counts."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._read: dict[Path, tuple[tuple[int, int], Contract | None]] = {}

    def contract(self, dataset: str | None) -> Contract | None:
        """The contract of a dataset; None where it has none, or one that could never be read."""
        block = self._pipeline.datasets.get(dataset) if dataset is not None else None
        if block is None or block.contract is None:
            return None
        try:
            found = block.contract.stat()
        except OSError:
            return self._last(block.contract)
        mark = (found.st_mtime_ns, found.st_size)
        if block.contract not in self._read or self._read[block.contract][0] != mark:
            contract = self._last(block.contract)
            try:
                contract = load_contract(block.contract)
            except ConfigError as error:
                log.warning("contract cannot be read", dataset=dataset, error=error.message)
            self._read[block.contract] = (mark, contract)
        return self._last(block.contract)

    def _last(self, file: Path) -> Contract | None:
        return self._read[file][1] if file in self._read else None

    def sensitive(self, dataset: str | None) -> bool:
        """Whether a dataset has values that are not for everybody; of None: whether any has. A contract that cannot be read may say so."""
        names = list(self._pipeline.datasets) if dataset is None else [dataset]
        return any(self._is_sensitive(name) for name in names)

    def _is_sensitive(self, dataset: str) -> bool:
        block = self._pipeline.datasets.get(dataset)
        if block is None or block.contract is None:
            return False
        contract = self.contract(dataset)
        return contract is None or contract.sensitive

    def whose(self, subject: Subject) -> Whose:
        """Who is told of a subject."""
        contract = self.contract(subject.dataset)
        owner, contacts = (None, ()) if contract is None else (contract.owner, tuple(contract.contacts))
        return Whose(subject.dataset, owner, self._pipeline.owner, contacts)
