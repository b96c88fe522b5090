"""Whose a dataset is, and what may be told of it, as its contract says now."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog

from dataflows.contracts_in_force import in_force
from pipeline.errors import ConfigError, SluiceError
from pipeline.model import Pipeline
from quality.alerts.conditions import Subject
from quality.alerts.recipients import Whose
from quality.contract import Contract
from quality.contract_reading import load_contract

log = structlog.get_logger("sluice.alerts")


class Ownership:
    """The contracts of a pipeline: those in force. A file is read again when it has changed; while one cannot be read, what it said last
    counts."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._read: dict[Path, tuple[object, Contract | None]] = {}

    def refresh(self) -> None:
        """Looks what is in force now; what was stays while that cannot be seen."""
        with suppress(SluiceError):
            self._pipeline = in_force(self._pipeline)

    def contract(self, dataset: str | None) -> Contract | None:
        """The contract of a dataset; None where it has none, or one that could never be read."""
        block = self._pipeline.datasets.get(dataset) if dataset is not None else None
        if block is None or block.contract is None:
            return None
        return self._contract(*block.in_force) if block.in_force is not None else self._written(block.contract)

    def _written(self, file: Path) -> Contract | None:
        try:
            found = file.stat()
        except OSError:
            return self._last(file)
        return self._contract(file, None, (found.st_mtime_ns, found.st_size))

    def _contract(self, file: Path, text: str | None, mark: object = None) -> Contract | None:
        mark = text if text is not None else mark
        if file not in self._read or self._read[file][0] != mark:
            contract = self._last(file)
            try:
                contract = load_contract(file, text)
            except ConfigError as error:
                log.warning("contract cannot be read", file=str(file), error=error.message)
            self._read[file] = (mark, contract)
        return self._last(file)

    def _last(self, file: Path) -> Contract | None:
        return self._read[file][1] if file in self._read else None

    def _contracts(self, dataset: str) -> list[Contract | None]:
        """The contract in force, and the one in the file: what either hides is hidden."""
        block = self._pipeline.datasets.get(dataset)
        if block is None or block.contract is None:
            return []
        return [self.contract(dataset), *([self._written(block.contract)] if block.in_force is not None else [])]

    def sensitive(self, dataset: str | None) -> bool:
        """Whether a dataset has values that are not for everybody; of None: whether any has. A contract that cannot be read may say so."""
        names = list(self._pipeline.datasets) if dataset is None else [dataset]
        return any(contract is None or contract.sensitive for name in names for contract in self._contracts(name))

    def hides(self, dataset: str, column: str | None) -> bool:
        """Whether not even the shape of the values of a column is told; of several columns (None) where any is sensitive."""
        if column is None:
            return self.sensitive(dataset)
        hidden = [
            contract is None or column not in contract.columns or contract.columns[column].sensitive
            for contract in self._contracts(dataset)
        ]
        return self.sensitive(dataset) and any(hidden)

    def whose(self, subject: Subject) -> Whose:
        """Who is told of a subject."""
        contract = self.contract(subject.dataset)
        owner, contacts = (None, ()) if contract is None else (contract.owner, tuple(contract.contacts))
        return Whose(subject.dataset, owner, self._pipeline.owner, contacts)
