"""What the journal knows of a source, and its streams: read from tables that writer and readers see alike."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from journal.codec import Stream
from journal.schema import TableSchema


class Known(NamedTuple):
    """What the journal knows of a source: `copied` and `begun` are tables whose copy is whole, or was begun and not finished; `notes`
    is what the source asked to be kept."""

    watermark: str | None
    copied: frozenset[str]
    begun: frozenset[str]
    schemas: dict[str, TableSchema]
    notes: dict[str, str]


def known_of(db: sqlite3.Connection, source: str) -> Known:
    """As the tables say now."""
    position = db.execute("select watermark from position where source = ?", (source,)).fetchone()
    tables = db.execute(
        "select table_name, copy, encoded from tables join schema on schema.id = tables.schema where source = ?", (source,)
    ).fetchall()
    return Known(
        watermark=position[0] or None if position else None,
        copied=frozenset(table for table, copy, _ in tables if copy == "copied"),
        begun=frozenset(table for table, copy, _ in tables if copy == "begun"),
        schemas={table: TableSchema.decode(encoded) for table, _, encoded in tables},
        notes=dict(db.execute("select name, value from note where source = ?", (source,))),
    )


class Streams:
    """The streams of a journal by number, read as they are met."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[int, Stream] = {}
        self._schemas: dict[str, TableSchema] = {}

    def __getitem__(self, number: int) -> Stream:
        if number not in self._known:
            self._refresh()
        return self._known[number]

    def all(self) -> dict[int, Stream]:
        self._refresh()
        return self._known

    def of(self, source: str, table: str, sink: str | None) -> list[int]:
        """The numbers of a table's streams for one sink, or for all: one for each schema it had."""
        return [number for number, s in self.all().items() if (s.source, s.table, s.sink) == (source, table, sink)]

    def _refresh(self) -> None:
        last = max(self._known, default=0)
        found = self._db.execute("select encoded, stream.* from stream join schema on schema.id = schema where stream.id > ?", (last,))
        for encoded, number, source, table, sink, _, *partition in found:  # which journals of before there were partitions do not have
            schema = self._schemas.setdefault(encoded, TableSchema.decode(encoded))
            self._known[number] = Stream(source, table, sink, schema, *partition)
