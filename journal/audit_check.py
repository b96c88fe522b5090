"""Whether an audit trail is whole: every line chained to the one before it, none missing, and every record as its last line says."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from journal.audit_trail import BEGINNING, Line, ranges_of
from journal.four_eyes import fixers
from journal.quarantine import RESOLVED

_WAITS = "open or approved"  # as it was before it was to be replayed before its time
AFTER: Mapping[str, str] = {
    "fix": "patched",
    "import": "patched",
    "approve": "approved",
    "discard": "discarded",
    "replay": "replaying",
    "released": "replaying",
    "waits": _WAITS,
    "resolved": "resolved",
    "superseded": "superseded",
    "failed-again": "failed-again",
    "rule-changed": "rule-changed",
}
"""Action -> what its records are then. Other actions leave them as they are."""
FIXING = ("fix", "import")
ERASING = ("erase", "forget")
"""Actions behind which nobody waits for their records any more: what still waited is discarded."""

_MOST = 100  # findings that are told
_AT_ONCE = 50_000
_OPEN = "open"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and where: a line of the trail, or a record."""

    what: str
    line: int | None = None
    record: str | None = None


@dataclass(slots=True)
class Checked:
    """What was found; `n` and `hash` are of the last line that is sound."""

    n: int = 0
    hash: str = BEGINNING
    records: int = 0
    findings: list[Finding] = field(default_factory=list)
    more: int = 0

    def find(self, finding: Finding) -> None:
        if len(self.findings) < _MOST:
            self.findings.append(finding)
        else:
            self.more += 1


def check(db: sqlite3.Connection, kept: tuple[int, str] | None = None, noted: str | None = None) -> Checked:
    """Checks the trail of a journal, in one state of it. `kept` is how far the state knows it, `noted` a hash that somebody wrote down."""
    checked = Checked()
    standing = _Standing(db)
    seen = noted is None or noted == BEGINNING
    kept_hash = None
    rows = db.execute("select n, at, by, system_user, action, dataset, records, first, last, detail, previous, hash from audit order by n")
    for n, *rest in rows:
        if n != checked.n + 1:
            gone = f"lines {checked.n + 1} to {n - 1} are missing" if n > checked.n + 2 else f"line {n - 1} is missing"
            checked.find(Finding(gone, n))
        line = _line(n, rest)
        if line is None:
            checked.find(Finding("the line cannot be read", n))
        elif line.previous != checked.hash:
            checked.find(Finding("the line does not follow on the one before it", n))
        elif line.expected != line.hash:
            checked.find(Finding("the line was changed", n))
        if line is not None:
            missing = standing.take(line)
            if missing:
                checked.find(Finding(f"records that it tells of are not there: {missing}", n))
        checked.n, checked.hash = n, rest[-1]
        seen |= rest[-1] == noted
        if kept is not None and n == kept[0]:
            kept_hash = rest[-1]
    if kept is not None and kept[0] and kept_hash != kept[1]:
        cut = (
            f"it ends at line {checked.n}, and had {kept[0]} lines" if kept[0] > checked.n else f"line {kept[0]} is another one than it was"
        )
        checked.find(Finding(f"the trail was cut or written anew: {cut}", kept[0]))
    if not seen:
        checked.find(Finding(f"no line has the hash {noted}"))
    checked.records = len(standing.ordinals)
    for record, what in standing.differences():
        checked.find(Finding(what, record=record))
    return checked


def _line(n: int, rest: list[object]) -> Line | None:
    try:
        at, by, user, action, dataset, records, first, last, detail, previous, own = rest
        return Line(n, at, by, user, action, dataset, records, first, last, json.loads(str(detail)), previous, own)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return None


class _Standing:
    """What the records of the journal have to be."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._words = [_OPEN, *sorted(set(AFTER.values()))]
        self._ended = np.isin(self._words, RESOLVED)
        self.ordinals: npt.NDArray[np.int64] = np.fromiter(_column(db), np.int64)
        self._expected = np.zeros(len(self.ordinals), np.uint8)
        self._names: list[str | None] = [None]
        self._places: dict[str, int] = {}
        self._fixers = np.zeros(len(self.ordinals), np.uint32)  # places in the names
        self._approvers = np.zeros(len(self.ordinals), np.uint32)

    def take(self, line: Line) -> int:
        """Says how many records the line tells of that there are none of."""
        status = "discarded" if line.action in ERASING else AFTER.get(line.action)
        if status is None or line.detail.get("sink") is not None:
            return 0
        code = self._words.index(status)
        try:
            bounds = np.array(list(ranges_of(str(line.detail.get("ordinals", "")))), np.int64).reshape(-1, 2)
        except ValueError:  # told as a line that was changed
            return 0
        starts = np.searchsorted(self.ordinals, bounds[:, 0], "left")
        ends = np.searchsorted(self.ordinals, bounds[:, 1], "right")
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            some = self._expected[start:end]
            some[...] = np.where(self._ended[some], some, code) if line.action in ERASING else code
            self._note_who(line, slice(start, end))
        return int((bounds[:, 1] - bounds[:, 0] + 1).sum() - (ends - starts).sum())

    def _note_who(self, line: Line, where: slice) -> None:
        if line.action in FIXING:
            before = self._fixers[where].copy()
            for code in np.unique(before).tolist():
                self._fixers[where][before == code] = self._named(fixers(self._names[code], line.by))
        if line.action in (*FIXING, "failed-again"):
            self._approvers[where] = 0
        elif line.action == "approve":
            self._approvers[where] = self._named(line.by)

    def _named(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = len(self._names)
            self._names.append(name)
        return self._places[name]

    def differences(self) -> Iterator[tuple[str, str]]:
        """Records, and what is wrong with each."""
        rows = self._db.execute("select id, status, patched_by, approved_by from quarantine order by ordinal")
        told = zip(self._expected.tolist(), self._fixers.tolist(), self._approvers.tolist(), strict=True)
        for (record, status, patched_by, approved_by), (code, fixer, approver) in zip(rows, told, strict=True):
            if status != self._words[code] and not (self._words[code] == _WAITS and status in _WAITS.split(" or ")):
                yield record, f"the record is {status}, and the trail says {self._words[code]}"
            for what, name, expected in (("fixed", patched_by, self._names[fixer]), ("approved", approved_by, self._names[approver])):
                if name != expected:
                    yield record, f"the record is {what} by {name or 'nobody'}, and the trail says by {expected or 'nobody'}"


def _column(db: sqlite3.Connection) -> Iterable[int]:
    rows = db.execute("select ordinal from quarantine order by ordinal")
    while some := rows.fetchmany(_AT_ONCE):
        yield from (ordinal for (ordinal,) in some)
