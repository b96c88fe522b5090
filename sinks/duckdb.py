"""The sink that keeps tables in a DuckDB file, exactly once, and lets others read the file in between."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import duckdb
import pyarrow as pa
import structlog
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from journal.batch import ChangeBatch, CopyMarker, Longs
from pipeline.errors import AlreadyRunningError, SinkShapeError, SluiceError, TerminalError, TransientError
from pipeline.model import Block
from sinks.base import ANOTHER_JOURNAL, Cursor, RefusedRow, Sink, Standing, Target
from sinks.bookkeeping import CURSORS, DELETED_AT, POSITION
from sinks.duckdb_bag import BagWriter
from sinks.duckdb_ddl import create_table, has_key
from sinks.duckdb_file import DuckDBFile, OutOfMemory, explained
from sinks.duckdb_history import HistoryWriter
from sinks.duckdb_mirror import MirrorWriter
from sinks.duckdb_read import held_rows, read_rows
from sinks.duckdb_schema import Catalogue
from sinks.duckdb_session import KeyTakenError, Session, quoted
from sinks.duckdb_table import Table

log = structlog.get_logger("sluice.duckdb")

_HOLD = 5.0  # seconds under load after which readers get a turn
_TURN = 0.1  # seconds that the file is left to them
_READ_PATIENCE = 20.0

Writer = MirrorWriter | BagWriter | HistoryWriter


class DuckDBConfig(Block):
    """`type: duckdb` of a sink."""

    path: Path = Field(description="the DuckDB file, made if it is missing; relative to the pipeline file's folder")
    memory_limit: str = Field(
        default="2GB", pattern=r"^\d+(\.\d+)?\s*[KMGT]i?B$", description="memory that DuckDB may use, such as 500MB or 4GB"
    )
    threads: int = Field(default=1, ge=1, le=256, description="threads of DuckDB; more write faster while cores are idle")

    @field_validator("path")
    @classmethod
    def _from_the_folder(cls, path: Path, info: ValidationInfo) -> Path:
        folder = (info.context or {}).get("folder")
        return path.expanduser() if folder is None else Path(folder) / path.expanduser()


@dataclass(slots=True)
class _Open:
    """A table that is written to. `registered` is what the file knows of (`keyless`, `filling`)."""

    table: Table
    writer: Writer
    registered: tuple[bool, bool]


class DuckDBSink(Sink):
    """Rows and cursor in one transaction; see docs/duckdb-sink.md."""

    kind = "duckdb"
    Config: ClassVar[type[BaseModel]] = DuckDBConfig
    pace: ClassVar[float] = 0.2
    most_rows: ClassVar[int | None] = 122_880  # a row group: what goes beyond one is compressed twice

    def __init__(self, name: str, config: DuckDBConfig, pipeline: str) -> None:
        super().__init__(name, config, pipeline)
        self._file = DuckDBFile(config.path, config.memory_limit, config.threads)
        self._session = Session(self._file)
        self._catalogue = Catalogue(self._session, (pipeline, name))
        self._epoch = 0
        self._tables: dict[str, _Open] = {}
        self._careful: set[str] = set()  # tables in which rows that were new at the source were found
        self._unkeyed: set[str] = set()  # tables whose primary key takes more memory than there is

    def open(self, journal: str) -> Cursor | None:
        self.close()
        self._file.take()
        try:
            of, text = self._fenced(journal)
            if text is not None and of != journal:
                raise TerminalError(f"the sink {self.name} ({self._file.path}) is fed by another journal", hint=ANOTHER_JOURNAL)
            gone = self._catalogue.forget_dropped()
            self._session.commit()
        except BaseException:
            self.close()
            raise
        if text is None:
            return None
        cursor = Cursor.decode(text)
        # a table that somebody dropped goes there in no way any more, so it is copied again
        return replace(cursor, epoch=self._epoch, routes={**cursor.routes, **dict.fromkeys(gone, "dropped")})

    def _fenced(self, journal: str) -> tuple[str, str | None]:
        """Takes the cursor (and its journal) over from whoever had it: that one notices when it next takes the file."""
        self._session.begin()
        for statement in self._catalogue.foundation():
            self._session.execute(statement)
        mine = [self.pipeline, self.name]
        held = self._session.rows(f"SELECT journal, cursor, epoch FROM {CURSORS} WHERE pipeline = ? AND sink = ?", mine)
        of, text, epoch = held[0] if held else (journal, None, 0)
        self._epoch = int(epoch) + 1
        if held:
            self._session.execute(f"UPDATE {CURSORS} SET epoch = ? WHERE pipeline = ? AND sink = ?", [self._epoch, *mine])
        else:
            self._session.execute(f"INSERT INTO {CURSORS} (pipeline, sink, journal, epoch) VALUES (?, ?, ?, 1)", [*mine, journal])
        return of, text

    def standing(self) -> Standing:
        with self._file.reading(_READ_PATIENCE) as borrowed:
            return Catalogue(Session(borrowed), (self.pipeline, self.name)).standing()

    def adopt(self, cursor: Cursor) -> None:
        self.close()
        self._file.take()
        try:
            self._fenced(cursor.journal)
            self.commit(cursor)
        finally:
            self.close()

    def plan(self, targets: Sequence[Target]) -> Sequence[str]:
        with self._file.reading(_READ_PATIENCE) as borrowed:
            catalogue = Catalogue(Session(borrowed), (self.pipeline, self.name))
            return [*catalogue.foundation(), *(statement for target in targets for statement in catalogue.changes(target))]

    def prepare(self, target: Target) -> None:
        if self._session.in_transaction:
            self._table(target)
            return
        self.begin()
        self._table(target)
        self._session.commit()

    def _table(self, target: Target) -> _Open:
        known = self._tables.get(target.table.lower())
        if known is not None and known.table.target == target:
            return known
        if known is not None:
            known.writer.flush()
        try:
            for statement in self._catalogue.changes(target):
                self._session.execute(statement)
        except KeyTakenError as error:
            raise SinkShapeError(
                f"{target.table} in {self._file.path} has rows that are the same under the new key ({', '.join(target.schema.key)})",
                hint="drop it and it is copied again",
            ) from error
        return self._opened(target)

    def _opened(self, target: Target) -> _Open:
        """The table as the file knows it."""
        registered = self._catalogue.registered(target.table)
        state = (registered.keyless, registered.filling) if registered is not None else (False, False)
        table = Table(self._session, target, *state)
        writer: Writer
        if target.mode == "history":
            writer = HistoryWriter(table)
        elif target.schema.key:
            writer = MirrorWriter(table, careful=target.table in self._careful)
        else:
            writer = BagWriter(table)
        found = self._tables[target.table.lower()] = _Open(table, writer, state)
        return found

    def begin(self) -> None:
        if not self._file.held:
            self._file.take()
            self._check_epoch()
        self._session.begin()

    def _check_epoch(self) -> None:
        query = f"SELECT epoch FROM {CURSORS} WHERE pipeline = ? AND sink = ?"
        found = self._session.rows(query, [self.pipeline, self.name]) if self._catalogue.shape(CURSORS) else []
        if not found:
            raise TransientError(f"{self._file.path} is another file than it was: what it holds is read anew")
        if found[0][0] != self._epoch:
            raise AlreadyRunningError(
                f"another process has taken over the sink {self.name} of the pipeline {self.pipeline}",
                hint="only one may deliver into it: stop one of them",
            )

    def write(self, target: Target, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        writer = self._table(target).writer
        with self._noting(target.table):
            return writer.write(batch, leaving)

    @contextmanager
    def _noting(self, *tables: str) -> Iterator[None]:
        """Notes in which tables rows that were new at the source were found: there Sluice looks before it writes from now on."""
        try:
            yield
        except KeyTakenError as error:
            if self._careful.issuperset(tables):
                raise TerminalError(
                    f"a row breaks a constraint in {self._file.path} that Sluice did not make: {error.__cause__}",
                    hint="drop the constraint: in DuckDB it stops a whole transaction, and tells of no row",
                ) from error
            self._careful.update(tables)
            raise

    def mark(self, target: Target, marker: CopyMarker) -> None:
        found = self._table(target)
        with self._noting(target.table):
            found.writer.flush()
        table = found.table
        table.filling = False
        if marker.phase == "start" and has_key(target) and table.newest < 0:
            self._session.execute(f"DROP TABLE {table.name}")
            self._session.execute(create_table(target, target.table, with_key=False))
            table.keyless = table.filling = True
        if marker.phase == "end" and not marker.first and target.on_delete != "ignore":
            self._sweep(found, marker.ordinal)

    def _sweep(self, found: _Open, ordinal: int) -> None:
        table = found.table
        if isinstance(found.writer, HistoryWriter):
            found.writer.sweep(ordinal)
        elif table.target.on_delete == "soft":
            deleted = quoted(DELETED_AT)
            older = f"{quoted(POSITION)} < {ordinal} AND {deleted} IS NULL"
            self._session.execute(f"UPDATE {table.name} SET {deleted} = now() WHERE {older}")
        else:
            table.truncate(ordinal)

    def commit(self, cursor: Cursor) -> None:
        for found in self._tables.values():
            with self._noting(found.table.target.table):
                found.writer.flush()
            self._remember(found)
        with self._noting(*(found.table.target.table for found in self._tables.values())):
            values = [replace(cursor, epoch=self._epoch).encode(), cursor.journal, self.pipeline, self.name, self._epoch]
            update = f"UPDATE {CURSORS} SET cursor = ?, journal = ? WHERE pipeline = ? AND sink = ? AND epoch = ?"
            if self._session.execute(update, values) != 1:
                self._check_epoch()
            self._session.commit()
        for found in self._tables.values():
            if found.table.keyless and not found.table.filling and found.table.target.table not in self._unkeyed:
                self._make_key(found)
        if time.monotonic() - self._file.taken_at >= _HOLD:
            self._file.let_go(leave_free=_TURN)

    def _remember(self, found: _Open) -> None:
        state = (found.table.keyless, found.table.filling)
        if state != found.registered:
            self._session.execute(self._catalogue.register(found.table.target, *state))
            found.registered = state

    def _make_key(self, found: _Open) -> None:
        """Gives a table that a copy has filled its primary key, in a transaction of its own: DuckDB wants no changes before it in one."""
        table = found.table
        add = f"ALTER TABLE {table.name} ADD PRIMARY KEY ({table.names.key(table.target)})"
        try:
            try:
                self._alone(add)
            except KeyTakenError:
                rows = f"SELECT arg_max(rowid, {quoted(POSITION)}) FROM {table.name} GROUP BY {table.names.key(table.target)}"
                self._alone(f"DELETE FROM {table.name} WHERE rowid NOT IN ({rows})")
                self._alone(add)
        except OutOfMemory as error:
            self._unkeyed.add(table.target.table)
            log.warning("table stays without a primary key", sink=self.name, table=table.target.table, error=error.message, hint=error.hint)
            return
        table.keyless = False
        self._session.begin()
        self._remember(found)
        self._session.commit()

    def _alone(self, statement: str) -> None:
        self._session.begin()
        try:
            self._session.execute(statement)
            self._session.commit()
        except SluiceError:
            self._session.rollback()
            raise

    def rollback(self) -> None:
        for found in self._tables.values():
            found.writer.forget()
        self._tables.clear()
        self._session.rollback()

    def rest(self) -> str | None:
        if not self._session.in_transaction:
            self._file.let_go()
        return None

    def held(self, target: Target, batch: ChangeBatch) -> pa.Table:
        return held_rows(target, batch)

    def read(self, target: Target, keys: pa.Table | None) -> Iterator[pa.Table]:
        with self._file.reading(_READ_PATIENCE) as borrowed:
            session = Session(borrowed)
            if not Catalogue(session, (self.pipeline, self.name)).shape(target.table):
                return
            try:
                yield from read_rows(borrowed.connection, Table(session, target), keys)
            except duckdb.Error as error:
                raise explained(error, self._file.path) from error

    def close(self) -> None:
        self.rollback()
        self._file.let_go()
