"""What the audit trail says of the content of records: a digest of each as it came, and as each step that changed it left it.

A digest is SHA-256 over a random secret and all that the record is, but for what the lines of the trail tell by themselves (see STEPS),
and is kept in the line. The secret is in the record's own row and is another one once the values are erased: so nobody who has the trail
can find out by trying whether a digest is that of some value.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from journal import audit_trail
from journal.audit_trail import FOUND, HELD, SELF, Step
from journal.quarantine import COLUMNS, QuarantineRecord, to_row
from journal.sealing import Seal

SIZE = audit_trail.DIGEST
"""Bytes of a digest, and of a secret."""

SALT = "salt"
"""The column that has the secret; null in what came before there were digests, and has not been changed since."""

STEPS = ("status", "approved_by", "replay", "resolved_at", "resolution")
"""Columns that are as the lines of the trail say, without a digest."""

CONTENT = (
    *("id", "dataset", "source", "table_name", "operation", "key", "position", "ordinal", "committed_at", "raw", "before", "after"),
    *("message", "reasons", "cause", "pattern", "quarantined_at", "contract", "contract_version", "rules_hash", "owner", "attempts"),
    *("patch", "patched_by", "erased_at", "given"),
)
"""Columns that are digested, all others, in this order: that of the digests of all lines that there are."""

_ROW = (*COLUMNS, SALT)
_INSERT = f"insert into quarantine ({', '.join(_ROW)}) values ({', '.join('?' * len(_ROW))})"
_SELECT = f"select {SALT}, {', '.join(CONTENT)} from quarantine where ordinal in (select value from json_each(?)) order by ordinal"
_content: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(*map(_ROW.index, CONTENT))
_dataset, _place = itemgetter(_ROW.index("dataset")), itemgetter(*map(_ROW.index, ("dataset", "ordinal")))
_ORDINAL, _ORDINAL_BEHIND_SALT = _ROW.index("ordinal"), 1 + CONTENT.index("ordinal")
_encode = msgspec.msgpack.Encoder().encode


def digest(secret: bytes, content: Sequence[Any]) -> bytes:
    """Of the values of CONTENT."""
    return hashlib.sha256(secret + _encode(content)).digest()[:SIZE]


def hold(db: sqlite3.Connection, records: Sequence[QuarantineRecord], seal: Seal) -> None:
    """Records come into quarantine, and the trail says so, in the open transaction."""
    secrets = os.urandom(SIZE * len(records))
    rows = [(*to_row(record, seal), secrets[place * SIZE : (place + 1) * SIZE]) for place, record in enumerate(records)]
    db.executemany(_INSERT, rows)
    rows.sort(key=_place)
    for dataset, some in groupby(rows, _dataset):
        mine = list(some)
        digests = b"".join([digest(row[-1], _content(row)) for row in mine])
        audit_trail.add(db, Step(HELD, SELF, dataset, [row[_ORDINAL] for row in mine], digests=digests))


def of(db: sqlite3.Connection, ordinals: Sequence[int]) -> bytes:
    """The digests of records (ascending ordinals) as they are now in the open transaction, for the line of the step that changed them."""
    rows = db.execute(_SELECT, (json.dumps(ordinals),)).fetchall()
    if missing := [row[_ORDINAL_BEHIND_SALT] for row in rows if row[0] is None]:
        _renew(db, missing)
        return of(db, ordinals)
    return b"".join([digest(row[0], row[1:]) for row in rows])


def each(db: sqlite3.Connection, ordinals: Sequence[int]) -> dict[int, bytes]:
    """The same by ordinal, before a step changes records: the trail then shows whether they were what they had to be."""
    digests = of(db, ordinals)
    return {ordinal: digests[place * SIZE : (place + 1) * SIZE] for place, ordinal in enumerate(ordinals)}


def renewed(db: sqlite3.Connection, ordinals: Sequence[int]) -> bytes:
    """The same of records whose values have been erased: with other secrets, so that nothing is left of what the digests before were of."""
    _renew(db, ordinals)
    return of(db, ordinals)


def _renew(db: sqlite3.Connection, ordinals: Iterable[int]) -> None:
    rows = [(os.urandom(SIZE), ordinal) for ordinal in ordinals]
    db.executemany(f"update quarantine set {SALT} = ? where ordinal = ?", rows)


def untold(db: sqlite3.Connection) -> dict[str, list[int]]:
    """In a journal of before there were digests: the records that are there, dataset -> ordinals. Else, and once that is told, nothing."""
    if db.execute("select 1 from quarantine limit 1").fetchone() is None:
        return {}
    if db.execute("select 1 from audit where action in (?, ?) limit 1", (HELD, FOUND)).fetchone() is not None:
        return {}
    rows = db.execute("select dataset, ordinal from quarantine order by dataset, ordinal").fetchall()
    return {dataset: [ordinal for _, ordinal in some] for dataset, some in groupby(rows, itemgetter(0))}


def tell_found(db: sqlite3.Connection, found: Mapping[str, Sequence[int]]) -> None:
    """Says so in the trail, in the open transaction: what comes or goes behind its back shows from then on."""
    for dataset, ordinals in found.items():
        audit_trail.add(db, Step(FOUND, SELF, dataset, ordinals))
