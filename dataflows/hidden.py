"""Which columns of datasets are shown nowhere: in lists, reports, profiles and alerts, nor stored in the clear.

Two contracts have a say, the one in force and the one in the file: what either calls confidential or restricted is hidden. So what is to be
hidden is from the moment somebody writes it, and what is to be shown is once that is in force. Where the pipeline file names no contract
any more the last one that was in force goes on to say it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path

import structlog
from msgspec import structs

from dataflows.contracts_in_force import kept_of, shown_as, text_of
from journal.contracts import KeptContract
from journal.quarantine import Reason
from pipeline.errors import ConfigError
from pipeline.model import Pipeline
from quality.judgement import MASKED

log = structlog.get_logger("sluice.contract")


class Hidden:
    """The hidden columns of the datasets of a pipeline, as its journal and its files said it when this was made.

    Raises JournalError for a journal that cannot be read.
    """

    def __init__(self, pipeline: Pipeline, kept: Mapping[str, KeptContract] | None = None) -> None:
        self._pipeline = pipeline
        self._kept = kept_of(pipeline, all_datasets=True) if kept is None else kept
        self._known: dict[str, frozenset[str] | None] = {}

    def __call__(self, dataset: str) -> frozenset[str] | None:
        """Those of a dataset; None, all, where the contract that says which ones cannot be read."""
        if dataset not in self._known:
            self._known[dataset] = self._columns(dataset)
        return self._known[dataset]

    def governed(self, dataset: str) -> bool:
        """Whether any contract says something of a dataset."""
        return dataset in self._kept or self._file(dataset) is not None

    def any(self, dataset: str) -> bool:
        """Whether a dataset has something to hide."""
        return self(dataset) != frozenset()

    def _columns(self, dataset: str) -> frozenset[str] | None:
        file, kept = self._file(dataset), self._kept.get(dataset)
        written = None if file is None else text_of(file)
        if kept is None:
            return frozenset() if file is None else _sensitive(dataset, file, written)
        found = _sensitive(dataset, shown_as(file or self._pipeline.file, kept), kept.text)
        if found is None or file is None or written == kept.text:
            return found
        return found | (_sensitive(dataset, file, written) or frozenset())

    def _file(self, dataset: str) -> Path | None:
        block = self._pipeline.datasets.get(dataset)
        return None if block is None else block.contract


def shown_reason(reason: Reason, hidden: Collection[str] | None) -> Reason:
    """A reason as it may be shown: what is hidden by now may have been stored when it was not. None: all is hidden."""
    if hidden is not None and reason.column not in hidden and (reason.column is not None or not hidden):
        return reason
    value = reason.value
    if value is not None:
        value = _without(value, hidden) if reason.column is None and hidden is not None else MASKED
    said, got, _ = reason.message.partition(", got ")
    return structs.replace(reason, message=said + got + MASKED if got else said, value=value)


def _without(value: str, hidden: Collection[str]) -> str:
    """The values of several columns (a JSON object), without those that are hidden; all is hidden of what is no such thing."""
    try:
        found = json.loads(value)
    except ValueError:
        return MASKED
    if not isinstance(found, dict):
        return MASKED
    return json.dumps({name: MASKED if name in hidden and one is not None else one for name, one in found.items()}, ensure_ascii=False)


@lru_cache(maxsize=256)
def _sensitive(dataset: str, file: Path, text: str | None) -> frozenset[str] | None:
    from quality.contract_reading import load_contract  # the rules take long to load

    try:
        return load_contract(file, text).hidden
    except ConfigError as error:
        log.warning("contract cannot be read", dataset=dataset, file=str(file), error=error.message)
        return None
