"""The contracts of datasets as they are, and were, in force: their whole text, so that a file that changes changes nothing by itself."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

TABLE = """create table if not exists contract (
    dataset text not null, n integer not null, id text not null, version text not null, fingerprint text not null, text text not null,
    since integer not null, at real not null, by text, primary key (dataset, n)) without rowid"""


@dataclass(frozen=True, slots=True)
class KeptContract:
    """A contract that came into force with the change `since`, `at` seconds since 1970; the `n`th of its dataset, from 1.

    `by` is who approved it; None for the first, and for one that breaks nothing.
    """

    dataset: str
    n: int
    id: str
    version: str
    fingerprint: str
    text: str
    since: int
    at: float
    by: str | None = None


_COLUMNS = "dataset, n, id, version, fingerprint, text, since, at, by"


def in_force(db: sqlite3.Connection) -> dict[str, KeptContract]:
    """The newest of each dataset. Of a journal of a former format, none."""
    if not _there(db):
        return {}
    newest = "select dataset, max(n) from contract group by dataset"
    return {row[0]: KeptContract(*row) for row in db.execute(f"select {_COLUMNS} from contract where (dataset, n) in ({newest})")}


def kept(db: sqlite3.Connection, dataset: str) -> list[KeptContract]:
    """Every contract of a dataset that was in force, in order."""
    if not _there(db):
        return []
    return [KeptContract(*row) for row in db.execute(f"select {_COLUMNS} from contract where dataset = ? order by n", (dataset,))]


def put(
    db: sqlite3.Connection, dataset: str, told: tuple[str, str, str], text: str, since: int, by: str | None = None, at: float | None = None
) -> None:
    """A contract, `told` by id, version and fingerprint, comes into force inside the open transaction."""
    number = db.execute("select coalesce(max(n), 0) + 1 from contract where dataset = ?", (dataset,)).fetchone()[0]
    when = time.time() if at is None else at
    db.execute(f"insert into contract ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)", (dataset, number, *told, text, since, when, by))


def _there(db: sqlite3.Connection) -> bool:
    return db.execute("select 1 from main.sqlite_master where type = 'table' and name = 'contract'").fetchone() is not None
