"""The windows in which the changes of a dataset are audited: what has come since the last time, with what came before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from journal.audits import AuditPlace
from journal.quarantine import QuarantineRecord, Wanted
from journal.reading import JournalReader
from journal.windows import DatasetEntries, Piece

ALL_AT_ONCE = 2000
"""Records of quarantine that are looked at in one window at most; the others come in the next."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One stretch of a dataset's changes.

    fresh     those that were not looked at before; `older` as many before them as make up the window, which has `size` rows
    records   what the gate held back meanwhile
    place     how far the audit has come with this window
    copied    the entry in which a copy of the dataset ended last, 0 where none has within it: what a row was before is forgotten there
    never_held  nothing of the dataset was ever held back, or dropped
    """

    dataset: str
    fresh: Sequence[Piece]
    older: Sequence[Piece]
    records: Sequence[QuarantineRecord]
    place: AuditPlace
    size: int
    copied: int = 0
    never_held: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """What the ledger says of a dataset against what is in the journal.

    `lacking` changes should be there and are not, or the other way round where it is negative; so many were `gone` before they could be
    looked at, because every sink had them and the journal had no room, or no reason, to keep them.
    """

    lacking: int = 0
    gone: int = 0


class Windows:
    """The windows of one dataset that have not been audited, oldest first."""

    def __init__(self, reader: JournalReader, dataset: str, place: AuditPlace | None, now: float) -> None:
        """`place` is how far the audit had come; of another journal, or None, it begins with the oldest change that there is."""
        self._reader = reader
        self._dataset = dataset
        self._now = now
        self._entries = DatasetEntries(reader, dataset)
        known = place if place is not None and place.journal == reader.id else None
        self.standing = self._entries.standing(0 if known is None else known.seq)
        self.balance = Balance()
        self.place = self._begun() if known is None else self._resumed(known)

    def _begun(self) -> AuditPlace:
        standing = self.standing
        before = standing.first - 1
        gone = 0 if not before else standing.passed - standing.behind
        if not before and standing.passed != standing.behind:
            self.balance = Balance(standing.passed - standing.behind)
        seen = self._reader.ordinal_at(before) if before else 0
        return AuditPlace(self._dataset, self._reader.id, before, seen, gone, gone, self._now)

    def _resumed(self, place: AuditPlace) -> AuditPlace:
        standing = self.standing
        lacking = standing.passed - place.passed - standing.behind
        if lacking > 0 and standing.first > place.seq + 1:
            self.balance = Balance(gone=lacking)
            return replace(place, at=self._now, seq=standing.first - 1, passed=place.passed + lacking, unaudited=place.unaudited + lacking)
        self.balance = Balance(lacking)
        return replace(place, at=self._now, seq=max(place.seq, standing.first - 1))

    def __call__(self, rows: int, go_on: Callable[[], bool]) -> Iterator[Window]:
        """Windows of so many rows, for as long as `go_on` says so."""
        while go_on():
            window = self._next(rows)
            if window is None:
                return
            self.place = window.place
            yield window

    def again(self, rows: int) -> Window | None:
        """The newest changes once more, whether or not they were looked at before; None where the journal has none of the dataset."""
        newest = self._entries.backwards(self.standing.last + 1, rows)
        first = min((int(piece.batch.ordinal[0]) for piece in newest if not piece.replayed), default=self.place.ordinal + 1)
        records = self._reader.quarantined(Wanted(self._dataset), first - 1, ALL_AT_ONCE)
        return self._window(newest, (), records, self.place, rows) if newest or records else None

    def _next(self, rows: int) -> Window | None:
        place, last = self.place, self.standing.last
        fresh = self._entries.forwards(place.seq, last, rows)
        reached = last if sum(len(piece.batch) for piece in fresh) < rows else fresh[-1].seq
        until = self._reader.ordinal_at(reached)
        records = [one for one in self._reader.quarantined(Wanted(self._dataset), place.ordinal, ALL_AT_ONCE) if one.ordinal <= until]
        if not fresh and not records:
            return None
        full = len(records) == ALL_AT_ONCE
        if full and fresh:  # as far as they go; the changes come with the next window
            fresh, reached = [], place.seq
        seen = sum(len(piece.batch) for piece in fresh)
        older = self._entries.backwards(fresh[0].seq, rows - seen) if fresh and seen < rows else []
        moved = replace(
            place,
            seq=reached,
            ordinal=records[-1].ordinal if full else max(place.ordinal, until),
            passed=place.passed + seen,
            at=self._now,
        )
        return self._window(fresh, older, records, moved, rows)

    def _window(
        self, fresh: Sequence[Piece], older: Sequence[Piece], records: Sequence[QuarantineRecord], place: AuditPlace, rows: int
    ) -> Window:
        pieces = [*older, *fresh]
        marks = self._entries.marks(pieces[0].seq, pieces[-1].seq) if pieces else []
        copied = max((one.seq for one in marks if one.marker.phase == "end"), default=0)
        tally = self.standing.tally
        return Window(self._dataset, fresh, older, records, place, rows, copied, never_held=not tally.quarantined and not tally.dropped)


def latency(window: Window, committed_at: Callable[[int], float | None]) -> float | None:
    """Seconds between the commit of the newest change of a window at its source, and in the journal; None where that is not known."""
    if not window.fresh:
        return None
    piece = window.fresh[-1]
    durable = committed_at(piece.seq)
    committed = int(piece.batch.time.max())
    return None if durable is None or not committed or piece.replayed else max(0.0, durable - committed / 1e6)
