"""Rows put down on disk in columns, so that they can be asked many questions in little memory.

A DuckDB file in a folder of its own. What does not fit the memory limit spills beside it; both are gone when the stage is closed.
Columns are called c0, c1, … whatever they are called outside.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa

from journal import duckdb_errors
from pipeline.errors import TerminalError

_MEMORY = "256MB"
_BATCH_ROWS = 1 << 16
_GROUP = 64
"""Columns that share a table: of thousands, a question about one would first have to look at all of their names."""


class Stage:
    """Rows by columns, which have places; a batch may bring columns that those before it lacked."""

    def __init__(self, folder: Path | None = None) -> None:
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="sluice-profile-", dir=folder, ignore_cleanup_errors=True)
        except OSError as error:
            raise TerminalError(f"no temporary folder can be made: {error.strerror}", hint="name another one in TMPDIR") from error
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": str(Path(self._folder.name, "spill")),
            "threads": 2,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._connection = duckdb.connect(str(Path(self._folder.name, "rows.duckdb")), config=settings)
        for statement in ("SET enable_external_access = false", "SET timezone = 'UTC'", "SET lock_configuration = true"):
            self._connection.execute(statement)
        self._tables: dict[str, list[str]] = {}
        self.rows = 0

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        self._folder.cleanup()

    def append(self, columns: Mapping[int, pa.Array], rows: int) -> None:
        """Adds rows; a column that earlier rows did not have is null there. Raises TerminalError where the disk is full."""
        groups: dict[str, dict[str, pa.Array]] = {table: {} for table in self._tables}
        for place, values in columns.items():
            table = f"given{place // _GROUP}"
            if table not in self._tables and self.rows:
                self._insert(table, {f"c{place}": pa.nulls(self.rows, values.type)})
            groups.setdefault(table, {})[f"c{place}"] = values
        for table, part in groups.items():
            self._insert(table, part or {self._tables[table][0]: pa.nulls(rows)})
        self.rows += rows

    def restage(self, batches: Iterator[Mapping[int, pa.Array]]) -> None:
        """Keeps what was made of columns, in the order of the rows, beside them: what was made of c3 is r3."""
        for columns in batches:
            groups: dict[str, dict[str, pa.Array]] = {}
            for place, values in columns.items():
                groups.setdefault(f"read{place // _GROUP}", {})[f"r{place}"] = values
            for table, part in groups.items():
                self._insert(table, part)

    def relation(self, *names: str) -> str:
        """What to put behind FROM to read these columns, row by row."""
        tables = dict.fromkeys(self._home(name) for name in names)
        return " POSITIONAL JOIN ".join(f'"{table}"' for table in tables)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The answer to a query. Raises TerminalError where the disk is full or a single value is larger than memory."""
        try:
            return self._connection.execute(query).fetchall()
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise _full(error) from error
        except duckdb.Error as error:  # whose own words may hold values that nobody should see
            raise TerminalError(f"a question about the rows has no answer: {duckdb_errors.kind(error)}") from None

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows again, in their order, in batches."""
        source = self.relation(*names)
        cursor = self._connection.cursor()
        try:
            listed = ", ".join(names)
            reader = cursor.sql(f"SELECT {listed} FROM {source}").to_arrow_reader(_BATCH_ROWS)
            yield from reader
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise _full(error) from error
        finally:
            cursor.close()

    def _home(self, name: str) -> str:
        return next(table for table, names in self._tables.items() if name in names)

    def _insert(self, table: str, columns: Mapping[str, pa.Array]) -> None:
        if not columns:
            return
        rows = pa.table(dict(columns))
        try:
            self._connection.register("batch", rows)
            kept = ", ".join(_kept(field) for field in rows.schema)
            known = self._tables.get(table)
            if known is None:
                self._connection.execute(f'CREATE TABLE "{table}" AS SELECT {kept} FROM batch LIMIT 0')
                self._tables[table] = list(columns)
            else:
                for name in columns:
                    if name not in known:
                        kind = self._connection.execute(f"DESCRIBE SELECT {_kept(rows.schema.field(name))} FROM batch").fetchall()[0][1]
                        self._connection.execute(f'ALTER TABLE "{table}" ADD COLUMN {name} {kind}')
                        known.append(name)
            self._connection.execute(f'INSERT INTO "{table}" BY NAME SELECT {kept} FROM batch')
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise _full(error) from error
        finally:
            self._connection.unregister("batch")


def _kept(field: pa.Field) -> str:
    """A column as the stage keeps it: what has an inside as JSON; an unknown type as its text."""
    kinds = pa.types
    if kinds.is_nested(field.type):
        return f"CAST(to_json({field.name}) AS VARCHAR) AS {field.name}"
    if kinds.is_null(field.type) or kinds.is_duration(field.type) or kinds.is_interval(field.type):
        return f"CAST({field.name} AS VARCHAR) AS {field.name}"
    return str(field.name)


def _full(error: duckdb.Error) -> TerminalError:
    kind = "memory" if isinstance(error, duckdb.OutOfMemoryException) else "disk"
    return TerminalError(
        f"the rows cannot be kept while they are looked at: too little {kind}",
        hint="profile fewer rows with --sample, or name a folder with more room in TMPDIR",
    )
