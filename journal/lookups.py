"""What lookups hold, in the journal: the changes that made them, written in the transaction that brought them.

So a lookup is always just where the journal is, whatever is killed. When much of what is kept has been overtaken it is laid down anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from journal.batch import ChangeBatch, CopyMarker
from journal.codec import Row, decode, encode
from journal.schema import TableSchema

if TYPE_CHECKING:
    from journal.known import Streams

CHANGES, MARKER = 0, 1
TABLE = """
create table if not exists lookup (
    id integer primary key, name text not null, kind integer not null, stream integer not null, rows integer not null, op integer not null,
    lsn integer not null, nth integer not null, time integer not null, ordinal integer not null, payload blob not null)
"""
_COLUMNS = "id, kind, stream, rows, op, lsn, nth, time, ordinal, payload"
_INSERT = "insert into lookup (name, kind, stream, rows, op, lsn, nth, time, ordinal, payload) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

Writing = Callable[[], AbstractContextManager[None]]
StreamOf = Callable[[TableSchema, str, str], int]


class LookupLog:
    """The changes of each lookup by its name, in order. Writes are part of the journal's open transaction."""

    def __init__(self, db: sqlite3.Connection, writing: Writing, stream: StreamOf, streams: Callable[[], Streams]) -> None:
        self._db = db
        self._writing = writing
        self._stream = stream
        self._streams = streams
        self._rows: dict[str, int] = {}

    def reload(self) -> None:
        """What is counted in memory, as the last commit left it."""
        self._rows = dict(self._db.execute("select name, sum(rows) from lookup group by name"))

    def rows(self, name: str) -> int:
        """How many rows are kept for a lookup, overtaken ones too."""
        return self._rows.get(name, 0)

    def keep(self, name: str, entry: ChangeBatch | CopyMarker) -> None:
        """Adds an entry."""
        if isinstance(entry, CopyMarker):
            told = json.dumps({"phase": entry.phase, "first": entry.first}).encode()
            kind, row = MARKER, Row(0, 0, 0, 0, 0, entry.ordinal, told)
        elif len(entry):
            kind, row = CHANGES, encode(replace(entry, traces=None))  # a trace is that of the change, not of what it made of the lookup
        else:
            return
        with self._writing():
            self._db.execute(_INSERT, (name, kind, self._stream(entry.schema, entry.source, entry.table), *row))
        self._rows[name] = self._rows.get(name, 0) + row.rows

    def keep_anew(self, name: str, entries: Iterable[ChangeBatch | CopyMarker]) -> None:
        """Puts these in place of everything that was kept."""
        with self._writing():
            self._db.execute("delete from lookup where name = ?", (name,))
        self._rows.pop(name, None)
        for entry in entries:
            self.keep(name, entry)

    def entries(self, name: str) -> Iterator[ChangeBatch | CopyMarker]:
        """Everything that is kept, in order."""
        return entries(self._db, self._streams(), name)

    def forget_but(self, names: Collection[str]) -> None:
        """Forgets the lookups that there are not any more."""
        for name in [name for name in self._rows if name not in names]:
            self.keep_anew(name, ())

    def unsettle(self, source: str) -> None:
        """Lookups of a source are not whole any more, until a copy of them ends."""
        with self._writing():
            self._db.execute("delete from lookup where kind = ? and stream in (select id from stream where source = ?)", (MARKER, source))


def entries(db: sqlite3.Connection, streams: Streams, name: str) -> Iterator[ChangeBatch | CopyMarker]:
    """Everything that a journal keeps of a lookup, in order."""
    last = 0
    while found := db.execute(f"select {_COLUMNS} from lookup where id > ? and name = ? order by id limit 1", (last, name)).fetchone():
        last, kind, number, *numbers = found
        stream, row = streams[number], Row(*numbers)
        if kind == MARKER:
            told = json.loads(row.payload)
            yield CopyMarker(stream.schema, stream.source, stream.table, told["phase"], row.ordinal, told["first"])
        else:
            yield decode([row], stream)
