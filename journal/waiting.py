"""Rows that wait for a lookup, in the journal: neither delivered nor counted yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from journal.batch import ChangeBatch
from journal.codec import Row, decode, encode
from journal.lookups import StreamOf, Writing

if TYPE_CHECKING:
    from journal.reading import Streams

TABLE = """
create table if not exists waiting (
    id integer primary key, stream integer not null, since real not null, rows integer not null, op integer not null, lsn integer not null,
    nth integer not null, time integer not null, ordinal integer not null, payload blob not null)
"""
_INSERT = "insert into waiting (stream, since, rows, op, lsn, nth, time, ordinal, payload) values (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class WaitingRows:
    """Batches that wait. Writes are part of the journal's open transaction. `since` is of the journal's own clock, in seconds."""

    def __init__(self, db: sqlite3.Connection, writing: Writing, stream: StreamOf, streams: Callable[[], Streams]) -> None:
        self._db = db
        self._writing = writing
        self._stream = stream
        self._streams = streams

    def add(self, batch: ChangeBatch, since: float) -> int:
        """Keeps a batch, and returns what to call it by."""
        row = encode(batch)
        with self._writing():
            made = self._db.execute(_INSERT, (self._stream(batch.schema, batch.source, batch.table), since, *row))
        return made.lastrowid or 0

    def remove(self, numbers: Iterable[int]) -> None:
        """Forgets batches."""
        with self._writing():
            self._db.executemany("delete from waiting where id = ?", [(number,) for number in numbers])

    def all(self) -> list[tuple[int, float, ChangeBatch]]:
        """Number, since when, and the batch, in the order in which they came."""
        return read(self._db, self._streams())


def read(db: sqlite3.Connection, streams: Streams) -> list[tuple[int, float, ChangeBatch]]:
    """What WaitingRows.all says, for readers too."""
    found = db.execute("select id, since, stream, rows, op, lsn, nth, time, ordinal, payload from waiting order by ordinal, id")
    return [(number, since, decode([Row(*row)], streams[stream])) for number, since, stream, *row in found.fetchall()]


def count(db: sqlite3.Connection) -> dict[str, int]:
    """How many rows of each dataset wait; none before ingest has opened the journal since it knows of lookups."""
    if db.execute("select 1 from sqlite_master where name = 'waiting'").fetchone() is None:
        return {}
    return dict(
        db.execute(
            "select dataset, sum(rows) from waiting join stream on stream.id = waiting.stream join schema on schema.id = stream.schema"
            " group by dataset"
        )
    )
