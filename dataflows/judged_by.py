"""Which contract judged which changes: noted where it changes, among the notes of their source, with the first changes that it judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from journal.batch import ChangeBatch

if TYPE_CHECKING:
    from quality.contract import Contract

_NOTE = "sluice judged "
_MOST = 100  # contracts of a dataset that are remembered


@dataclass(frozen=True, slots=True)
class Judged:
    """From this ordinal on changes were judged by a contract, or by none."""

    ordinal: int
    contract: str | None = None
    version: str | None = None
    fingerprint: str | None = None


class JudgedBy:
    """What one process of ingest has to note."""

    def __init__(self, first: int, contracts: Mapping[str, Contract], notes: Callable[[str], Mapping[str, str]]) -> None:
        """`first` is the first ordinal of this process, `notes` gives what is noted of a source already."""
        self._first = first
        self._contracts = contracts
        self._notes = notes
        self._done: set[tuple[str, str]] = set()

    def note(self, batch: ChangeBatch) -> dict[str, str]:
        """The note (name and text) that goes with a batch, where it says anything new."""
        at = (batch.source, batch.dataset)
        if at in self._done:
            return {}
        self._done.add(at)
        known = read(self._notes(batch.source), batch.dataset)
        contract = self._contracts.get(batch.dataset)
        told = (contract.id, contract.version, contract.fingerprint) if contract is not None else (None, None, None)
        last = known[-1] if known else Judged(0)
        if told == (last.contract, last.version, last.fingerprint):
            return {}
        lines = [*known, Judged(self._first, *told)][-_MOST:]
        return {_NOTE + batch.dataset: json.dumps([asdict(line) for line in lines])}


def read(notes: Mapping[str, str], dataset: str) -> list[Judged]:
    """The contracts that judged the changes of one source in a dataset, in order."""
    return [Judged(**line) for line in json.loads(notes.get(_NOTE + dataset, "[]"))]


def judged_by(notes: Mapping[str, str], dataset: str, ordinal: int) -> Judged | None:
    """What judged a change; None where nothing is known of it."""
    return next((line for line in reversed(read(notes, dataset)) if line.ordinal <= ordinal), None)
