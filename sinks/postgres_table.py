"""What is asked of, or done to, a table of a Postgres sink besides writing rows: looking up, truncating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from journal.batch import Longs, Mask
from pipeline.errors import SinkShapeError
from sinks.base import RefusedRow
from sinks.bookkeeping import POSITION
from sinks.postgres_copy import array_param
from sinks.postgres_errors import RowRefused
from sinks.postgres_session import RELEASE, SAVEPOINT, UNDO, Command, Session, quoted
from sinks.postgres_sql import TableSql
from sinks.postgres_stage import Staging, copy_all, copy_rows, run_staged, salvage
from sinks.rows import Rows


def looked_up(session: Session, query: str, given: Sequence[pa.Array], columns: Sequence[int]) -> tuple[Mask, Mapping[int, pa.StringArray]]:
    """Runs a query with arrays of n keys that gives the places (from 1) of those that it finds, and the given columns.

    Returns bool[n], the keys that were found, and string array[n] of each column, null where they were not. A key that the server cannot
    even read is not there.
    """
    n = len(given[0])
    at = [np.empty(0, np.int64)]
    texts: list[list[str | None]] = [[] for _ in columns]

    def attempt(start: int, stop: int) -> None:
        places, *values = session.texts(Command(query, [array_param(array.slice(start, stop - start)) for array in given]))
        at.append(np.array([int(place or 0) - 1 + start for place in places], np.int64))
        for text, more in zip(texts, values, strict=True):
            text += more

    salvage(n, attempt)
    places = np.concatenate(at)
    found = np.zeros(n, np.bool_)
    found[places] = True
    spread = np.full(n, -1, np.int64)
    spread[places] = np.arange(len(places))
    index = pa.array(spread, mask=~found)
    return found, {c: pa.array(text, pa.string()).take(index) for c, text in zip(columns, texts, strict=True)}


def truncate(session: Session, table: str, position: int) -> None:
    """Empties the table of all that is older than `position`. TRUNCATE where that is all there is."""
    newer = session.rows(f"SELECT 1 FROM {table} WHERE {quoted(POSITION)} > {position} LIMIT 1")
    if not newer:
        session.execute(SAVEPOINT.statement)
        try:
            session.execute(f"TRUNCATE {table}", shaping=True)
        except SinkShapeError:  # other tables refer to it
            session.execute(UNDO)
        else:
            session.execute(RELEASE.statement)
            return
    session.execute(f"DELETE FROM {table} WHERE {quoted(POSITION)} < {position}")


def append(session: Session, staging: Staging, sql: TableSql, cells: Sequence[pa.Array], rows: Rows) -> list[RefusedRow]:
    """Adds rows, as the columns of `TableSql.own`, to a table that takes them all as new; returns those that it refuses.

    Straight into the table where it takes all of them, which is quicker; else by way of a temporary table, which finds the bad ones.
    """
    try:
        copy_all(session, sql.table, sql.columns, cells)
    except RowRefused:
        staging.empty(sql.rows_table, sql.rows_columns)
        refusals = copy_rows(session, sql.rows_table, sql.columns, cells)
        _, more = run_staged(session, sql.insert_staged, rows.position)
        return refused_rows([*refusals, *more], rows.rows)
    return []


def refused_rows(refusals: Sequence[tuple[int, RowRefused]], rows: Sequence[int] | Longs) -> list[RefusedRow]:
    """The refusals of rows that stand for the given rows of a batch."""
    return [RefusedRow(int(rows[at]), error.column, error.message) for at, error in refusals]
