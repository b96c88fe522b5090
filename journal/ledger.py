"""The counts that prove that nothing was lost: written in the transaction that holds the changes they count.

One line for each minute, dataset and source counts changes; further lines count what each rule found. Sums over minutes are the
totals since the journal began. Minutes older than a week are put together into hours.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

_FINE_MINUTES = 7 * 24 * 60
_CHANGES = ""  # the `rule` of a line that counts changes

_ADD = """
insert into ledger values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict do update set
    rows = rows + excluded.rows, quarantined = quarantined + excluded.quarantined, dropped = dropped + excluded.dropped,
    evaluated = evaluated + excluded.evaluated, failed = failed + excluded.failed, warned = warned + excluded.warned,
    first_ordinal = min(coalesce(first_ordinal, excluded.first_ordinal), coalesce(excluded.first_ordinal, first_ordinal)),
    last_ordinal = max(coalesce(last_ordinal, excluded.last_ordinal), coalesce(excluded.last_ordinal, last_ordinal)),
    first_time = min(coalesce(first_time, excluded.first_time), coalesce(excluded.first_time, first_time)),
    last_time = max(coalesce(last_time, excluded.last_time), coalesce(excluded.last_time, last_time)),
    released = released + excluded.released
"""
_SUMS = """sum(rows), sum(quarantined), sum(dropped), sum(evaluated), sum(failed), sum(warned),
    min(first_ordinal), max(last_ordinal), min(first_time), max(last_time), sum(released)"""


@dataclass(slots=True)
class Tally:
    """Counts of one line. Ordinals and commit times (microseconds since 1970, UTC) are the range of the changes counted.

    Of the changes that were `quarantined` so many were `released` since: they count where they were released.
    """

    rows: int = 0
    quarantined: int = 0
    dropped: int = 0
    evaluated: int = 0
    failed: int = 0
    warned: int = 0
    first_ordinal: int | None = None
    last_ordinal: int | None = None
    first_time: int | None = None
    last_time: int | None = None
    released: int = 0

    @property
    def undelivered(self) -> int:
        """Changes that were quarantined and not released since."""
        return self.quarantined - self.released


@dataclass(frozen=True, slots=True)
class Minute:
    """What came in within a minute, or within an hour where it is long past; `start` in seconds since 1970, UTC."""

    start: int
    tally: Tally


@dataclass(slots=True)
class Ledger:
    """What has been counted since the last commit."""

    _open: dict[tuple[str, str, str], Tally] = field(default_factory=dict)

    def count(
        self,
        dataset: str,
        source: str,
        rows: int,
        quarantined: int,
        ordinals: tuple[int, int],
        times: tuple[int, int] | None,
        rules: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Adds changes. `rules` has counts by rule under `dropped`, `warned`, `failed` and `evaluated`."""
        line = self._open.setdefault((dataset, source, _CHANGES), Tally())
        line.rows += rows
        line.quarantined += quarantined
        line.dropped += sum(rules["dropped"].values())
        line.first_ordinal = ordinals[0] if line.first_ordinal is None else min(line.first_ordinal, ordinals[0])
        line.last_ordinal = ordinals[1] if line.last_ordinal is None else max(line.last_ordinal, ordinals[1])
        if times is not None:
            line.first_time = times[0] if line.first_time is None else min(line.first_time, times[0])
            line.last_time = times[1] if line.last_time is None else max(line.last_time, times[1])
        self._count_rules(dataset, source, rules)

    def _count_rules(self, dataset: str, source: str, rules: Mapping[str, Mapping[str, int]]) -> None:
        for what, counts in rules.items():
            for rule, number in counts.items():
                tally = self._open.setdefault((dataset, source, rule), Tally())
                setattr(tally, what, getattr(tally, what) + number)

    def release(self, dataset: str, source: str, rows: int, rules: Mapping[str, Mapping[str, int]]) -> None:
        """Counts changes that were quarantined and are not any more: delivered now, or `dropped` by a rule. `rules` as for `count`."""
        line = self._open.setdefault((dataset, source, _CHANGES), Tally())
        line.released += rows
        line.dropped += sum(rules.get("dropped", {}).values())
        self._count_rules(dataset, source, rules)

    def write(self, db: sqlite3.Connection, now: float) -> None:
        """Into the open transaction, under the minute of `now`."""
        minute = int(now // 60)
        db.executemany(
            _ADD,
            [
                (
                    *(minute, *key),
                    *(t.rows, t.quarantined, t.dropped, t.evaluated, t.failed, t.warned),
                    *(t.first_ordinal, t.last_ordinal, t.first_time, t.last_time, t.released),
                )
                for key, t in self._open.items()
            ],
        )
        self.forget()

    def forget(self) -> None:
        """Drops what has not been written."""
        self._open.clear()


def coarsen(db: sqlite3.Connection, now: float) -> None:
    """Puts minutes older than a week together into hours, inside the open transaction. The sums stay what they are."""
    before = int(now // 60) - _FINE_MINUTES
    before -= before % 60
    done = db.execute("select value from kept where name = 'coarse'").fetchone()
    between = (done[0] if done else 0, before)  # what came in since with an older time (a clock that jumped) stays as it is
    found = db.execute(
        f"""select minute - minute % 60, dataset, source, rule, {_SUMS} from ledger where minute >= ? and minute < ?
            group by minute - minute % 60, dataset, source, rule""",
        between,
    ).fetchall()
    db.execute("delete from ledger where minute >= ? and minute < ?", between)
    db.executemany(_ADD, found)
    db.execute("insert or replace into kept values ('coarse', ?)", (before,))


def totals(db: sqlite3.Connection) -> dict[str, Tally]:
    """By dataset, since the journal began."""
    return {name: Tally(*sums) for name, *sums in db.execute(f"select dataset, {_SUMS} from ledger where rule = '' group by dataset")}


def rule_totals(db: sqlite3.Connection, dataset: str) -> dict[str, Tally]:
    """By rule of a dataset, since the journal began: `evaluated`, `failed`, `warned` and `dropped`."""
    found = db.execute(f"select rule, {_SUMS} from ledger where rule <> '' and dataset = ? group by rule", (dataset,))
    return {name: Tally(*sums) for name, *sums in found}


def minutes(db: sqlite3.Connection, dataset: str, since: float, rule: str = _CHANGES) -> list[Minute]:
    """The lines of a dataset, or of one of its rules, from the minute of `since` on, oldest first."""
    found = db.execute(
        f"select minute, {_SUMS} from ledger where dataset = ? and rule = ? and minute >= ? group by minute",
        (dataset, rule, int(since // 60)),
    )
    return [Minute(minute * 60, Tally(*sums)) for minute, *sums in found]
