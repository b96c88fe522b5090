"""Rows that wait for a lookup, in the journal: neither delivered nor counted yet."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from journal.batch import ChangeBatch, Payload, Payloads
from journal.codec import Row, decode, encode
from journal.lookups import StreamOf, Writing

if TYPE_CHECKING:
    from journal.known import Streams

TABLE = """
create table if not exists waiting (
    id integer primary key, stream integer not null, since real not null, rows integer not null, op integer not null, lsn integer not null,
    nth integer not null, time integer not null, ordinal integer not null, payload blob not null, messages blob)
"""
_INSERT = "insert into waiting (stream, since, rows, op, lsn, nth, time, ordinal, payload, messages) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class WaitingRows:
    """Batches that wait. Writes are part of the journal's open transaction. `since` is of the journal's own clock, in seconds."""

    def __init__(self, db: sqlite3.Connection, writing: Writing, stream: StreamOf, streams: Callable[[], Streams]) -> None:
        self._db = db
        self._writing = writing
        self._stream = stream
        self._streams = streams

    def add(self, batch: ChangeBatch, since: float) -> int:
        """Keeps a batch, with what its rows were received as, and returns what to call it by."""
        row = encode(batch)
        with self._writing():
            made = self._db.execute(_INSERT, (self._stream(batch.schema, batch.source, batch.table), since, *row, _written(batch)))
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
    found = db.execute("select id, since, messages, stream, rows, op, lsn, nth, time, ordinal, payload from waiting order by ordinal, id")
    return [
        (number, since, replace(decode([Row(*row)], streams[stream]), payloads=_read(messages)))
        for number, since, messages, stream, *row in found.fetchall()
    ]


def _written(batch: ChangeBatch) -> bytes | None:
    """The messages of a batch as JSON; None where its source has none."""
    if batch.payloads is None:
        return None
    rows = [batch.payloads.row(row) for row in range(len(batch))]
    return json.dumps([[_text(one.key), _text(one.value), [[name, _text(held)] for name, held in one.headers]] for one in rows]).encode()


def _read(messages: bytes | None) -> Payloads | None:
    if messages is None:
        return None
    found = [
        Payload(_bytes(key), _bytes(value), [(name, _bytes(held) or b"") for name, held in headers])
        for key, value, headers in json.loads(messages)
    ]
    return Payloads(found, np.arange(len(found), dtype=np.int64))


def _text(held: bytes | None) -> str | None:
    return None if held is None else base64.b64encode(held).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


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
