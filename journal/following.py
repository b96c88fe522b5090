"""What a journal knows of single changes: for whoever follows one record, from its newest change back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from journal import quarantine, store
from journal.batch import ChangeBatch
from journal.codec import Row, decode
from journal.known import Streams
from journal.quarantine import QuarantineRecord, Values
from journal.reading import PIECES, JournalReader
from journal.schema import TableSchema

_PIECE_BYTES = 16 << 20
_PIECE_ENTRIES = 256


class Counted(NamedTuple):
    """The line of the ledger in which a change was counted: `start` in seconds since 1970, `times` the range of the commit times of what
    it counts, in microseconds. `source` is None where sources share the time."""

    start: int
    source: str | None
    times: tuple[int, int] | None


class Following:
    """A journal as whoever follows a record looks at it. Each look is short: nobody is kept waiting."""

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader

    def schema(self, dataset: str) -> TableSchema | None:
        """The newest columns of a dataset; None where no change of it ever came."""
        with self._reader.view() as (_, streams):
            numbers = _numbers(streams, dataset)
            return streams[max(numbers)].schema if numbers else None

    def backwards(self, dataset: str) -> Iterator[tuple[int, ChangeBatch]]:
        """The changes of a dataset, newest batch first, each with its entry. Raises JournalError for one that cannot be read."""
        before = self._reader.last_seq() + 1
        while True:
            with self._reader.view() as (db, streams):
                piece = [(seq, streams[number], row) for seq, number, row in _piece(db, _numbers(streams, dataset), before)]
            for seq, stream, row in piece:
                yield seq, self._reader.decoded([row], stream, seq)
                before = seq
            if not piece:
                return

    def held(self, dataset: str) -> Iterator[ChangeBatch]:
        """Changes that are held back, of tables under copy or stopped, in order. Their columns may still be the source's, their ordinals
        mean nothing yet."""
        after = 0
        while True:
            with self._reader.view() as (db, streams):
                numbers = _numbers(streams, dataset)
                query = (
                    "select id, stream, rows, op, lsn, nth, time, ordinal, payload from held where id > ? and stream in (%s) order by id"
                )
                found = db.execute(f"{query % _places(numbers)} limit 1", (after, *numbers)).fetchone()
                batch = None if found is None else decode([Row(*found[2:])], streams[found[1]])
            if batch is None:
                return
            after = found[0]
            yield batch

    def committed_at(self, seq: int) -> float | None:
        """When an entry was committed, seconds since 1970; None where it is gone."""
        query = "select committed from entry where seq >= ? and committed is not null order by seq limit 1"
        with self._reader.view() as (db, _):
            found = db.execute(query, (seq,)).fetchone()
        return None if found is None else found[0] / 1e6

    def first_ordinal(self) -> int:
        """The oldest change that is still there; where there is none, the one that comes next."""
        with self._reader.view() as (db, _):
            oldest = f"select min(ordinal) from (select ordinal from entry where kind = ? order by seq limit {PIECES})"
            found = db.execute(f"select coalesce(({oldest}), max(next_ordinal), 1) from position", (store.CHANGES,)).fetchone()
        return int(found[0])

    def counted(self, dataset: str, ordinal: int) -> Counted | None:
        """Where a change was counted, which the journal says for good."""
        query = (
            "select minute, source, first_time, last_time from ledger"
            " where dataset = ? and rule = '' and first_ordinal <= ? and last_ordinal >= ? order by minute"
        )
        with self._reader.view() as (db, _):
            lines = db.execute(query, (dataset, ordinal, ordinal)).fetchall()
        if not lines:
            return None
        minute, source, first, last = lines[0]
        one = len({line[1] for line in lines}) == 1
        return Counted(minute * 60, source if one else None, (first, last) if one and first is not None else None)

    def records(self, dataset: str, key: Values) -> list[QuarantineRecord]:
        """The records of a key (its columns in their order) that the gate held back, in the order of the stream."""
        with self._reader.view() as (db, _):
            return quarantine.records_of(db, dataset, key, self._reader.seal)


def _numbers(streams: Streams, dataset: str) -> list[int]:
    return [number for number, stream in streams.all().items() if stream.schema.dataset == dataset]


def _places(numbers: Sequence[int]) -> str:
    return ", ".join("?" * len(numbers))


def _piece(db: sqlite3.Connection, numbers: Sequence[int], before: int) -> Iterator[tuple[int, int, Row]]:
    """(seq, stream, row) of changes in entries before one, newest first."""
    rows = db.execute(
        "select seq, stream, rows, op, lsn, nth, time, ordinal, payload from entry"
        f" where seq < ? and kind = ? and stream in ({_places(numbers)}) order by seq desc",
        (before, store.CHANGES, *numbers),
    )
    size = 0
    for place, (seq, stream, *row) in enumerate(rows):
        yield seq, stream, Row(*row)
        size += len(row[-1])
        if size >= _PIECE_BYTES or place >= _PIECE_ENTRIES:
            return
