"""Statements on the DuckDB file of a sink, in one transaction at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from pipeline.errors import AgainError, TransientError
from sinks.duckdb_file import explained


class Opened(Protocol):
    """A file that is open, or not (`held`)."""

    @property
    def path(self) -> Path: ...

    @property
    def held(self) -> bool: ...

    @property
    def connection(self) -> duckdb.DuckDBPyConnection: ...

    def abandon(self) -> None:
        """Closes it after an error that leaves it unusable."""


class KeyTakenError(AgainError):
    """A row was written as new whose key is in the table. Whoever writes it again must look first."""


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


class _Exchange:
    """A relation whose rows are put in place just before a statement reads them.

    A table that is registered itself is kept by DuckDB until the end of the transaction, and with it all that a long one writes.
    """

    def __init__(self) -> None:
        self.rows = _NO_ROWS

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.rows.__arrow_c_stream__(requested_schema)


_NO_ROWS = pa.table({"n": pa.nulls(0, pa.int64())})
_RELATIONS = ("rows_in", "keys_in")


class Session:
    """Runs statements. After an error nothing of the open transaction is left, and `commit` says so, which DuckDB does not."""

    def __init__(self, file: Opened) -> None:
        self.file = file
        self._open = False
        self._broken = False
        self._exchanges = {name: _Exchange() for name in _RELATIONS}
        self._known_to: duckdb.DuckDBPyConnection | None = None

    @property
    def in_transaction(self) -> bool:
        return self._open

    def begin(self) -> None:
        """Opens a transaction."""
        self._broken = False
        if self._known_to is not self.file.connection:
            self._known_to = self.file.connection
            for name, exchange in self._exchanges.items():
                self._known_to.register(name, exchange)
        self._execute("BEGIN TRANSACTION", ())
        self._open = True

    def commit(self) -> None:
        """Raises TransientError where an error has undone the transaction."""
        self._execute("COMMIT", ())
        self._open = False

    def rollback(self) -> None:
        """Nothing of an open transaction stays; one that cannot even be rolled back goes with the connection."""
        was_open, self._open, self._broken = self._open, False, False
        if was_open and self.file.held:
            try:
                self.file.connection.execute("ROLLBACK")
            except duckdb.TransactionException:
                pass  # the error that is being handled has ended it
            except duckdb.Error:
                self.file.abandon()

    def execute(self, sql: str, parameters: Sequence[object] = (), **given: pa.Table) -> int:
        """Runs a statement over the given relations (`rows_in`, `keys_in`). Returns how many rows it touched."""
        with self._relations(given):
            found = self._execute(sql, parameters).fetchall()
        return int(found[0][0]) if found and isinstance(found[0][0], int) else 0

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        found: list[tuple[Any, ...]] = self._execute(sql, parameters).fetchall()
        return found

    def table(self, sql: str, **given: pa.Table) -> pa.Table:
        """The answer of a query over the given relations."""
        with self._relations(given):
            return self._execute(sql, (), arrow=True)

    @contextmanager
    def _relations(self, given: Mapping[str, pa.Table]) -> Iterator[None]:
        for name, rows in given.items():
            self._exchanges[name].rows = rows
        try:
            yield
        finally:
            for name in given:
                self._exchanges[name].rows = _NO_ROWS

    def _execute(self, sql: str, parameters: Sequence[object], arrow: bool = False) -> Any:
        if self._broken and self._open:
            raise TransientError(f"the transaction on {self.file.path} was undone by the error before")
        try:
            if arrow:
                return self.file.connection.sql(sql).to_arrow_table()
            return self.file.connection.execute(sql, list(parameters))
        except duckdb.Error as error:
            self._broken = True
            if isinstance(error, duckdb.FatalException | duckdb.InternalException):
                self._open = False
                self.file.abandon()
            if isinstance(error, duckdb.ConstraintException) or "PRIMARY KEY or UNIQUE constraint violation" in str(error):
                raise KeyTakenError(
                    f"a row that was taken for new is in {self.file.path} already: it is looked for and written again"
                ) from error
            raise explained(error, self.file.path) from error
