"""The DuckDB sink keeps what every sink must keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import duckdb
import pytest

from sinks.base import Sink
from sinks.duckdb import DuckDBConfig, DuckDBSink
from tests.sink_conformance import SinkConformance


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


class TestDuckDB(SinkConformance):
    lacks: ClassVar[Mapping[str, str]] = {"away": "a file is not away; who holds it is tested on its own"}

    @pytest.fixture
    def place(self, place: FilePlace) -> FilePlace:
        return place
