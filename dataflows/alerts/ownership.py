"""Whose a dataset is, and what may be told of it, as its contract says now."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog

from dataflows.contracts_in_force import in_force, text_of
from dataflows.hidden import Hidden
from pipeline.errors import ConfigError, SluiceError
from pipeline.model import Pipeline
from quality.alerts.conditions import Subject
from quality.alerts.recipients import Whose
from quality.contract import Contract
from quality.contract_reading import load_contract

log = structlog.get_logger("sluice.alerts")


class Ownership:
    """The contracts of a pipeline: those in force, as of the last `refresh`, or before the first start those in the files. While one cannot
    be read, what it said last counts; while nobody has seen which are in force, all is the pipeline's owner's, and nothing is shown."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._hidden: Hidden | None = None
        self._read: dict[Path, tuple[str | None, Contract | None]] = {}

    def refresh(self) -> None:
        """Looks what is in force now; what was stays while that cannot be seen."""
        with suppress(SluiceError):
            self._pipeline = in_force(self._pipeline)
            self._hidden = Hidden(self._pipeline)

    def contract(self, dataset: str | None) -> Contract | None:
        """The contract of a dataset; None where it has none, or one that could never be read."""
        block = self._pipeline.datasets.get(dataset) if dataset is not None else None
        if block is None or block.contract is None or self._hidden is None:
            return None
        return self._contract(*(block.in_force or (block.contract, text_of(block.contract))))

    def _contract(self, file: Path, text: str | None) -> Contract | None:
        before, contract = self._read.get(file, (None, None))
        if text is not None and text != before:
            try:
                contract = load_contract(file, text)
            except ConfigError as error:
                log.warning("contract cannot be read", file=str(file), error=error.message)
            self._read[file] = text, contract
        return contract

    def sensitive(self, dataset: str | None) -> bool:
        """Whether a dataset has values that are not for everybody; of None: whether any has. A contract that cannot be read may say so."""
        if self._hidden is None:
            return True
        return any(map(self._hidden.any, self._pipeline.datasets if dataset is None else [dataset]))

    def hides(self, dataset: str, column: str | None) -> bool:
        """Whether not even the shape of the values of a column is told: of a dataset that has something to hide, of what is hidden, of what
        its contract does not name, and of several columns (None)."""
        if column is None or self._hidden is None or not self._hidden.any(dataset):
            return self.sensitive(dataset)
        hidden, contract = self._hidden(dataset), self.contract(dataset)
        return hidden is None or column in hidden or contract is None or column not in contract.columns

    def whose(self, subject: Subject) -> Whose:
        """Who is told of a subject."""
        contract = self.contract(subject.dataset)
        owner, contacts = (None, ()) if contract is None else (contract.owner, tuple(contract.contacts))
        return Whose(subject.dataset, owner, self._pipeline.owner, contacts)
