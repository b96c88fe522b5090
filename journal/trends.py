"""What reports ask of a journal: counts by stretches of time, of changes and of quarantine. Answers of one query each, at any size."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from journal.audit_trail import SELF
from journal.ledger import Tally
from journal.quarantine import RESOLVED, UNRESOLVED

INDEX = """create index if not exists quarantine_by_time on quarantine
    (dataset, quarantined_at, status, resolved_at, committed_at)"""
"""What these queries read in place of the records."""

_SUMS = "sum(rows), sum(quarantined), sum(dropped), sum(evaluated), sum(failed), sum(warned), null, null, null, null, sum(released)"


@dataclass(slots=True)
class Flow:
    """Records that came into quarantine, and records that left it, within a stretch of time; sums of seconds and the longest.

    `detect` is from commit to quarantine, of the `detected` records whose commit has a time; `resolve` from quarantine to resolution.
    """

    entered: int = 0
    detected: int = 0
    detect: float = 0.0
    detect_worst: float | None = None
    left: int = 0
    resolve: float = 0.0
    resolve_worst: float | None = None


@dataclass(slots=True)
class Waiting:
    """A dataset's records by status, and when the oldest of those that wait was quarantined (seconds since 1970)."""

    statuses: dict[str, int] = field(default_factory=dict)
    oldest: float | None = None

    def add(self, status: str, number: int, oldest: float | None) -> None:
        """Counts records of one status."""
        self.statuses[status] = self.statuses.get(status, 0) + number
        if status in UNRESOLVED and oldest is not None:
            self.oldest = oldest if self.oldest is None else min(self.oldest, oldest)

    @property
    def open(self) -> int:
        """Those that wait for somebody, or for something."""
        return sum(number for status, number in self.statuses.items() if status in UNRESOLVED)


@dataclass(frozen=True, slots=True)
class Group:
    """One cause: how many of its records have which status, and the ordinal of its first that waits."""

    cause: str
    dataset: str
    statuses: Mapping[str, int]
    first: int

    @property
    def records(self) -> int:
        return sum(self.statuses.values())


def counts(db: sqlite3.Connection, since: float, width: int, *, rules: bool = True) -> dict[str, dict[str, dict[int, Tally]]]:
    """Dataset -> rule ('': the changes) -> start of a stretch of `width` seconds -> its counts. Ordinals and times are left out.

    Without `rules` only the changes are counted.
    """
    kinds = "" if rules else "and rule = ''"
    found: dict[str, dict[str, dict[int, Tally]]] = {}
    rows = db.execute(
        f"""select dataset, rule, minute * 60 / :width, {_SUMS} from ledger where minute >= :since / 60 {kinds}
            group by dataset, rule, minute * 60 / :width""",
        {"width": width, "since": int(since)},
    )
    for dataset, rule, place, *sums in rows:
        found.setdefault(dataset, {}).setdefault(rule, {})[place * width] = Tally(*sums)
    return found


def begun(db: sqlite3.Connection) -> float | None:
    """When the first change was counted; None where there is none."""
    found = db.execute("select min(minute) from ledger").fetchone()[0]
    return None if found is None else float(found * 60)


def waiting(db: sqlite3.Connection) -> dict[str, Waiting]:
    """What is in quarantine, by dataset."""
    found: dict[str, Waiting] = {}
    # in the order of an index that has all of it: nothing is sorted
    for dataset, status, number in db.execute("select dataset, status, count(*) from quarantine group by cause, status, dataset"):
        found.setdefault(dataset, Waiting()).add(status, number, None)
    first = f"select quarantined_at from quarantine where dataset = ? and status in {UNRESOLVED} order by quarantined_at limit 1"
    for dataset, one in found.items():
        if one.open:
            one.oldest = db.execute(first, (dataset,)).fetchone()[0]
    return found


def flows(db: sqlite3.Connection, since: float, width: int) -> dict[str, dict[int, Flow]]:
    """Dataset -> start of a stretch of `width` seconds -> what came into quarantine and left it."""
    found: dict[str, dict[int, Flow]] = {}
    known = "case when committed_at > 0 then max(quarantined_at - committed_at / 1e6, 0.0) end"
    entered = db.execute(
        f"""select dataset, cast(quarantined_at as integer) / :width, count(*), count({known}), total({known}), max({known})
            from quarantine where quarantined_at >= :since group by 1, 2""",
        {"width": width, "since": since},
    )
    for dataset, place, number, detected, detect, worst in entered:
        found.setdefault(dataset, {})[place * width] = Flow(number, detected, detect, worst)
    left = db.execute(
        f"""select dataset, cast(resolved_at as integer) / :width, count(*), total(max(resolved_at - quarantined_at, 0.0)),
                max(max(resolved_at - quarantined_at, 0.0))
            from quarantine where resolved_at >= :since and status in {RESOLVED} group by 1, 2""",
        {"width": width, "since": since},
    )
    for dataset, place, number, resolve, worst in left:
        flow = found.setdefault(dataset, {}).setdefault(place * width, Flow())
        flow.left, flow.resolve, flow.resolve_worst = number, resolve, worst
    return found


def groups(db: sqlite3.Connection) -> list[Group]:
    """The causes of records that wait, the most frequent first."""
    found: dict[tuple[str, str], tuple[dict[str, int], int]] = {}
    rows = db.execute(
        f"""select cause, dataset, status, count(*), min(ordinal) from quarantine where status in {UNRESOLVED}
            group by cause, status, dataset"""
    )
    for cause, dataset, status, number, first in rows:
        statuses, before = found.get((cause, dataset), ({}, first))
        statuses[status] = number
        found[cause, dataset] = statuses, min(before, first)
    made = [Group(cause, dataset, statuses, first) for (cause, dataset), (statuses, first) in found.items()]
    return sorted(made, key=lambda group: (-group.records, group.first))


def quarantined_at(db: sqlite3.Connection, ordinal: int) -> float:
    """When a record was quarantined, in seconds since 1970; 0 where it is not there."""
    found = db.execute("select quarantined_at from quarantine where ordinal = ?", (ordinal,)).fetchone()
    return 0.0 if found is None else float(found[0])


def rule_totals(db: sqlite3.Connection) -> dict[str, dict[str, Tally]]:
    """Dataset -> rule -> what it found since the journal began. Ordinals and times are left out."""
    found: dict[str, dict[str, Tally]] = {}
    for dataset, rule, *sums in db.execute(f"select dataset, rule, {_SUMS} from ledger where rule <> '' group by dataset, rule"):
        found.setdefault(dataset, {})[rule] = Tally(*sums)
    return found


def steps(db: sqlite3.Connection, since: float) -> dict[str, int]:
    """How often people did something with records of a dataset. What was asked for at once is one step, however many lines tell of it."""
    asked = "count(distinct coalesce(json_extract(detail, '$.request'), n))"
    return dict(db.execute(f"select dataset, {asked} from audit where at >= ? and by <> ? group by dataset", (since, SELF)))
