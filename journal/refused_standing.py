"""What rows that single sinks refused have to be, as the lines of the audit trail say, and where they are not.

They are in the state, which other processes write than the journal. That one was refused is in no line: of its content the trail knows from
the first step on. What becomes of it at its sink is not either: behind a replay a row may be whatever that can come to.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from journal import evidence, state_file
from journal.audit_standing import AFTER, ENDING, ERASING, FIXING, OPEN, End, end_of
from journal.audit_trail import DIGEST, FOUND, HELD, MOST_RECORDS, Line, ranges_of
from journal.four_eyes import fixers
from journal.quarantine import RESOLVED

CONTENT = tuple(name for name in evidence.CONTENT if name not in ("reasons", "cause", "pattern", "attempts", "given"))
"""Columns that are digested: those that no sink's process changes."""

_BACK = frozenset({"replaying", "resolved", "superseded", "failed-again", "approved"})
"""What a row may be that was sent back to its sink."""

_BLANK = {"key": "{}", "raw": "{}", "before": None, "after": None, "patch": None, "message": None, evidence.SALT: None}
"""What is left of the values of a row that was erased."""

Row = Mapping[str, Any]


def digest(row: Row, changes: Mapping[str, Any]) -> bytes:
    """Of a row that has a salt, as it is to be with some changes."""
    whole = {**row, **changes}
    return evidence.digest(whole[evidence.SALT], [whole[name] for name in CONTENT])


@dataclass(frozen=True, slots=True)
class Look:
    """The refused rows of a state `at` a time (seconds since 1970), with those that are `unsent`, on their `way` back, and the requests
    that are `open`."""

    rows: Sequence[Row]
    at: float
    way: frozenset[str] = frozenset()
    unsent: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()


