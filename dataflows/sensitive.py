"""Which datasets have values that are not for everybody: asked where a process has nothing else to do with contracts."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from dataflows.build import contract_of
from journal.quarantine import QuarantineRecord
from pipeline.errors import ConfigError
from pipeline.model import Pipeline


class Sensitive:
    """The datasets of a pipeline whose contract calls a column confidential or restricted. Contracts are read when it is first asked.

    A contract that cannot be read may say so: its dataset counts as one.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._known: dict[str, bool] = {}

    def __call__(self, dataset: str) -> bool:
        if dataset not in self._known:
            self._known[dataset] = self._read(dataset)
        return self._known[dataset]

    def marked(self, records: Sequence[QuarantineRecord]) -> list[QuarantineRecord]:
        """The records, with whether they are sensitive."""
        return [structs.replace(record, sensitive=True) if self(record.dataset) else record for record in records]

    def _read(self, dataset: str) -> bool:
        block = self._pipeline.datasets.get(dataset)
        if block is None or block.contract is None:
            return False
        try:
            return contract_of(block).sensitive
        except ConfigError:
            return True
