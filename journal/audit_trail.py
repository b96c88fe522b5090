"""What was done with records, and by whom: lines that are only added, each chained to the one before it by SHA-256.

A line is written in the transaction of the step that it tells of. It has names of columns and digests, never values, so that forgetting a
person's values does not break the chain.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

BEGINNING = "0" * 64
"""What the first line has for the hash of the one before it."""

SELF = "sluice"
"""By whom what nobody asked for is done."""

MOST_RECORDS = 10_000
"""Records that one line tells of, at most."""

HELD, FOUND = "held", "found"
"""Actions of nobody's: records have come into quarantine; records were there already when the trail began to tell of that."""

DIGEST = 16
"""Bytes of the digest of a record; see evidence.py."""

_FIELDS = ("n", "at", "by", "system_user", "action", "dataset", "records", "first", "last", "detail", "previous", "hash")
_SELECT = f"select {', '.join(_FIELDS)} from audit"
_INSERT = f"insert into audit ({', '.join(_FIELDS)}) values ({', '.join('?' * len(_FIELDS))})"


@dataclass(frozen=True, slots=True)
class Line:
    """One step. `at` in seconds since 1970; `first` and `last` are the range of the ordinals in `detail["ordinals"]`, if it has any."""

    n: int
    at: float
    by: str
    system_user: str
    action: str
    dataset: str
    records: int
    first: int | None
    last: int | None
    detail: Mapping[str, Any]
    previous: str
    hash: str

    @property
    def expected(self) -> str:
        """The hash that the line has to have."""
        told = asdict(self)
        del told["hash"]
        return hashlib.sha256((self.previous + canonical(told)).encode()).hexdigest()

    @property
    def ordinals(self) -> list[int]:
        """Those of its records."""
        return [ordinal for first, last in ranges_of(str(self.detail.get("ordinals", ""))) for ordinal in range(first, last + 1)]

    def concerns(self, ordinal: int, sink: str | None = None) -> bool:
        """Whether the step was one of a record."""
        if self.detail.get("sink") != sink or self.first is None or self.last is None or not self.first <= ordinal <= self.last:
            return False
        return any(first <= ordinal <= last for first, last in ranges_of(str(self.detail.get("ordinals", ""))))


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be told: `ordinals` are those of the records, ascending; `detail` are names, counts and digests.

    `digests`: of a step that changed what records are, those of each as it is now, one behind the other; `over`: as it was before.
    """

    action: str
    by: str
    dataset: str = ""
    ordinals: Sequence[int] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    system_user: str | None = None
    digests: bytes = b""
    over: bytes = b""


def canonical(content: object) -> str:
    """The one way in which JSON is written here."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(content: object) -> str:
    """What stands for values."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:16]


@cache
def system_user() -> str:
    """Who this process belongs to."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())


def ranges(ordinals: Iterable[int]) -> str:
    """Ascending numbers in few characters: `5-9,12`."""
    parts: list[str] = []
    first = last = None
    for number in ordinals:
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None:
            parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = number
    if first is not None:
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)


def ranges_of(text: str) -> Iterator[tuple[int, int]]:
    """The ranges that `ranges` wrote, both ends included."""
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        yield int(first), int(last or first)


def head(db: sqlite3.Connection) -> tuple[int, str]:
    """Number and hash of the newest line; 0 and BEGINNING where there is none."""
    found = db.execute("select n, hash from audit order by n desc limit 1").fetchone()
    return (0, BEGINNING) if found is None else (found[0], found[1])


def has(db: sqlite3.Connection, n: int, of: str) -> bool:
    """Whether a line has a hash; there is a line 0 before the first, which has BEGINNING."""
    return n == 0 or db.execute("select 1 from audit where n = ? and hash = ?", (n, of)).fetchone() is not None


def add(db: sqlite3.Connection, step: Step, at: float | None = None) -> int:
    """Adds lines, inside the open transaction: of many records several. Returns the number of the first."""
    number, previous = head(db)
    begin = number + 1
    starts = range(0, len(step.ordinals), MOST_RECORDS)
    pieces = [step.ordinals[start : start + MOST_RECORDS] for start in starts] or [()]
    for place, some in enumerate(pieces):
        number += 1
        detail = {**step.detail, "ordinals": ranges(some)} if some else dict(step.detail)
        for name, digests in (("content", step.digests), ("over", step.over)):
            if digests:
                mine = digests[place * MOST_RECORDS * DIGEST : (place + 1) * MOST_RECORDS * DIGEST]
                detail[name] = base64.b64encode(mine).decode("ascii")
        line = Line(
            number,
            round(time.time() if at is None else at, 6),
            step.by,
            step.system_user or system_user(),
            step.action,
            step.dataset,
            len(some),
            some[0] if some else None,
            some[-1] if some else None,
            detail,
            previous,
            "",
        )
        previous = line.expected
        row = {**asdict(line), "detail": canonical(detail), "hash": previous}
        db.execute(_INSERT, [row[name] for name in _FIELDS])
    return begin


def lines(db: sqlite3.Connection, condition: str = "true order by n", given: Sequence[object] = ()) -> Iterator[Line]:
    """The steps, all or some, without those that say how records came. Raises ValueError for a line that cannot be read."""
    for row in db.execute(f"{_SELECT} where action not in ('{HELD}', '{FOUND}') and {condition}", given):
        told = dict(zip(_FIELDS, row, strict=True))
        yield Line(**{**told, "detail": json.loads(told["detail"])})


def of_record(db: sqlite3.Connection, ordinal: int, sink: str | None = None) -> list[Line]:
    """The steps of one record, in order."""
    found = lines(db, "first <= ? and last >= ? order by n", (ordinal, ordinal))
    return [line for line in found if line.concerns(ordinal, sink)]


def of_request(db: sqlite3.Connection, request: str) -> list[Line]:
    """The lines of a request, in order."""
    return list(lines(db, "json_extract(detail, '$.request') = ? order by n", (request,)))


def asked(db: sqlite3.Connection, number: int | None) -> tuple[str, str | None, str | None]:
    """By whom the step of a line was asked for, as which user of the system, and in which request; SELF where there is no such line."""
    found = db.execute("select by, system_user, json_extract(detail, '$.request') from audit where n = ?", (number,)).fetchone()
    return (SELF, None, None) if found is None else found


def first_of(db: sqlite3.Connection, request: str) -> int | None:
    """The number of the first line of a request."""
    found: int | None = db.execute("select min(n) from audit where json_extract(detail, '$.request') = ?", (request,)).fetchone()[0]
    return found


def progress(db: sqlite3.Connection, request: str) -> tuple[int, int, int | None]:
    """The last record that a request was carried out for, for how many it was, and up to which it goes; 0, 0, None where it is new."""
    query = """select coalesce(max(last), 0), coalesce(sum(records), 0), max(json_extract(detail, '$.upto')) from audit
        where json_extract(detail, '$.request') = ? and json_extract(detail, '$.upto') is not null"""
    found: tuple[int, int, int | None] = db.execute(query, (request,)).fetchone()
    return found


def latest(db: sqlite3.Connection, limit: int) -> list[Line]:
    """The newest steps, in order."""
    return list(lines(db, "true order by n desc limit ?", (limit,)))[::-1]
