"""What is asked of, or done to, a table of a Postgres sink besides writing rows: looking up, truncating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from journal.batch import Longs, Mask
from pipeline.errors import SinkShapeError
from sinks.base import RefusedRow
from sinks.bookkeeping import POSITION
from sinks.postgres_errors import RowRefused
from sinks.postgres_session import Command, Session, quoted


def looked_up(session: Session, query: Command, n: int, columns: Sequence[int]) -> tuple[Mask, Mapping[int, pa.StringArray]]:
    """Runs a query that gives the places (from 1) of those of n keys that it finds, and the given columns.

    Returns bool[n], the keys that were found, and string array[n] of each column, null where they were not.
    """
    places, *values = session.texts(query) or [[] for _ in range(len(columns) + 1)]
    at = np.array([int(place or 0) - 1 for place in places], np.int64)
    found = np.zeros(n, np.bool_)
    found[at] = True
    spread = np.full(n, -1, np.int64)
    spread[at] = np.arange(len(at))
    index = pa.array(spread, mask=~found)
    return found, {c: pa.array(texts, pa.string()).take(index) for c, texts in zip(columns, values, strict=True)}


def truncate(session: Session, table: str, position: int) -> None:
    """Empties the table of all that is older than `position`. TRUNCATE where that is all there is."""
    newer = session.rows(f"SELECT 1 FROM {table} WHERE {quoted(POSITION)} > {position} LIMIT 1")
    if not newer:
        session.execute("SAVEPOINT sluice_part")
        try:
            session.execute(f"TRUNCATE {table}", shaping=True)
        except SinkShapeError:  # other tables refer to it
            session.execute("ROLLBACK TO sluice_part; RELEASE sluice_part")
        else:
            session.execute("RELEASE sluice_part")
            return
    session.execute(f"DELETE FROM {table} WHERE {quoted(POSITION)} < {position}")


def refused_rows(refusals: Sequence[tuple[int, RowRefused]], rows: Sequence[int] | Longs) -> list[RefusedRow]:
    """The refusals of rows that stand for the given rows of a batch."""
    return [RefusedRow(int(rows[at]), error.column, error.message) for at, error in refusals]
