"""The one in-memory DuckDB of a process, for computing over batches: no files, no network, one thread, UTC.

A statement is prepared once against a relation whose rows are exchanged before each run, so that a batch costs about a tenth
of a millisecond and not a whole planning.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
# DuckDB lifts a common subexpression out of TRY, where its error is not caught any more
_STATEMENTS = ("SET timezone = 'UTC'", "SET disabled_optimizers = 'common_subexpressions'", "SET lock_configuration = true")


_MOST_KEPT = 128


def quoted(name: str) -> str:
    """An identifier as DuckDB reads it back."""
    return '"' + name.replace('"', '""') + '"'


class _Exchange:
    """A relation whose rows are put in place just before it is read."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.rows.__arrow_c_stream__(requested_schema)


class Session:
    """One connection and what is prepared on it. Safe to use from several threads, one at a time."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.connection = duckdb.connect(":memory:", config=_SETTINGS)
        for statement in _STATEMENTS:
            self.connection.execute(statement)
        self._names = itertools.count()
        self._discarded: list[str] = []
        self._over: dict[tuple[pa.Schema, str], tuple[str, _Exchange]] = {}

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement that reads no batch."""
        with self.lock:
            return self.connection.execute(sql, list(parameters)).fetchall()

    def over(self, rows: pa.Table, sql: str) -> pa.Table:
        """The answer to a statement over `given`, which stands for these rows. Raises duckdb.Error."""
        with self.lock:
            kept = self._over.pop((rows.schema, sql), None)
            if kept is None:
                kept = self._kept(rows.schema, sql)
            self._over[rows.schema, sql] = kept
            name, exchange = kept
            exchange.rows = rows
            try:
                return self.connection.sql(f"EXECUTE {name}").to_arrow_table()
            finally:
                exchange.rows = rows.slice(0, 0)

    def _kept(self, schema: pa.Schema, sql: str) -> tuple[str, _Exchange]:
        """A prepared statement; the one that was not used for the longest goes when there are many."""
        if len(self._over) >= _MOST_KEPT:
            oldest = next(iter(self._over))
            name, _ = self._over.pop(oldest)
            self._discard(name)
        return self._prepared(schema, sql)

    def _prepared(self, schema: pa.Schema, sql: str) -> tuple[str, _Exchange]:
        """The name of a statement over `given`, prepared, and what holds the rows that stand for it. Raises duckdb.Error."""
        name = f"prepared_{next(self._names)}"
        exchange = _Exchange(schema.empty_table())
        self.connection.register(f"{name}_input", exchange)
        try:
            self.connection.execute(f"PREPARE {name} AS WITH given AS (FROM {name}_input) {sql}")
        except duckdb.Error:
            self.connection.unregister(f"{name}_input")
            raise
        return name, exchange

    def _discard(self, name: str) -> None:
        self.connection.execute(f"DEALLOCATE {name}")
        self.connection.unregister(f"{name}_input")

    def prepare(self, schema: pa.Schema, expression: str) -> Prepared:
        """Prepares an expression over the columns of `schema`. Raises duckdb.Error."""
        with self.lock:
            while self._discarded:
                self._discard(self._discarded.pop())
            name, exchange = self._prepared(schema, f"SELECT {expression} AS answer FROM given")
            prepared = Prepared(self, name, exchange)
            # only noted here: a finalizer can run in the middle of another statement
            weakref.finalize(prepared, self._discarded.append, name).atexit = False
            return prepared

    def close(self) -> None:
        with self.lock:
            self.connection.close()


class Prepared:
    """An expression over rows that change with every run."""

    def __init__(self, session: Session, name: str, exchange: _Exchange) -> None:
        self._session = session
        self._name = name
        self._exchange = exchange

    def run(self, rows: pa.Table) -> npt.NDArray[Any]:
        """The answer for each row, in their order. Raises duckdb.Error."""
        with self._session.lock:
            self._exchange.rows = rows
            try:
                return np.asarray(self._session.connection.execute(f"EXECUTE {self._name}").fetchnumpy()["answer"])
            finally:
                self._exchange.rows = rows.slice(0, 0)


_session: Session | None = None
_owner = -1
_guard = threading.Lock()


def session() -> Session:
    """The session of this process, made when it is first asked for."""
    global _session, _owner
    with _guard:
        if _session is None or _owner != os.getpid():
            _session, _owner = Session(), os.getpid()
            atexit.register(_session.close)
        return _session
