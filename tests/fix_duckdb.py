"""DuckDB files of a test's own, and a hand that writes into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sinks.base import Sink
from sinks.duckdb import DuckDBConfig, DuckDBSink
from tests.sink_place import Hand


@dataclass
class FilePlace:
    """A DuckDB file of a test's own."""

    path: Path
    sinks: list[DuckDBSink] = field(default_factory=list)

    def sink(self, name: str = "out", pipeline: str = "test") -> DuckDBSink:
        made = DuckDBSink(name, DuckDBConfig(path=self.path), pipeline)
        self.sinks.append(made)
        return made

    @contextmanager
    def _alone(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file as somebody else finds it."""
        for sink in self.sinks:
            sink.rest()
        with duckdb.connect(str(self.path)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection

    def table(self, name: str) -> Sequence[Mapping[str, str | None]]:
        with self._alone() as connection:
            found = connection.execute(f'SELECT CAST(COLUMNS(*) AS VARCHAR) FROM "{name}"')
            columns = [column[0] for column in found.description or ()]
            return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]

    def make_foreign_table(self, name: str) -> None:
        with self._alone() as connection:
            connection.execute(f'CREATE TABLE "{name}" (id INTEGER)')

    def drop_table(self, name: str) -> None:
        with self._alone() as connection:
            connection.execute(f'DROP TABLE "{name}"')

    def crash(self, sink: Sink) -> None:
        assert isinstance(sink, DuckDBSink)
        sink._file.abandon()  # DuckDB rolls back, and leaves its log

    def away(self) -> AbstractContextManager[None]:
        raise AssertionError("a file is not away")

    def powerless(self) -> Sink:
        # root may write everywhere but there
        return DuckDBSink("out", DuckDBConfig(path=Path("/sys/warehouse.duckdb")), "test")

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[FilePlace]:
    made = FilePlace(tmp_path / "warehouse.duckdb")
    yield made
    made.close()


@pytest.fixture
def hand(place: FilePlace) -> Hand:
    return Hand(place)


def ask(hand: Hand, place: FilePlace, query: str) -> list[tuple[Any, ...]]:
    """What somebody else sees in the file."""
    hand.sink.rest()
    with duckdb.connect(str(place.path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(query).fetchall()


def key_of(hand: Hand, place: FilePlace, table: str = "orders") -> list[str]:
    """The columns of a table's primary key; none where it has none."""
    query = f"SELECT constraint_column_names FROM duckdb_constraints() WHERE table_name = '{table}' AND constraint_type = 'PRIMARY KEY'"
    found = ask(hand, place, query)
    return list(found[0][0]) if found else []
