"""Whether an audit trail is whole: every line chained to the one before it, none missing, and every record as its last line says."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from journal.audit_standing import Standing
from journal.audit_trail import BEGINNING, Line
from journal.refused_standing import Look, RefusedStanding
from pipeline.errors import ConfigError

_MOST = 100  # findings that are told
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and where: a line of the trail, or a record."""

    what: str
    line: int | None = None
    record: str | None = None


@dataclass(slots=True)
class Checked:
    """What was found; `n` and `hash` are of the last line. Of `before_digests` records nobody knows whether they are what they were."""

    n: int = 0
    hash: str = BEGINNING
    records: int = 0
    before_digests: int = 0
    findings: list[Finding] = field(default_factory=list)
    more: int = 0

    def find(self, finding: Finding) -> None:
        if len(self.findings) < _MOST:
            self.findings.append(finding)
        else:
            self.more += 1


class Head(NamedTuple):
    """A line that a trail had: its number (None: nobody said), and its hash."""

    n: int | None
    hash: str

    @classmethod
    def read(cls, text: str) -> Head:
        """Of `N:HASH` or `HASH`. Raises ConfigError."""
        number, _, of = text.strip().lower().rpartition(":")
        if not _HASH.fullmatch(of) or (number and not number.isdecimal()) or text.startswith(":"):
            raise ConfigError(
                f"{text!r} is not the head of an audit trail", hint="N:HASH, as `sluice audit verify` prints it, or the HASH alone"
            )
        return cls(int(number) if number else None, of)


def check(db: sqlite3.Connection, kept: tuple[int, str] | None = None, noted: Head | None = None, refused: Look | None = None) -> Checked:
    """Checks the trail of a journal, in one state of it.

    `kept` is how far the state knows it, `noted` what somebody wrote down of it; `refused` are rows that single sinks refused.
    """
    checked = Checked()
    journal = db.execute("select value from kept where name = 'id'").fetchone()[0]
    standing, at_sinks = Standing(db), RefusedStanding(journal, refused or Look((), 0.0))
    anchors = [Head(*kept)] if kept is not None else []
    anchors += [] if noted is None else [noted]
    for line in _chained(db, checked, anchors):
        try:
            standing.take(line)
            at_sinks.take(line)
        except (ValueError, TypeError, ArithmeticError):
            checked.find(Finding("the line cannot be read", line.n))
    for head in anchors:
        if head.n is None:
            checked.find(Finding(f"the trail was cut or written anew: no line has the hash {head.hash}"))
        elif head.n > checked.n:
            checked.find(Finding(f"the trail was cut or written anew: it ends at line {checked.n}, and had {head.n} lines", head.n))
        else:
            checked.find(Finding(f"the trail was cut or written anew: line {head.n} is another one than it was", head.n))
    checked.records = len(standing.ordinals) + at_sinks.rows
    for record, what in chain(standing.differences(journal), at_sinks.differences()):
        checked.find(Finding(what, record=record))
    checked.before_digests = standing.before_digests
    return checked


def _chained(db: sqlite3.Connection, checked: Checked, anchors: list[Head]) -> Iterator[Line]:
    """The lines that are as they were written. Takes those anchors away that it comes by."""
    _strike(anchors, 0, BEGINNING)
    rows = db.execute("select n, at, by, system_user, action, dataset, records, first, last, detail, previous, hash from audit order by n")
    for n, *rest in rows:
        if n != checked.n + 1:
            gone = f"lines {checked.n + 1} to {n - 1} are missing" if n > checked.n + 2 else f"line {n - 1} is missing"
            checked.find(Finding(gone, n))
        line = _line(n, rest)
        sound = line is not None and line.expected == line.hash
        if line is None:
            checked.find(Finding("the line cannot be read", n))
        elif line.previous != checked.hash:
            checked.find(Finding("the line does not follow on the one before it", n))
        elif not sound:
            checked.find(Finding("the line was changed", n))
        if line is not None and sound:
            yield line
        checked.n, checked.hash = n, str(rest[-1])
        _strike(anchors, n, checked.hash)


def _strike(anchors: list[Head], n: int, of: str) -> None:
    for head in list(anchors):
        if head.n in (None, n) and head.hash == of:
            anchors.remove(head)


def _line(n: int, rest: list[object]) -> Line | None:
    try:
        at, by, user, action, dataset, records, first, last, detail, previous, own = rest
        told = json.loads(str(detail))
    except ValueError:
        return None
    words = (by, user, action, dataset, previous, own)
    if not (isinstance(told, dict) and all(isinstance(one, str) for one in words) and all(map(_is_number, (at, records, first, last)))):
        return None
    return Line(n, at, by, user, action, dataset, records, first, last, told, previous, own)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, (int, float))
