"""What the records of a journal have to be, as the lines of its audit trail say one after the other, and where they are not."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from journal import evidence
from journal.audit_trail import DIGEST, FOUND, HELD, MOST_RECORDS, Line, digest, ranges_of
from journal.four_eyes import fixers, has_fixed
from journal.handling import MENDABLE
from journal.quarantine import RESOLVED, record_id

OPEN = "open"
AFTER: Mapping[str, str] = {
    HELD: OPEN,
    "fix": "patched",
    "import": "patched",
    "approve": "approved",
    "discard": "discarded",
    "replay": "replaying",
    "released": "replaying",
    "waits": OPEN,  # or approved, where somebody has
    "resolved": "resolved",
    "superseded": "superseded",
    "failed-again": "failed-again",
    "rule-changed": "rule-changed",
}
"""Action -> what its records are then. Other actions leave them as they are."""
_BEFORE: Mapping[str, Sequence[str]] = {
    "fix": MENDABLE,
    "import": MENDABLE,
    "discard": MENDABLE,
    "approve": tuple(status for status in MENDABLE if status != "approved"),
    "replay": ("approved",),
    "released": (OPEN, "approved"),
    "waits": ("replaying",),
    "resolved": ("replaying",),
    "superseded": ("replaying",),
    "failed-again": ("replaying",),
    "rule-changed": (OPEN, "failed-again"),
}
"""Action -> what its records can only have been before."""
FIXING = ("fix", "import")
ERASING = ("erase", "forget")
"""Actions behind which nobody waits for their records any more: what still waited is discarded."""
ENDING = ("discard", "resolved", "superseded")

_AT_ONCE = 50_000


class End(NamedTuple):
    """As what a record has come to its end: in words, by the digest of a person's words, or nobody knows (of an older line)."""

    words: str | None = None
    digest: str | None = None
    known: bool = True

    def fits(self, resolution: object) -> bool:
        if not self.known:
            return True
        if self.digest is not None:
            return isinstance(resolution, str) and digest(resolution) == self.digest
        return resolution == self.words


def end_of(line: Line) -> End:
    """What the line of a step says that records have ended as."""
    if line.detail.get("ended") is None:
        return End(known=False)
    if line.action == "discard":
        return End(digest=str(line.detail.get("why")))
    return End(words=line.detail.get("as"))


