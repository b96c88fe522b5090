"""Replays in datasets whose order is strict: none before its turn, and what only waited goes on by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from journal import audit_trail, evidence, queueing
from journal.audit_trail import Step
from journal.local import JournalWriter
from journal.quarantine import QuarantineRecord, key_text, record_id
from journal.sitting import keys_of

if TYPE_CHECKING:
    from quality.contract import Contract


class Turns:
    """Whose turn it is. Of the thread that writes the journal."""

    def __init__(self, journal: JournalWriter, contracts: Mapping[str, Contract]) -> None:
        self._journal = journal
        self._datasets = frozenset(name for name, contract in contracts.items() if contract.order == "strict")

    def strict(self, dataset: str) -> bool:
        return dataset in self._datasets

    def of(self, records: Sequence[QuarantineRecord]) -> Turn:
        """For records that are to be replayed together, in the order of the stream."""
        return Turn(self._journal, [record for record in records if self.strict(record.dataset)])

    def let_go(self, ended: Iterable[QuarantineRecord]) -> None:
        """Records have come to their end, in the open transaction: what only waited for them is replayed."""
        mine = [record for record in ended if self.strict(record.dataset)]
        if not mine:
            return
        with self._journal.changing() as db:
            for dataset, ordinals in queueing.let_go(db, mine).items():
                number = audit_trail.head(db)[0] + 1
                audit_trail.add(db, Step("released", audit_trail.SELF, dataset, ordinals, {"replay": number}))
                queueing.send(db, ordinals, number)


class Turn:
    """Records of strict datasets, in order: those that wait for one which is not among them, or fails, do not go on."""

    def __init__(self, journal: JournalWriter, records: Sequence[QuarantineRecord]) -> None:
        self._journal = journal
        self._records = {record.ordinal: record for record in records}
        self._keys = {record.ordinal: [(record.dataset, key_text(key)) for key in keys_of(record) if key] for record in records}
        self._failed: set[int] = set()
        self._ahead = journal.sitting.ahead([(*key, ordinal) for ordinal, keys in self._keys.items() for key in keys])
        self._waits: dict[int, int] = {}
        self._walk()

    def __bool__(self) -> bool:
        """Whether any of them are of a strict dataset."""
        return bool(self._records)

    def _walk(self) -> None:
        """Who waits for whom, with what has failed so far."""
        self._waits = {}
        stuck: dict[tuple[str, str], int] = {}
        for ordinal, keys in self._keys.items():
            found = [stuck[key] for key in keys if key in stuck]
            found += [ahead for ahead in self._ahead.get(ordinal, ()) if ahead not in self._records]
            before = max(found, default=0)
            if before:
                self._waits[ordinal] = before
            if before or ordinal in self._failed:
                stuck |= dict.fromkeys(keys, ordinal)

    @property
    def waiting(self) -> Collection[int]:
        """The ordinals of those that have to wait."""
        return self._waits.keys()

    def fail(self, ordinals: Collection[int]) -> Collection[int]:
        """Some have failed. Returns who has to wait now."""
        mine = {ordinal for ordinal in ordinals if ordinal in self._records}
        if not mine <= self._failed:
            self._failed |= mine
            self._walk()
        return self.waiting

    def send_back(self) -> None:
        """Those that have to wait do so, in the open transaction."""
        if not self._waits:
            return
        records = [self._records[ordinal] for ordinal in self._waits]
        behind = {ordinal: record_id(self._journal.id, ahead) for ordinal, ahead in self._waits.items()}
        with self._journal.changing() as db:
            over = evidence.each(db, sorted(self._waits))
            queueing.send_back(db, records, behind)
            for dataset, some in _by_dataset(records).items():
                told = b"".join([over[ordinal] for ordinal in some])
                audit_trail.add(db, Step("waits", audit_trail.SELF, dataset, some, digests=evidence.of(db, some), over=told))


def _by_dataset(records: Iterable[QuarantineRecord]) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for record in records:
        found.setdefault(record.dataset, []).append(record.ordinal)
    return found
