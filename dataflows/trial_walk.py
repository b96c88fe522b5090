"""The changes of a dataset in the order in which they came, those that sit in quarantine in their places: what a contract is tried on.

Some thousand are in memory at once. Of those before the ones that are asked about only what the keys of these have been counts, so nothing
is remembered of other keys: the journal is looked through backwards first, as a row may have had another key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from dataflows.trial_records import Told, TrialRecords
from dataflows.trial_rows import Rows, in_order, narrowed, together
from journal.batch import ChangeBatch, CopyMarker, Mask, Op
from journal.key_hash import HashedKeys, key_hashes
from journal.quarantine import UNRESOLVED, QuarantineRecord, Wanted
from journal.reading import JournalReader
from journal.sealing import SealedError
from journal.sitting import keys_of, old_key, touched_keys
from journal.windows import DatasetEntries, Mark, Piece, Start
from pipeline.errors import ConfigError

_STRETCH = 20_000  # rows that are in memory at once
_PAGE = 2000


class Kind(IntEnum):
    """What a row is in a walk."""

    EARLIER = 0  # a change that has passed before those that are asked about
    ASKED = 1
    WAITS = 2  # a record that is not asked about
    SETTLED = 3  # a record that was given up, or overtaken: nothing waits for it


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """Changes that come next. Of each of the n rows its kind, and whether its source says that it was not there before.

    how      `in turn`; `released` from quarantine, with the ordinals that they had before; or `aside`: between no others
    records  those that are asked about among the rows, by ordinal
    apart    records that nobody can judge, and that others have to wait for
    """

    batch: ChangeBatch
    kinds: npt.NDArray[np.uint8]
    created: Mask
    how: Literal["in turn", "released", "aside"] = "in turn"
    records: Mapping[int, QuarantineRecord] = field(default_factory=dict)
    apart: Sequence[QuarantineRecord] = ()


@dataclass(frozen=True, slots=True)
class Asks:
    """What a walk is for: the newest `changes` of the journal; or the `records` for which `of` is true, all of them behind `after`."""

    changes: int = 0
    records: Wanted | None = None
    of: Callable[[QuarantineRecord], bool] = lambda record: False
    after: int = 0
    tell: Callable[[QuarantineRecord, Told], None] = lambda record, told: None


class Walk:
    """Goes through what a journal still has of a dataset, up to what it has now. `whole`: nothing has passed before."""

    def __init__(
        self, reader: JournalReader, dataset: str, made: TrialRecords, columns: Collection[str], asks: Asks, *, remembers: bool
    ) -> None:
        """Rows have the `columns`, and their key. Where nothing `remembers` there is nothing in it that is not asked about."""
        self._reader = reader
        self._entries = DatasetEntries(reader, dataset)
        self._made = made
        self._columns = frozenset(columns)
        self._asks = asks
        self._remembers = remembers
        standing = self._entries.standing(0)
        self._last = standing.last
        self._start = self._entries.newest(asks.changes, self._last) if asks.changes else Start(self._last + 1, 0)
        self._begin_with(standing.first, whole=standing.first == 1 or standing.passed == standing.behind)
        self._wanted = Wanted(dataset) if remembers or asks.records is None else asks.records
        self._keys = HashedKeys()
        self._carried: list[Rows] = []
        self._pending: list[QuarantineRecord] = []
        self._drained = asks.records is None and not remembers
        self._apart: list[QuarantineRecord] = []

    def _begin_with(self, first: int, *, whole: bool) -> None:
        """The first entry that is looked at where something `remembers`; `whole`: nothing has passed before."""
        asks = self._asks
        self._first, self.whole = first, whole
        self._oldest = self._reader.ordinal_at(first - 1)
        known_from = 0 if whole else self._oldest if asks.records is None else min(asks.after, self._oldest)
        self._cursor = known_from if self._remembers else asks.after

    def __iter__(self) -> Iterator[Turn | CopyMarker]:
        """Where something remembers, behind `look_back`. Raises JournalError for what cannot be read any more."""
        newest = self._reader.ordinal_at(self._last)
        if self._remembers and self._cursor < self._oldest and not self.whole:
            yield from self._in_turn([], self._oldest)
        after = self._first - 1 if self._remembers else self._start.seq - 1
        while after < self._last:
            pieces = self._entries.forwards(after, self._last, _STRETCH)
            reached = self._last if sum(len(piece.batch) for piece in pieces) < _STRETCH else pieces[-1].seq
            marks = self._entries.marks(after, reached) if self._remembers else []
            yield from self._stretch(sorted([*pieces, *marks], key=lambda one: one.seq), reached)
            after = reached
        yield from self._in_turn([], newest)

    def _stretch(self, entries: Sequence[Piece | Mark], reached: int) -> Iterator[Turn | CopyMarker]:
        """Entries up to `reached`. What is released, and a marker, come behind all that was judged before them."""
        run: list[Rows] = []
        released = False
        for entry in entries:
            out_of_turn = isinstance(entry, Mark) or entry.replayed
            if out_of_turn != released or isinstance(entry, Mark):
                yield from self._released(run) if released else self._in_turn(run, self._reader.ordinal_at(entry.seq))
                run, released = [], out_of_turn
            if isinstance(entry, Mark):
                yield entry.marker
            else:
                run.append(self._rows(entry))
        yield from self._released(run) if released else self._in_turn(run, self._reader.ordinal_at(reached))

    def _rows(self, piece: Piece) -> Rows:
        """The rows of an entry that count."""
        n = len(piece.batch)
        kinds = np.full(n, Kind.ASKED if piece.seq >= self._start.seq else Kind.EARLIER, np.uint8)
        if piece.seq == self._start.seq:
            kinds[: self._start.skip] = Kind.EARLIER
        return self._that_count(Rows.of(piece.batch, kinds, self._columns))

    def _that_count(self, rows: Rows) -> Rows:
        asked = rows.kinds == Kind.ASKED
        if asked.all():
            return rows
        if self._remembers and rows.batch.schema.key:
            keys, places = touched_keys(rows.batch)
            asked[places[self._keys.has(key_hashes(keys))]] = True
            asked |= rows.batch.op == Op.TRUNCATE
        return rows.take(asked)

    def _released(self, run: Sequence[Rows]) -> Iterator[Turn]:
        for rows in together(run):
            yield Turn(*rows, "released")

    def _in_turn(self, run: Sequence[Rows], until: int) -> Iterator[Turn]:
        """Rows that come next, and what is left of those before, with records in their places, up to an ordinal."""
        self._carried += run
        while True:
            page = self._page(until)
            more = not self._pending and not self._drained
            reached = page[-1].ordinal if more else until
            yield from self._turns(page, reached)
            if reached == until:
                return

    def _page(self, until: int) -> list[QuarantineRecord]:
        """The next records up to an ordinal; those behind it are kept for the next time."""
        if not self._pending and not self._drained:
            self._pending = self._reader.quarantined(self._wanted, self._cursor, _PAGE)
            self._drained = len(self._pending) < _PAGE
            self._cursor = self._pending[-1].ordinal if self._pending else self._cursor
        page = [one for one in self._pending if one.ordinal <= until]
        self._pending = self._pending[len(page) :]
        return page

    def _turns(self, page: Sequence[QuarantineRecord], until: int) -> Iterator[Turn]:
        aside = self._remembers and not self.whole and until <= self._oldest
        taking_part = [one for one in page if self._asks.of(one) or (self._remembers and not aside and one.status != "resolved")]
        rows, alone = self._of_records(taking_part)
        carried, self._carried = self._carried, []
        for one in carried:
            late = one.batch.ordinal > until
            rows.append(one.take(~late))
            if late.any():
                self._carried.append(one.take(late))
        by_ordinal = {one.ordinal: one for one in taking_part if self._asks.of(one)}
        for one in in_order(rows):
            apart, self._apart = self._apart, []
            yield Turn(*one, "aside" if aside else "in turn", by_ordinal, apart)
        for one in alone:
            yield Turn(*one, "aside", by_ordinal)

    def _of_records(self, records: Sequence[QuarantineRecord]) -> tuple[list[Rows], list[Rows]]:
        """Those that come between other changes, and those that do not."""
        if not records:
            return [], []
        found = self._made.read(records)
        by_ordinal = {one.ordinal: one for one in records}
        for ordinal, told in found.told.items():
            self._asks.tell(by_ordinal[ordinal], told)
            if by_ordinal[ordinal].status in UNRESOLVED and _keyed(by_ordinal[ordinal]):
                self._apart.append(by_ordinal[ordinal])
        rows, alone = ([self._rows_of(batch, by_ordinal) for batch in some] for some in (found.batches, found.aside))
        return [self._that_count(one) for one in rows], [one.take(one.kinds == Kind.ASKED) for one in alone]

    def _rows_of(self, batch: ChangeBatch, records: Mapping[int, QuarantineRecord]) -> Rows:
        kinds = np.array([self._kind(records[ordinal]) for ordinal in batch.ordinal.tolist()], np.uint8)
        return Rows.of(batch, kinds, self._columns)

    def _kind(self, record: QuarantineRecord) -> Kind:
        if self._asks.of(record):
            return Kind.ASKED
        return Kind.WAITS if record.status in UNRESOLVED else Kind.SETTLED

    def look_back(self) -> None:
        """Finds the keys that are asked about, and those that their rows had before, as far back as the changes have columns that fit."""
        start = self._start.seq
        after = start - 1
        while after < self._last:
            pieces = self._entries.forwards(after, self._last, _STRETCH)
            for piece in pieces:
                self._add(piece.batch)
            after = self._last if not pieces else pieces[-1].seq
        self._find_keys_of_records(self._reader.ordinal_at(start - 1))
        before, fits = start, dict[str, bool]()
        while before > self._first and (pieces := self._entries.backwards(before, _STRETCH)):
            for piece in reversed(pieces):
                shape = piece.batch.schema.encoded
                if shape not in fits:
                    fits[shape] = self._fits(piece.batch)
                if not fits[shape]:
                    self._begin_with(piece.seq + 1, whole=False)
                    return
                self._add(piece.batch, only_moved=True)
            before = pieces[0].seq

    def _fits(self, batch: ChangeBatch) -> bool:
        try:
            self._made.fits(narrowed(batch, self._columns))
        except ConfigError:
            return False
        return True

    def _find_keys_of_records(self, window: int) -> None:
        """Of records among the changes that are asked about (behind the ordinal `window`), or asked about themselves; and of those that
        change a key."""
        after = self._cursor
        while page := self._reader.quarantined(self._wanted, after, _PAGE):
            after = page[-1].ordinal
            chosen = [one for one in page if one.ordinal > window or self._asks.of(one) or _moves(one)]
            for batch in self._made.read([one for one in chosen if one.status != "resolved"]).batches:
                self._add(batch)

    def _add(self, batch: ChangeBatch, *, only_moved: bool = False) -> None:
        """Adds the keys of changes; or of those that have one of these keys, and change it."""
        if not batch.schema.key:
            return
        keys, rows = touched_keys(batch)
        if only_moved and len(rows) == len(batch):
            return
        hashes = key_hashes(keys)
        if only_moved:
            moved = rows[len(batch) :]
            pairs = np.stack([hashes[moved], hashes[len(batch) :]])
            while (touched := self._keys.has(pairs.ravel()).reshape(pairs.shape).any(axis=0)).any():
                before = len(self._keys)
                self._keep(pairs[:, touched].ravel())
                if len(self._keys) == before:
                    return
            return
        self._keep(hashes)

    def _keep(self, hashes: npt.NDArray[np.uint64]) -> None:
        hashes = np.unique(hashes)
        self._keys.add(hashes[~self._keys.has(hashes)])


def _keyed(record: QuarantineRecord) -> bool:
    """Whether the keys that a record sits under can be read."""
    try:
        return bool(keys_of(record))
    except SealedError:
        return False


def _moves(record: QuarantineRecord) -> bool:
    """Whether a change gives its row another key."""
    try:
        return old_key(record) is not None
    except SealedError:
        return False
