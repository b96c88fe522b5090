"""How a part of the program gets at the state of a pipeline: the one way to read the file, and the one way to write it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from journal import state_file as tables


class StateAccess:
    """The state of a pipeline. Any thread, any number of processes; before anything has run everything is empty.

    Raises JournalError for a file that is damaged or of a newer version, TransientError where it is locked for long or the disk is
    full, TerminalError where it cannot be opened or written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / tables.FILE
        self._engine = sa.create_engine("sqlite://", creator=lambda: tables.connect(self._path), poolclass=sa.QueuePool, pool_size=2)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The state in a folder; its file is made by the first write."""
        return cls(folder)

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        tables.make(self._path)
        with tables.reported(self._path), self._engine.begin() as connection:
            yield connection

    def _read(self, query: sa.Executable) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with tables.reported(self._path), self._engine.connect() as connection:
            result = connection.execute(query)
            names = list(result.keys())
            return [dict(zip(names, row, strict=True)) for row in result]

    def _has(self, table: sa.Table) -> bool:
        """Whether the file has a table: one of an older version, in a folder that may not be written, lacks what came later."""
        return bool(self._read(sa.text("select 1 as found from sqlite_master where name = :name").bindparams(name=table.name)))

    def close(self) -> None:
        self._engine.dispose()
