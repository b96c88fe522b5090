"""Getting many rows into a target though some of them are refused: temporary tables, and halving until bad rows stand alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from journal.batch import Longs
from sinks.postgres_copy import FORMAT, csv_blocks
from sinks.postgres_errors import RowRefused
from sinks.postgres_session import RELEASE, SAVEPOINT, UNDO, Command, Session


class Staging:
    """The temporary tables of a session. They are made once and emptied by the server at each commit."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._made: set[str] = set()
        self._new: set[str] = set()
        self._used: set[str] = set()

    def empty(self, table: str, columns: str) -> None:
        """Makes the table, or empties it. Outside of savepoints: what they undo would take it away again."""
        if table not in self._made:
            self._session.execute(f"CREATE TEMP TABLE {table.removeprefix('pg_temp.')} ({columns}) ON COMMIT DELETE ROWS", shaping=True)
            self._made.add(table)
            self._new.add(table)
        elif table in self._used:
            self._session.execute(f"TRUNCATE {table}")
        self._used.add(table)

    def drop(self, table: str) -> None:
        """The table's shape is another one from now on."""
        if table in self._made:
            self._session.execute(f"DROP TABLE {table}")
            self._made.discard(table)

    def ended(self, committed: bool) -> None:
        """The transaction is over."""
        if not committed:
            self._made -= self._new
        self._new.clear()
        self._used.clear()


def salvage(n: int, attempt: Callable[[int, int], None]) -> list[tuple[int, RowRefused]]:
    """Calls `attempt(start, stop)`, which does all of its part or, raising RowRefused, nothing, until only single bad rows are left out.

    Returns the rows that were refused. A refusal that says where it happened costs one more call, else they are found by halving.
    """
    refused: list[tuple[int, RowRefused]] = []
    parts = [(0, n)] if n else []
    while parts:
        start, stop = parts.pop()
        try:
            attempt(start, stop)
        except RowRefused as error:
            if error.at is not None or stop - start == 1:
                bad = start + (error.at or 0)
                refused.append((bad, error))
                parts += [(bad + 1, stop)] if bad + 1 < stop else []
                parts += [(start, bad)] if start < bad else []
            else:
                middle = (start + stop) // 2
                parts += [(middle, stop), (start, middle)]
    return refused


def copy_all(session: Session, table: str, columns: str, rows: Sequence[pa.Array]) -> None:
    """Copies all rows into a table or, raising RowRefused, none."""
    with session.savepoint():
        session.copy_in(f"COPY {table} ({columns}) FROM STDIN {FORMAT}", csv_blocks(rows))


def copy_rows(session: Session, table: str, columns: str, rows: Sequence[pa.Array]) -> list[tuple[int, RowRefused]]:
    """Copies rows into a table; returns those whose values it refuses."""

    def attempt(start: int, stop: int) -> None:
        copy_all(session, table, columns, [column.slice(start, stop - start) for column in rows])

    return salvage(len(rows[0]), attempt)


def run_each(session: Session, commands: Sequence[Command]) -> tuple[list[int], list[tuple[int, RowRefused]]]:
    """Runs commands, all in one round trip if none is refused. Returns how many rows each touched (-1: refused), and the refusals."""
    counts = [-1] * len(commands)

    def attempt(start: int, stop: int) -> None:
        for place in range(start, stop):
            if any(value is not None and b"\0" in value for value in commands[place].params):  # libpq would cut the value there
                raise RowRefused("Postgres holds no text with a NUL in it", sqlstate="22021", at=place - start)
        try:
            counts[start:stop] = session.run([SAVEPOINT, *commands[start:stop], RELEASE])[1:-1]
        except RowRefused as error:
            session.execute(UNDO)
            if error.at is not None:
                error.at -= 1  # the savepoint is not one of them
            raise

    return counts, salvage(len(commands), attempt)


def run_staged(session: Session, statement: str, positions: Longs) -> tuple[int, list[tuple[int, RowRefused]]]:
    """Runs a statement over staged rows, whose positions are given ascending. Returns how many rows it touched, and the refusals."""
    touched = 0

    def attempt(start: int, stop: int) -> None:
        nonlocal touched
        bounds = [b"%d" % positions[start], b"%d" % positions[stop - 1]]
        try:
            touched += session.run([SAVEPOINT, Command(statement, bounds), RELEASE])[1]
        except RowRefused as error:
            session.execute(UNDO)
            error.at = None
            raise

    refused = salvage(len(positions), attempt)
    return touched, refused
