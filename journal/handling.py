"""How records go from one status to the next: many at once, in the open transaction of whoever writes the journal.

The same statements serve records that single sinks refused, which are in a table of the same columns.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence

import msgspec

from journal.four_eyes import fixers
from journal.quarantine import COLUMNS, TO_REPLAY, UNRESOLVED, QuarantineRecord, encoded, from_row, reasons_text, sealed
from journal.sealing import BEGINNING, Seal

MENDABLE = tuple(status for status in UNRESOLVED if status != "replaying")
"""What a record may be while somebody sets its columns, or discards it."""

_LONGEST = 18  # digits of an ordinal


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A record as far as it decides what may be done with it."""

    ordinal: int
    id: str
    dataset: str
    source: str
    table: str
    status: str
    reasons: str
    patched_by: str | None
    approved_by: str | None
    replay: int | None

    @property
    def rules(self) -> frozenset[str]:
        """The rules that it broke."""
        return frozenset(reason["rule"] for reason in json.loads(self.reasons))


_STANDING = "ordinal, id, dataset, source, table_name, status, reasons, patched_by, approved_by, replay"
_AMONG = "ordinal in (select value from json_each(?))"


def ordinal_of(name: str) -> int | None:
    """The ordinal that a record's id tells; None for what is no id."""
    parts = name.split("-")
    found = parts[1] if len(parts) > 1 else ""
    return int(found) if found.isascii() and found.isdecimal() and len(found) <= _LONGEST else None


def named(db: sqlite3.Connection, ids: Collection[str]) -> list[Standing]:
    """The records with these ids, in the order of the stream; ids of none are left out."""
    ordinals = sorted({number for name in ids if (number := ordinal_of(name)) is not None})
    wanted = frozenset(ids)
    return [one for one in standings(db, ordinals) if one.id in wanted]


def standings(db: sqlite3.Connection, ordinals: Sequence[int]) -> list[Standing]:
    """The records with these ordinals, in the order of the stream."""
    query = f"select {_STANDING} from quarantine where {_AMONG} order by ordinal"
    return [Standing(*row) for row in db.execute(query, (json.dumps(ordinals),))]


def of_group(db: sqlite3.Connection, group: str, statuses: Sequence[str], after: int, upto: int, limit: int) -> list[Standing]:
    """Records of a cause behind one ordinal, up to another, in the order of the stream."""
    one = db.execute("select dataset from quarantine where cause = ? limit 1", (group,)).fetchone()  # a cause is one of a dataset
    query = "select ordinal from quarantine where cause = ? and status = ? and dataset = ? and ordinal > ? and ordinal <= ?"
    found: list[list[tuple[int]]] = []
    for status in statuses if one is not None else ():  # within one status the index has them in their order
        given = (group, status, *one, after, upto, limit)
        found.append(db.execute(f"{query} order by ordinal limit ?", given).fetchall())
    ordinals = [ordinal for (ordinal,) in heapq.merge(*found)]
    return standings(db, ordinals[:limit])


def approved(db: sqlite3.Connection, dataset: str | None, after: int, upto: int, limit: int) -> list[Standing]:
    """Approved records, likewise; of one dataset where it is named."""
    condition = "" if dataset is None else " and dataset = :dataset"
    query = (
        f"select {_STANDING} from quarantine where {TO_REPLAY} and status = 'approved' and ordinal > :after and ordinal <= :upto{condition}"
        " order by ordinal limit :limit"
    )
    given = {"after": after, "upto": upto, "dataset": dataset, "limit": limit}
    return [Standing(*row) for row in db.execute(query, given)]


def newest(db: sqlite3.Connection) -> int:
    """The last record in the order of the stream; 0 where there is none."""
    found: int | None = db.execute("select max(ordinal) from quarantine").fetchone()[0]
    return found or 0


def counted(db: sqlite3.Connection, group: str) -> dict[str, int]:
    """Status -> how many records of a cause there are."""
    return dict(db.execute("select status, count(*) from quarantine where cause = ? group by status", (group,)))


def records(db: sqlite3.Connection, ordinals: Sequence[int], seal: Seal) -> list[QuarantineRecord]:
    """Whole records, in the order of the stream."""
    query = f"select {', '.join(COLUMNS)} from quarantine where {_AMONG} order by ordinal"
    return [from_row(row, seal) for row in db.execute(query, (json.dumps(ordinals),))]


def unreadable(db: sqlite3.Connection, ordinals: Sequence[int], seal: Seal) -> dict[int, str]:
    """Ordinal -> why its values cannot be read, of those records that are sealed with a key that is not known here."""
    query = f"""select ordinal, substr(raw, 1, {BEGINNING}) from quarantine
        where {_AMONG} and substr(raw, 1, 1) <> '{{'"""
    found = ((ordinal, seal.lacks(text)) for ordinal, text in db.execute(query, (json.dumps(ordinals),)))
    return {ordinal: why for ordinal, why in found if why is not None}