class Standing:
    """What the lines say up to one of them. Bytes a record, not objects: there may be a million."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._words = [OPEN, *sorted(set(AFTER.values()) - {OPEN})]
        self._over = np.isin(self._words, RESOLVED)
        self.ordinals: npt.NDArray[np.int64] = np.fromiter(_column(db), np.int64)
        many = len(self.ordinals)
        self._status = np.zeros(many, np.uint8)
        self._names: list[str | None] = [None]
        self._name_codes: dict[str, int] = {}
        self._fixers = np.zeros(many, np.uint32)  # places in the names
        self._approvers = np.zeros(many, np.uint32)
        self._replay = np.zeros(many, np.int64)  # 0: none
        self._ended = np.zeros(many, np.float64)  # 0: it has not
        self._ends: list[End] = [End()]
        self._end_codes: dict[End, int] = {}
        self._as = np.zeros(many, np.uint32)  # places in the ends
        self._came = np.zeros(many, np.bool_)
        self._digests = np.zeros((many, DIGEST), np.uint8)
        self._digested = np.zeros(many, np.int64)  # by which line; 0: none
        self._gone: dict[int, int] = {}
        self._doubts: list[tuple[int, str]] = []
        self._began = False
        self._requests: dict[str, int] = {}
        self.before_digests = 0

    def take(self, line: Line) -> None:
        """The next line of the trail. Raises ValueError, TypeError or ArithmeticError for what no step says."""
        if (request := line.detail.get("request")) is not None:
            self._requests.setdefault(str(request), line.n)
        if line.detail.get("sink") is not None:  # of what single sinks refused
            return
        self._began |= line.action in (HELD, FOUND)
        bounds = np.array(list(ranges_of(str(line.detail.get("ordinals", "")))), np.int64).reshape(-1, 2)
        digests, over = (_digests(line, name) for name in ("content", "over"))
        many = int((bounds[:, 1] - bounds[:, 0] + 1).sum())
        if many > MOST_RECORDS or len(digests) not in (0, many) or len(over) not in (0, many):
            raise ValueError(f"line {line.n} tells of {many} records, with {len(digests)} digests")
        starts = np.searchsorted(self.ordinals, bounds[:, 0], "left")
        ends = np.searchsorted(self.ordinals, bounds[:, 1], "right")
        before = 0
        for (first, last), start, end in zip(bounds.tolist(), starts.tolist(), ends.tolist(), strict=True):
            there = slice(start, end)
            if end - start < last - first + 1:
                self._miss(first, last, there, line.n)
            self._doubt(line, there)
            if len(over):
                other = (self._digests[there] != over[before + self.ordinals[there] - first]).any(axis=1) & (self._digested[there] > 0)
                for ordinal, n in zip(self.ordinals[there][other].tolist(), self._digested[there][other].tolist(), strict=True):
                    self._doubts.append((ordinal, f"the record was changed before line {line.n}: it was not what it was at line {n}"))
            self._apply(line, there)
            if len(digests):
                self._digests[there] = digests[before + self.ordinals[there] - first]
                self._digested[there] = line.n
            before += last - first + 1

    def _doubt(self, line: Line, there: slice) -> None:
        """Whether records can have been what they were for the step, and whoever approves them may."""
        if line.action in _BEFORE:
            codes = [self._words.index(status) for status in _BEFORE[line.action]]
            other = ~np.isin(self._status[there], codes)
            for ordinal, code in zip(self.ordinals[there][other].tolist(), self._status[there][other].tolist(), strict=True):
                self._doubts.append((ordinal, f"line {line.n} is {line.action} of a record that was {self._words[code]}"))
        if line.action == "approve" and line.dataset not in line.detail.get("own", [line.dataset]):
            for code in np.unique(self._fixers[there]).tolist():
                if has_fixed(self._names[code] or "", line.by):
                    for ordinal in self.ordinals[there][self._fixers[there] == code].tolist():
                        self._doubts.append((ordinal, f"line {line.n} is an approval by {line.by}, who has fixed the record"))

    def _miss(self, first: int, last: int, there: slice, n: int) -> None:
        for ordinal in np.setdiff1d(np.arange(first, last + 1), self.ordinals[there], assume_unique=True).tolist():
            self._gone.setdefault(ordinal, n)

    def _apply(self, line: Line, there: slice) -> None:
        if line.action in (HELD, FOUND):
            self._came[there] = True
        self._apply_end(line, there)
        status = self._status[there]
        if line.action == "waits":
            status[...] = np.where(self._approvers[there] > 0, self._words.index("approved"), self._words.index(OPEN))
        elif line.action in ERASING:
            status[...] = np.where(self._over[status], status, self._words.index("discarded"))
        elif line.action in AFTER:
            status[...] = self._words.index(AFTER[line.action])
        if line.action == "replay":
            self._replay[there] = self._requests.get(str(line.detail.get("request")), line.n)
        elif line.action == "released":
            self._replay[there] = np.where(self._replay[there] > 0, self._replay[there], line.detail.get("replay") or line.n)
        self._apply_names(line, there)

    def _apply_end(self, line: Line, there: slice) -> None:
        if line.action not in (*ENDING, *ERASING):
            return
        end = end_of(line)
        if end not in self._end_codes:
            self._end_codes[end] = len(self._ends)
            self._ends.append(end)
        waited = ~self._over[self._status[there]] if line.action in ERASING else np.True_
        self._ended[there] = np.where(waited, float(line.detail.get("ended") or np.nan), self._ended[there])
        self._as[there] = np.where(waited, self._end_codes[end], self._as[there])

    def _apply_names(self, line: Line, there: slice) -> None:
        if line.action in FIXING:
            before = self._fixers[there].copy()
            for code in np.unique(before).tolist():
                self._fixers[there][before == code] = self._named(fixers(self._names[code], line.by))
        if line.action in (*FIXING, "failed-again"):
            self._approvers[there] = 0
        elif line.action == "approve":
            self._approvers[there] = self._named(line.by)

    def _named(self, name: str) -> int:
        if name not in self._name_codes:
            self._name_codes[name] = len(self._names)
            self._names.append(name)
        return self._name_codes[name]

    def differences(self, journal: str) -> Iterator[tuple[str, str]]:
        """Ids of records of a journal, and what is wrong with each."""
        for ordinal, n in sorted(self._gone.items()):
            yield record_id(journal, ordinal), f"the record is gone, and line {n} tells of it"
        for ordinal, what in sorted(self._doubts):
            yield record_id(journal, ordinal), what
        columns = ("ordinal", "patched_by", *evidence.STEPS, evidence.SALT, *evidence.CONTENT)
        rows = self._db.execute(f"select {', '.join(columns)} from quarantine order by ordinal")
        places = len(columns) - len(evidence.CONTENT)
        for place, row in enumerate(rows):
            told = dict(zip(columns[:places], row, strict=False))
            for what in (*self._wrong_steps(place, told), *self._wrong_content(place, told[evidence.SALT], row[places:])):
                yield record_id(journal, told["ordinal"]), what

    def _wrong_steps(self, place: int, row: Mapping[str, Any]) -> Iterator[str]:
        status = self._words[self._status[place]]
        if row["status"] != status:
            yield f"the record is {row['status']}, and the trail says {status}"
        for what, name, code in (
            ("fixed", row["patched_by"], self._fixers[place]),
            ("approved", row["approved_by"], self._approvers[place]),
        ):
            if name != self._names[code]:
                yield f"the record is {what} by {name or 'nobody'}, and the trail says by {self._names[code] or 'nobody'}"
        replay = int(self._replay[place])
        if row["replay"] != (replay or None):
            yield f"the record is replayed by line {row['replay']}, and the trail says by {replay or 'none'}"
        ended = float(self._ended[place])
        if row["resolved_at"] != (ended or None) and not np.isnan(ended):
            yield f"the record came to its end at {row['resolved_at']}, and the trail says at {ended or 'no time'}"
        if not self._ends[self._as[place]].fits(row["resolution"]):
            yield "as what the record came to its end is not what the trail says"

    def _wrong_content(self, place: int, secret: object, content: tuple[Any, ...]) -> Iterator[str]:
        n = int(self._digested[place])
        if n:
            if not isinstance(secret, bytes) or evidence.digest(secret, content) != self._digests[place].tobytes():
                yield f"the record was changed: it is not what it was at line {n}"
        elif not self._came[place] and (self._began or secret is not None):
            yield "no line of the trail says that the record came into quarantine"
        else:
            self.before_digests += 1


def _digests(line: Line, name: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(str(line.detail.get(name, "")), validate=True), np.uint8).reshape(-1, DIGEST)


def _column(db: sqlite3.Connection) -> Iterable[int]:
    rows = db.execute("select ordinal from quarantine order by ordinal")
    while some := rows.fetchmany(_AT_ONCE):
        yield from (ordinal for (ordinal,) in some)