def look(folder: Path, at: float) -> Look:
    """In one transaction. Before the journal is looked at: lines that have come since are those from `at` on."""
    path = folder / state_file.FILE
    if not path.exists():
        return Look((), at)
    names = ("sink", "journal", evidence.SALT, *evidence.CONTENT, *evidence.STEPS)
    with state_file.reported(path), closing(state_file.connect(path)) as db:
        db.isolation_level = None
        db.execute("begin")
        rows = [dict(zip(names, row, strict=True)) for row in db.execute(f"select {', '.join(names)} from refused order by ordinal, id")]
        way = db.execute("select id, entry from returning_row").fetchall()
        requests = db.execute("select id from owner_request where id not in (select id from owner_answer)").fetchall()
    unsent = frozenset(name for name, entry in way if entry is None)
    return Look(rows, at, frozenset(name for name, _ in way), unsent, frozenset(name for (name,) in requests))


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a row has to be behind a line, and what behind the one before."""

    statuses: frozenset[str] = frozenset({OPEN})
    fixed: str | None = None
    approved: str | None = None
    digest: bytes | None = None
    ended: float | None = None  # None: nobody knows
    end: End = field(default_factory=End)
    erased: bool = False
    line: Line | None = None
    before: _Expected | None = None

    def behind(self, line: Line, told: bytes | None) -> _Expected:
        """With one more step."""
        next_ = replace(self, line=line, before=replace(self, before=None), digest=told or self.digest)
        if line.action in ERASING:
            over = {status for status in self.statuses if status in RESOLVED or ("replaying" in self.statuses and status in _BACK)}
            waited = not self.statuses <= set(RESOLVED)
            next_ = replace(
                next_, statuses=frozenset({*over, *(["discarded"] if waited else [])}) - {"replaying"}, erased=True, digest=None
            )
            if waited:
                next_ = replace(next_, end=end_of(line), ended=None if over else line.detail.get("ended"))
        elif line.action == "replay":
            next_ = replace(next_, statuses=_BACK)
        elif line.action in AFTER:
            next_ = replace(next_, statuses=frozenset({AFTER[line.action]}))
        if line.action in FIXING:
            next_ = replace(next_, fixed=fixers(self.fixed, line.by), approved=None)
        elif line.action == "failed-again":
            next_ = replace(next_, approved=None)
        elif line.action == "approve":
            next_ = replace(next_, approved=line.by)
        if line.action in ENDING:
            next_ = replace(next_, end=end_of(line), ended=line.detail.get("ended"))
        return next_


class RefusedStanding:
    """What the lines say up to one of them, of the rows of one journal."""

    def __init__(self, journal: str, found: Look) -> None:
        self._journal = journal[:8]
        self._look = found
        self._of: dict[tuple[str, int], _Expected] = {}
        self._began: float | None = None
        self._doubts: list[tuple[str, str]] = []

    def take(self, line: Line) -> None:
        """The next line of the trail. Raises ValueError or TypeError for what no step says."""
        if self._began is None and line.action in (HELD, FOUND):
            self._began = line.at
        sink = line.detail.get("sink")
        if sink is None:
            return
        bounds = list(ranges_of(str(line.detail.get("ordinals", ""))))
        told = base64.b64decode(str(line.detail.get("content", "")), validate=True)
        many = sum(last - first + 1 for first, last in bounds)
        if many > MOST_RECORDS or len(told) not in (0, many * DIGEST):
            raise ValueError(f"line {line.n} tells of {many} records, with {len(told)} bytes of digests")
        ordinals = [ordinal for first, last in bounds for ordinal in range(first, last + 1)]
        for place, ordinal in enumerate(ordinals):
            one = told[place * DIGEST : (place + 1) * DIGEST] or None
            expected = self._of.get((sink, ordinal), _Expected())
            if line.action == "replay" and "approved" not in expected.statuses:
                self._doubts.append((f"{self._journal}-{ordinal}-{sink}", f"line {line.n} is replay of a record that nobody had approved"))
            self._of[sink, ordinal] = expected.behind(line, one)

    @property
    def rows(self) -> int:
        """How many rows there are of the journal."""
        return sum(row["journal"] == self._journal for row in self._look.rows)

    def differences(self) -> Iterator[tuple[str, str]]:
        """Ids of rows, and what is wrong with each."""
        yield from self._doubts
        for row in self._look.rows:
            if row["journal"] == self._journal:
                expected = self._of.get((row["sink"], row["ordinal"]), _Expected())
                if (
                    expected.line is not None and row["quarantined_at"] > expected.line.at
                ):  # the sink was put back, and has refused it again
                    expected = _Expected()
                if self._erased_before(row, expected):
                    expected = replace(expected, statuses=expected.statuses | {"discarded"}, erased=True, ended=None)
                wrong = list(self._wrong(row, expected))
                if (
                    wrong
                    and expected.before is not None
                    and self._may_be_undone(expected.line)
                    and not any(self._wrong(row, expected.before))
                ):
                    continue
                for what in wrong:
                    yield str(row["id"]), what

    def _may_be_undone(self, line: Line | None) -> bool:
        """Whether what a line says may not have been done yet in the state, or was done since that was looked at."""
        if line is None or line.at >= self._look.at or line.action == "erase":  # which is done again by itself
            return True
        return line.detail.get("request") in self._look.open

    def _wrong(self, row: Row, expected: _Expected) -> Iterator[str]:
        name, status = row["id"], row["status"]
        sending = name in self._look.unsent and "approved" in expected.statuses and status == "replaying"
        if status not in expected.statuses and not sending:
            yield f"the record is {status}, and the trail says {' or '.join(sorted(expected.statuses))}"
        elif status == "replaying" and name not in self._look.way:
            yield "the record is replaying, and is not on its way to its sink"
        approved = None if status == "failed-again" else expected.approved
        for what, by, told in (("fixed", row["patched_by"], expected.fixed), ("approved", row["approved_by"], approved)):
            if by != told:
                yield f"the record is {what} by {by or 'nobody'}, and the trail says by {told or 'nobody'}"
        yield from self._wrong_end(row, expected)
        if expected.erased:
            if any(row[column] != value for column, value in _BLANK.items()) or row["erased_at"] is None:
                yield "the record was erased, and has values"
        elif expected.digest is not None:
            if not isinstance(row[evidence.SALT], bytes) or digest(row, {}) != expected.digest:
                yield f"the record was changed: it is not what it was at line {expected.line.n if expected.line else 0}"
        elif (row["patch"] is not None) != (expected.fixed is not None) and row["erased_at"] is None:
            yield "the record has a fix that no line tells of, or lacks one"

    def _erased_before(self, row: Row, expected: _Expected) -> bool:
        """Older versions did not tell of each row that they erased."""
        old = row["erased_at"] is not None and (self._began is None or row["erased_at"] < self._began)
        return old and not expected.erased and expected.digest is None

    def _wrong_end(self, row: Row, expected: _Expected) -> Iterator[str]:
        over = row["status"] in RESOLVED
        if over != (row["resolved_at"] is not None) or (not over and row["resolution"] is not None):
            yield f"the record is {row['status']}, which does not go with when and as what it came to its end"
        elif expected.ended is not None and expected.statuses == {row["status"]}:
            if row["resolved_at"] != expected.ended:
                yield f"the record came to its end at {row['resolved_at']}, and the trail says at {expected.ended}"
            if not expected.end.fits(row["resolution"]):
                yield "as what the record came to its end is not what the trail says"
