"""What a journal still has of one dataset, in stretches: for audits and trials, which look at changes a second time."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from journal import ledger, store
from journal.batch import ChangeBatch, CopyMarker
from journal.codec import Row
from journal.known import Streams
from journal.ledger import Tally
from journal.reading import JournalReader

_KINDS = f"kind in ({store.CHANGES}, {store.REPLAYED})"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a journal stands with a dataset, in one instant.

    last      the newest entry of all
    first     the oldest entry of all that is still there; last + 1 where there is none
    tally     what came in since the journal began
    behind    changes for all sinks in the entries behind the one that was asked about
    """

    last: int
    first: int
    tally: Tally
    behind: int

    @property
    def passed(self) -> int:
        """Changes that the gate has let pass since the journal began, as the ledger says."""
        return self.tally.rows - self.tally.undelivered - self.tally.dropped


class Start(NamedTuple):
    """Where the newest changes begin: in the entry `seq`, behind so many of its rows."""

    seq: int
    skip: int


class Piece(NamedTuple):
    """An entry, and what is in it; `replayed`: it comes out of quarantine, with the ordinals that it had before."""

    seq: int
    batch: ChangeBatch
    replayed: bool


class Mark(NamedTuple):
    """An entry that is a marker."""

    seq: int
    marker: CopyMarker


class DatasetEntries:
    """The changes of a dataset that all sinks get. Each look is short: nobody is kept waiting."""

    def __init__(self, reader: JournalReader, dataset: str) -> None:
        self._reader = reader
        self._dataset = dataset

    def standing(self, after: int) -> Standing:
        """How the journal stands, with what is behind entry `after`."""
        with self._reader.view() as (db, streams):
            last = store.last_seq(db)
            first = db.execute("select min(seq) from entry").fetchone()[0]
            query = (
                f"select coalesce(sum(rows), 0) from entry where seq > ? and seq <= ? and {_KINDS} and stream in ({self._streams(streams)})"
            )
            behind = int(db.execute(query, (after, last)).fetchone()[0])
            tally = ledger.totals(db).get(self._dataset, Tally())
        return Standing(last, last + 1 if first is None else int(first), tally, behind)

    def forwards(self, after: int, last: int, rows: int) -> list[Piece]:
        """Entries behind `after`, up to `last`, until they have so many rows. Raises JournalError for one that cannot be read."""
        return self._pieces(f"seq > {after} and seq <= {last}", "asc", rows)

    def backwards(self, before: int, rows: int) -> list[Piece]:
        """The entries before one, as many as have so many rows, in their order."""
        return self._pieces(f"seq < {before}", "desc", rows)[::-1]

    def newest(self, rows: int, last: int) -> Start:
        """Where the newest changes up to the entry `last` begin, so many of them or as many as there are. Reads none of them."""
        start = Start(last + 1, 0)
        with self._reader.view() as (db, streams):
            query = f"select seq, rows from entry where seq <= ? and {_KINDS} and stream in ({self._streams(streams)}) order by seq desc"
            for seq, count in db.execute(query, (last,)):
                start = Start(seq, max(0, count - rows))
                rows -= count
                if rows <= 0:
                    break
        return start

    def marks(self, after: int, last: int) -> list[Mark]:
        """The markers of copies behind `after`, up to `last`."""
        query = "select seq, stream, ordinal, payload from entry where seq > ? and seq <= ? and kind = ?"
        with self._reader.view() as (db, streams):
            found = db.execute(f"{query} and stream in ({self._streams(streams)}) order by seq", (after, last, store.MARKER)).fetchall()
            return [Mark(seq, self._reader.marker(seq, streams[stream], ordinal, payload)) for seq, stream, ordinal, payload in found]

    def _pieces(self, where: str, order: str, rows: int) -> list[Piece]:
        found = []
        with self._reader.view() as (db, streams):
            for seq, kind, stream, *row in self._rows(db, streams, where, order):
                if rows <= 0:
                    break
                found.append((seq, kind, streams[stream], Row(*row)))
                rows -= found[-1][3].rows
        return [Piece(seq, self._reader.decoded([row], stream, seq), kind == store.REPLAYED) for seq, kind, stream, row in found]

    def _rows(self, db: sqlite3.Connection, streams: Streams, where: str, order: str) -> sqlite3.Cursor:
        return db.execute(
            f"select seq, kind, stream, rows, op, lsn, nth, time, ordinal, payload from entry where {where} and {_KINDS}"
            f" and stream in ({self._streams(streams)}) order by seq {order}"
        )

    def _streams(self, streams: Streams) -> str:
        """Those of the dataset that are for all sinks."""
        return ", ".join(str(number) for number, one in streams.all().items() if one.schema.dataset == self._dataset and one.sink is None)
