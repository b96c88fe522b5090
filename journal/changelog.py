"""Which rows of the journal's tables a transaction changes: so that somebody else's tables can be kept like them.

Rows are told as they are when asked for, by their primary keys, however often they have changed; applied in any order, and again, they come
to the same. The entries, which never change, are not among them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import msgspec

TABLES = (
    "kept",
    "schema",
    "stream",
    "position",
    "tables",
    "note",
    "ledger",
    "quarantine",
    "held",
    "waiting",
    "lookup",
    "audit",
    "sitting",
    "lane",
    "contract",
)

EVENTS = {"insert": ("new",), "update": ("old", "new"), "delete": ("old",)}
_AT_ONCE = 500

Value = str | bytes | int | float | None


def _primary_key(db: sqlite3.Connection, table: str) -> list[str]:
    columns = db.execute(f"pragma main.table_info({table})").fetchall()
    return [name for _, name, *_, place in sorted(columns, key=lambda column: column[-1]) if place]


class Rows:
    """Rows of tables, by name."""

    def __init__(self, db: sqlite3.Connection, tables: Sequence[str] = TABLES) -> None:
        self._db = db
        self.keys: Mapping[str, Sequence[str]] = {table: _primary_key(db, table) for table in tables}
        self._columns = {table: [name for _, name, *_ in db.execute(f"pragma main.table_info({table})")] for table in tables}

    def content(self, table: str, key: Sequence[Value]) -> bytes | None:
        """The content of a row as it is now; None where there is none."""
        found = self._db.execute(f"select * from main.{table} where {self._where(table)}", key).fetchone()
        return None if found is None else msgspec.msgpack.encode(found)

    def put(self, name: bytes, content: bytes | None) -> None:
        """Makes a row what a changelog says. Inside the open transaction. Raises ValueError for what no changelog of ours says."""
        table, _, key = name.decode().partition(" ")
        if table not in self.keys:
            raise ValueError(f"there is no table {table}")
        if content is None:
            self._db.execute(f"delete from main.{table} where {self._where(table)}", json.loads(key))
            return
        row = msgspec.msgpack.decode(content)
        known = self._columns[table][: len(row)]  # of an older version's row the columns behind are as the table declares them
        self._db.execute(f"insert or replace into main.{table} ({', '.join(known)}) values ({', '.join('?' * len(row))})", row)

    def _where(self, table: str) -> str:
        return " and ".join(f"{column} = ?" for column in self.keys[table])


class Changelog:
    """Notes, on one connection, what its open transaction changes. Rolled back with it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._rows = Rows(db)
        db.execute("create temp table changed (place text, key text, primary key (place, key)) without rowid")
        for table, key in self._rows.keys.items():
            for event, sides in EVENTS.items():
                noted = " ".join(_note(table, key_of(key, side)) for side in sides)
                db.execute(f"create temp trigger changed_{table}_{event} after {event} on main.{table} begin {noted} end")

    def everything(self) -> None:
        """Takes every row for changed."""
        for table, key in self._rows.keys.items():
            self._db.execute(f"insert or ignore into changed select '{table}', {key_of(key, 'it')} from main.{table} it")

    def rows(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Name and content of each row that has changed; no content for one that is gone."""
        found = self._db.execute("select place, key from changed")
        while some := found.fetchmany(_AT_ONCE):
            for table, key in some:
                yield name_of(table, key), self.row(table, json.loads(key))

    def row(self, table: str, key: Sequence[Value]) -> bytes | None:
        """The content of a row as it is now."""
        return self._rows.content(table, key)

    def forget(self) -> None:
        """Nothing has changed since now."""
        self._db.execute("delete from changed")


def _note(table: str, key: str) -> str:
    """The statement of a trigger; `or ignore` there would give way to what the statement says that sets it off."""
    known = f"select 1 from changed where place = '{table}' and key = {key}"
    return f"insert into changed select '{table}', {key} where not exists ({known});"


def name_of(table: str, key: str) -> bytes:
    """What a row is called; `key` is a JSON array."""
    return f"{table} {key}".encode()


def key_of(columns: Sequence[str], side: str) -> str:
    """The SQL expression for the key of the row `side`, as it is in the row's name."""
    return f"json_array({', '.join(f'{side}.{column}' for column in columns)})"