def patch(db: sqlite3.Connection, patched: Sequence[QuarantineRecord], by: str, seal: Seal) -> None:
    """Keeps what stands in records in place of values that were received: all of their `patch`."""
    rows = [(_patch(record, seal), fixers(record.patched_by, by), record.ordinal) for record in patched]
    db.executemany("update quarantine set patch = ?, patched_by = ?, approved_by = null, status = 'patched' where ordinal = ?", rows)


def _patch(record: QuarantineRecord, seal: Seal) -> str | None:
    text = encoded(record.patch)
    return sealed(text, record.id, "patch", seal) if record.sensitive else text


def approve(db: sqlite3.Connection, ordinals: Sequence[int], by: str) -> None:
    """They may be replayed."""
    db.execute(f"update quarantine set status = 'approved', approved_by = ? where {_AMONG}", (by, json.dumps(ordinals)))


def send(db: sqlite3.Connection, ordinals: Sequence[int], number: int) -> None:
    """They are replayed from now on, for a request."""
    db.execute(f"update quarantine set status = 'replaying', replay = ? where {_AMONG}", (number, json.dumps(ordinals)))


def settle(db: sqlite3.Connection, ordinals: Sequence[int], status: str, why: str, at: float, number: int | None = None) -> None:
    """They have come to their end; `number` is that of the request which brought them there, where they do not have it yet."""
    query = f"update quarantine set status = ?, resolution = ?, resolved_at = ?, replay = coalesce(?, replay) where {_AMONG}"
    db.execute(query, (status, why, at, number, json.dumps(ordinals)))


def fail(db: sqlite3.Connection, failed: Sequence[QuarantineRecord]) -> None:
    """Keeps why records failed again: of them nothing but that changes."""
    rows = [
        (
            *(reasons_text(one.reasons), one.group, one.pattern),
            *(one.contract, one.contract_version, one.rules_hash, one.given, one.attempts, one.replay, one.ordinal),
        )
        for one in failed
    ]
    db.executemany(
        """update quarantine set reasons = ?, cause = ?, pattern = ?, contract = ?, contract_version = ?, rules_hash = ?, given = ?,
            attempts = ?, replay = ?, status = 'failed-again', approved_by = null where ordinal = ?""",
        rows,
    )


# what a record was after the change is not read: it is what was received
_TO_JUDGE = {"after": "null"}


def to_replay(db: sqlite3.Connection, seal: Seal, limit: int, but: Collection[tuple[str, str]] = ()) -> list[QuarantineRecord]:
    """The next records that are replayed, in the order of the stream, without those of some tables (source, table)."""
    columns = ", ".join(_TO_JUDGE.get(name, name) for name in COLUMNS)
    query = (
        f"select {columns} from quarantine where {TO_REPLAY} and status = 'replaying' and not exists"
        " (select 1 from json_each(?) it where it.value ->> 0 = source and it.value ->> 1 = table_name) order by ordinal limit ?"
    )
    rows = db.execute(query, (json.dumps([list(one) for one in but]), limit))
    return [from_row(row, seal) for row in rows]


def to_replay_now(db: sqlite3.Connection, ordinals: Sequence[int], number: int, seal: Seal) -> list[QuarantineRecord]:
    """Approved records as if they had been sent for a request: what saves writing it down where they go on in the same transaction."""
    columns = _TO_JUDGE | {"status": "'replaying'", "replay": str(number)}
    query = f"select {', '.join(columns.get(name, name) for name in COLUMNS)} from quarantine where {_AMONG} order by ordinal"
    return [from_row(row, seal) for row in db.execute(query, (json.dumps(ordinals),))]


def replaying(db: sqlite3.Connection) -> bool:
    """Whether any record is replayed. Takes microseconds."""
    return db.execute(f"select 1 from quarantine where {TO_REPLAY} and status = 'replaying' limit 1").fetchone() is not None


def replayed(db: sqlite3.Connection, number: int) -> Iterator[tuple[str, str, str]]:
    """(id, dataset, status) of the records of a request, as they are now."""
    yield from db.execute("select id, dataset, status from quarantine where replay = ? order by ordinal", (number,))


def mark_changed(db: sqlite3.Connection, dataset: str, rules: Collection[str]) -> list[int]:
    """Open records that broke any of these rules, which are others now, or gone."""
    query = """select ordinal from quarantine where dataset = ? and status in ('open', 'failed-again')
        and exists (select 1 from json_each(reasons) it, json_each(?) gone where it.value ->> 'rule' = gone.value) order by ordinal"""
    ordinals = [ordinal for (ordinal,) in db.execute(query, (dataset, json.dumps(sorted(rules))))]
    db.execute(f"update quarantine set status = 'rule-changed' where {_AMONG}", (json.dumps(ordinals),))
    return ordinals


def outcome(db: sqlite3.Connection, number: int) -> dict[str, int]:
    """Status -> how many records of a request there are, as they are now."""
    return dict(db.execute("select status, count(*) from quarantine where replay = ? group by status", (number,)))


def under_way(db: sqlite3.Connection, number: int) -> bool:
    """Whether any record of a request has not come to its end."""
    query = "select 1 from quarantine where replay = ? and status = 'replaying' limit 1"
    return db.execute(query, (number,)).fetchone() is not None
