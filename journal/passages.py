"""When sinks had what: how far each of them was, a line a second at most while it moves, in the state of a pipeline.

What was committed between two lines was there by the second of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

RESOLUTION = 1.0
"""Seconds between two lines of a sink, at least."""

KEPT = 3600
"""Lines of a sink that are kept, beyond those of entries that the journal still has."""


@dataclass(frozen=True, slots=True)
class Passage:
    """By `at` (seconds since 1970) a sink had everything up to entry `seq`, which is every change up to `ordinal`."""

    seq: int
    at: float
    ordinal: int


def passage_table(tables: sa.MetaData) -> sa.Table:
    """Where the lines are."""
    return sa.Table(
        "passed",
        tables,
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("journal", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("ordinal", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def note(connection: sa.Connection, table: sa.Table, sink: str, journal: str, passage: Passage, oldest: int) -> None:
    """Puts down a line, inside the open transaction, and forgets those that are over: before entry `oldest`, and another journal's."""
    line = {"sink": sink, "journal": journal, "seq": passage.seq, "at": passage.at, "ordinal": passage.ordinal}
    connection.execute(insert(table).values(**line).on_conflict_do_nothing())
    mine = table.c.sink == sink
    newest = sa.select(table.c.seq).where(mine, table.c.journal == journal).order_by(table.c.seq.desc()).limit(1).offset(KEPT)
    over = sa.and_(table.c.seq < oldest, table.c.seq <= newest.scalar_subquery())
    connection.execute(sa.delete(table).where(mine, sa.or_(table.c.journal != journal, over)))


def passed_at(passages: Sequence[Passage], seq: int) -> tuple[float | None, float | None]:
    """When a sink that has entry `seq` had it: after the first time, by the second; None where no line says."""
    place = bisect_left(passages, seq, key=lambda one: one.seq)
    before = passages[place - 1].at if place else None
    return before, passages[place].at if place < len(passages) else None
