"""What reports ask of a journal: counts by stretches of time, of changes and of quarantine. Answers of one query each, at any size."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from journal.audit_trail import SELF
from journal.ledger import Tally
from journal.lengths import KINDS, Lengths, kind_of, with_logarithm
from journal.quarantine import RESOLVED, UNRESOLVED

INDEX = """create index if not exists quarantine_by_time on quarantine
    (dataset, quarantined_at, status, resolved_at, committed_at)"""
"""What these queries read in place of the records."""

_SUMS = "sum(rows), sum(quarantined), sum(dropped), sum(evaluated), sum(failed), sum(warned), null, null, null, null, sum(released)"


@dataclass(slots=True)
class Flow:
    """Records that came into quarantine, and records that left it, within a stretch of time.

    `detect` is from commit to quarantine, of those whose commit has a time; `resolve` from quarantine to resolution.
    """

    entered: int = 0
    left: int = 0
    detect: Lengths = field(default_factory=Lengths)
    resolve: Lengths = field(default_factory=Lengths)

    @classmethod
    def together(cls, parts: Sequence[Flow]) -> Flow:
        """Several as one."""
        lengths = (Lengths.together(part.detect for part in parts), Lengths.together(part.resolve for part in parts))
        return cls(sum(part.entered for part in parts), sum(part.left for part in parts), *lengths)


Place = tuple[int, int]
"""The start of a stretch of time, in seconds since 1970, and how many of the times that were asked about are not after it."""


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Stretches of time of `width` seconds, each of them cut where one of the times `since` is in it. Those before `first` are one."""

    width: int
    first: int
    since: Sequence[float]

    def sql(self, at: str) -> str:
        """Where a time (SQL) is, as a number that `place` understands."""
        width, first = self.width, self.first // self.width - 1
        recent = " + ".join(["0", *(f"({at} >= {one!r})" for one in self.since)])
        return f"(max(cast({at} as integer) / {width}, {first}) * {len(self.since) + 1} + {recent})"

    def place(self, number: int) -> Place:
        """The place that a number says."""
        start, recent = divmod(number, len(self.since) + 1)
        return start * self.width, recent


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
    """One cause: how many of its records have which status, and the ordinal of its first that waits.

    Of what a single `sink` refused it is told `since` when, too, in seconds since 1970.
    """

    cause: str
    dataset: str
    statuses: Mapping[str, int]
    first: int
    sink: str | None = None
    since: float | None = None

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


def flows(db: sqlite3.Connection, grid: TimeGrid) -> dict[str, dict[Place, Flow]]:
    """Dataset -> place -> what came into quarantine then and what left it."""
    found: dict[str, dict[Place, Flow]] = {}
    for dataset, place, what, kind, number, total, worst in with_logarithm(db).execute(flow_query("quarantine", grid, "dataset")):
        flow = found.setdefault(dataset, {}).setdefault(grid.place(place), Flow())
        count_flow(flow, what, kind, number, total, worst)
    return found


def flow_query(records: str, grid: TimeGrid, by: str) -> str:
    """Counts of records (a table) `by` some columns: these, the place, whether they `left`, the kind of length (null: none), how many,
    the seconds in all, and at most. Reads an index of these columns alone, if there is one."""
    known = "case when committed_at > 0 then max(quarantined_at - committed_at / 1e6, 0.0) end"
    lasted = "max(resolved_at - quarantined_at, 0.0)"
    queries = []
    for at, length, which in (("quarantined_at", known, ""), ("resolved_at", lasted, f"where resolved_at >= 0 and status in {RESOLVED}")):
        # one number to group by: what has to be sorted is small
        place = f"{grid.sql(at)} * {KINDS} + coalesce({kind_of(length)}, 0)"
        queries.append(
            f"""select {by}, place / {KINDS} as place, {int(at == "resolved_at")} as gone, place % {KINDS} as kind, number, total, worst
                from (select {by}, {place} as place, count(*) as number, total({length}) as total, max({length}) as worst
                      from {records} {which} group by {by}, place)"""
        )
    return " union all ".join(queries)


def count_flow(flow: Flow, left: int, kind: int, number: int, total: float, worst: float | None) -> None:
    """Counts a line of `flow_query`."""
    if left:
        flow.left += number
    else:
        flow.entered += number
    if kind:
        (flow.resolve if left else flow.detect).add(kind, number, total, worst)


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
