"""How datasets did when somebody looked: samples that no ledger holds, in the state of a pipeline.

Each look is put into a minute, an hour and a day, of which the minutes are kept for two days, the hours for two months, and the days for
three years: so many lines there are at most, however often somebody looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from journal import state_file as tables
from journal.state_access import StateAccess

_DAY = 86_400
KEPT = {60: 2 * _DAY, 3600: 62 * _DAY, _DAY: 3 * 366 * _DAY}
"""Width of a line -> how long it is kept, both in seconds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a dataset, `at` seconds since 1970. Lengths of time in seconds; None where nothing was known.

    open        records that waited; oldest: how long the oldest of them had
    freshness   age of the newest change; delay: from a commit at the source to the last sink
    within      whether that was what the contract promises
    """

    dataset: str
    at: float
    open: int
    oldest: float | None = None
    freshness: float | None = None
    delay: float | None = None
    within: bool | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """The looks of one stretch of time: `open` at its end, the others at their worst; how many of those that were judged were within."""

    dataset: str
    start: int
    open: int
    oldest: float | None
    freshness: float | None
    delay: float | None
    judged: int
    within: int


_WORST = ("oldest", "freshness", "delay")
_table = tables.history


class History(StateAccess):
    """How the datasets of a pipeline did, in all runs."""

    def keep(self, samples: Sequence[Sample]) -> None:
        """Puts samples down, and forgets lines that are over."""
        if not samples:
            return
        made = insert(_table)
        new, old = made.excluded, _table.c
        worst = {name: sa.func.max(sa.func.coalesce(old[name], new[name]), sa.func.coalesce(new[name], old[name])) for name in _WORST}
        counted = {"judged": old.judged + new.judged, "within": old.within + new.within}
        put = made.on_conflict_do_update(index_elements=["dataset", "width", "start"], set_={"open": new.open, **worst, **counted})
        now = max(sample.at for sample in samples)
        with self._writing() as connection:
            connection.execute(put, [_row(sample, width) for sample in samples for width in KEPT])
            for width, kept in KEPT.items():
                connection.execute(sa.delete(_table).where(old.width == width, old.start < now - kept))

    def since(self, since: float, width: int) -> list[Line]:
        """From a time on (seconds since 1970), lines that are fine enough for stretches of `width` seconds; oldest first."""
        if not self._has(_table):
            return []
        fine = max((kept for kept in KEPT if kept <= width), default=min(KEPT))
        chosen = (_table.c.dataset, _table.c.start, _table.c.open, *(_table.c[name] for name in _WORST), _table.c.judged, _table.c.within)
        query = sa.select(*chosen).where(_table.c.width == fine, _table.c.start >= since)
        return [Line(**row) for row in self._read(query.order_by(_table.c.dataset, _table.c.start))]


def _row(sample: Sample, width: int) -> dict[str, object]:
    return {
        "dataset": sample.dataset,
        "width": width,
        "start": int(sample.at // width) * width,
        "open": sample.open,
        **{name: getattr(sample, name) for name in _WORST},
        "judged": int(sample.within is not None),
        "within": int(bool(sample.within)),
    }
