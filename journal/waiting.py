"""Rows that wait for a lookup, in the journal: neither delivered nor counted yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from journal.batch import ChangeBatch
from journal.codec import Row, decode, encode
from journal.lookups import StreamOf, Writing
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
        streams = self._streams()
        found = self._db.execute("select id, since, stream, rows, op, lsn, nth, time, ordinal, payload from waiting order by ordinal, id")
        return [(number, since, decode([Row(*row)], streams[stream])) for number, since, stream, *row in found]
