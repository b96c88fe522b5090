"""Forgets the values of records for good, on disk too. That there was a record, of which rule, and what was done with it, stays."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from journal import state_file
from journal.evidence import SALT
from journal.quarantine import UNRESOLVED
from journal.returns import Returns
from journal.trouble import transaction

ERASED = "erased"
"""What stands where a reason told of a value."""

_REASONS = f"""(select json_group_array(json_set(it.value, '$.value', null, '$.message', '{ERASED}')) from json_each(reasons) it)"""
ERASE = (
    "raw = '{}', before = null, after = null, patch = null, message = null, key = '{}', pattern = '',"
    f" reasons = {_REASONS}, erased_at = :at"
)
"""The assignments of an UPDATE of records that erases them."""

_LOG_PATIENCE_MS = 100


@contextmanager
def overwriting(db: sqlite3.Connection) -> Iterator[None]:
    """What is deleted or changed meanwhile is overwritten with zeros, which takes time: see https://sqlite.org/pragma.html."""
    db.execute("pragma secure_delete = on").fetchall()
    try:
        yield
    finally:
        db.execute("pragma secure_delete = fast").fetchall()


def empty_log(db: sqlite3.Connection) -> None:
    """Puts the write-ahead log, which has what was before, into the file, unless a reader is in it for long. Outside of transactions."""
    db.execute(f"pragma busy_timeout = {_LOG_PATIENCE_MS}")
    try:
        db.execute("pragma wal_checkpoint(truncate)").fetchall()
    finally:
        db.execute("pragma busy_timeout = 5000")


def due(db: sqlite3.Connection, dataset: str, since: float, before: float, limit: int) -> list[int]:
    """The ordinals of records of a dataset that came between two times (seconds since 1970) and are not erased, the oldest first."""
    query = """select ordinal from quarantine where dataset = ? and quarantined_at >= ? and quarantined_at < ? and erased_at is null
               order by quarantined_at limit ?"""
    return sorted(ordinal for (ordinal,) in db.execute(query, (dataset, since, before, limit)))


def kept(db: sqlite3.Connection, dataset: str | None, after: int, limit: int) -> list[int]:
    """The ordinals of records that are not erased, behind one, in the order of the stream."""
    condition = "" if dataset is None else " and dataset = :dataset"
    query = f"select ordinal from quarantine where ordinal > :after and erased_at is null{condition} order by ordinal limit :limit"
    return [ordinal for (ordinal,) in db.execute(query, {"after": after, "dataset": dataset, "limit": limit})]


def erase(db: sqlite3.Connection, ordinals: Sequence[int], at: float) -> None:
    """In the open transaction. `at` in seconds since 1970."""
    chosen = "ordinal in (select value from json_each(:ordinals))"
    db.execute(f"update quarantine set {ERASE} where {chosen}", {"at": at, "ordinals": json.dumps(ordinals)})


class Refused(NamedTuple):
    """A row that a sink refused, and the journal (the beginning of its id) that it is of."""

    id: str
    journal: str
    dataset: str
    sink: str
    ordinal: int


def due_refused(
    folder: Path, *, dataset: str | None = None, before: float | None = None, ids: Sequence[str] | None = None
) -> list[Refused]:
    """Rows that sinks refused which are all of this, and not erased."""
    path = folder / state_file.FILE
    if not path.exists():
        return []
    asked = {"dataset = :dataset": dataset, "quarantined_at < :before": before, "id in (select value from json_each(:ids))": ids}
    chosen = " and ".join(["erased_at is null", *(condition for condition, value in asked.items() if value is not None)])
    given = {"dataset": dataset, "before": before, "ids": json.dumps(ids)}
    with state_file.reported(path), closing(state_file.connect(path)) as db:
        return [
            Refused(*row) for row in db.execute(f"select {', '.join(Refused._fields)} from refused where {chosen} order by ordinal", given)
        ]


def erase_refused(folder: Path, ids: Sequence[str], why: str, at: float) -> None:
    """Erases such rows, at a time in seconds since 1970. What still waited is discarded."""
    path, chosen = folder / state_file.FILE, "id in (select value from json_each(:ids))"
    given = {"ids": json.dumps(ids), "why": why, "at": at}
    with state_file.reported(path), closing(state_file.connect(path)) as db:
        db.isolation_level = None
        with overwriting(db), transaction(db):
            ended = "status = 'discarded', resolution = :why, resolved_at = :at"
            db.execute(f"update refused set {ended} where {chosen} and status in {UNRESOLVED}", given)
            db.execute(f"update refused set {ERASE}, {SALT} = null where {chosen}", given)
        with closing(Returns(folder)) as returns:
            returns.prune_all()  # the keys of what is gone
        empty_log(db)
