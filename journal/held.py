"""Changes that are kept back in the journal, until what they have to come after is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from journal.batch import ChangeBatch
from journal.codec import Row, decode
from journal.known import Streams
from journal.lookups import Writing


def released(db: sqlite3.Connection, writing: Writing, streams: Streams, of: tuple[str, str, str | None]) -> Iterator[ChangeBatch]:
    """See JournalWriter.released; `of` are source, table and sink."""
    with writing():
        numbers = streams.of(*of)
        last = db.execute("select max(id) from held").fetchone()[0]
    places = ", ".join("?" * len(numbers))
    given = 0
    while last is not None:
        with writing():
            found = db.execute(
                "select id, stream, rows, op, lsn, nth, time, ordinal, payload from held"
                f" where stream in ({places}) and id > ? and id <= ? order by id limit 1",
                (*numbers, given, last),
            ).fetchone()
            if found is None:
                return
            given = found[0]
            db.execute("delete from held where id = ?", (given,))
        yield decode([Row(*found[2:])], streams[found[1]])


def tables(db: sqlite3.Connection, source: str) -> frozenset[str]:
    """Tables of a source for which changes are held, for all sinks."""
    found = db.execute(
        "select distinct table_name from held join stream on stream.id = held.stream where source = ? and sink is null", (source,)
    )
    return frozenset(table for (table,) in found)
