"""How datasets did when somebody looked: samples that no ledger holds, in the state of a pipeline.

Each look is put into a minute, an hour and a day, of which the minutes are kept for two days, the hours for two months, and the days for
three years: so many lines there are at most, however often somebody looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

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


def history_table(tables: sa.MetaData) -> sa.Table:
    """Where the lines are."""
    return sa.Table(
        "history",
        tables,
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("width", sa.Integer, primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("open", sa.BigInteger, nullable=False),
        sa.Column("oldest", sa.Float),
        sa.Column("freshness", sa.Float),
        sa.Column("delay", sa.Float),
        sa.Column("judged", sa.BigInteger, nullable=False),
        sa.Column("within", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def keep(connection: sa.Connection, table: sa.Table, samples: Sequence[Sample]) -> None:
    """Puts samples down, inside the open transaction, and forgets lines that are over."""
    if not samples:
        return
    made = insert(table)
    new, old = made.excluded, table.c
    worst = {name: sa.func.max(sa.func.coalesce(old[name], new[name]), sa.func.coalesce(new[name], old[name])) for name in _WORST}
    counted = {"judged": old.judged + new.judged, "within": old.within + new.within}
    put = made.on_conflict_do_update(index_elements=["dataset", "width", "start"], set_={"open": new.open, **worst, **counted})
    connection.execute(put, [_row(sample, width) for sample in samples for width in KEPT])
    now = max(sample.at for sample in samples)
    for width, kept in KEPT.items():
        connection.execute(sa.delete(table).where(old.width == width, old.start < now - kept))


_WORST = ("oldest", "freshness", "delay")


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


def lines_since(table: sa.Table, since: float, width: int) -> sa.Select[tuple[object, ...]]:
    """The lines from a time on that are fine enough for stretches of `width` seconds, as far as they are kept."""
    fitting = [fine for fine in KEPT if fine <= width]
    fine = max(fitting) if fitting else min(KEPT)
    chosen = (table.c.dataset, table.c.start, table.c.open, *(table.c[name] for name in _WORST), table.c.judged, table.c.within)
    return sa.select(*chosen).where(table.c.width == fine, table.c.start >= since).order_by(table.c.dataset, table.c.start)
