"""The sink that keeps tables in a Postgres database as they are at the source: exactly once, with the source's own types and text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import ClassVar

import psycopg
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, Field, SecretStr, field_validator

from journal.batch import ChangeBatch, CopyMarker, Longs
from pipeline.errors import AlreadyRunningError, NotYetError, TerminalError, TransientError
from pipeline.model import Block
from sinks.base import ANOTHER_JOURNAL, Cursor, RefusedRow, SharedSink, Standing, Target
from sinks.bookkeeping import CURSORS, DELETED_AT, POSITION, TABLES, workers_place
from sinks.postgres_bag import BagWriter
from sinks.postgres_errors import RowRefused
from sinks.postgres_history import HistoryWriter
from sinks.postgres_mirror import MirrorWriter
from sinks.postgres_read import read_rows
from sinks.postgres_schema import TargetSchema
from sinks.postgres_session import Command, Session, quoted
from sinks.postgres_sql import TableSql
from sinks.postgres_stage import Staging

Writer = MirrorWriter | BagWriter | HistoryWriter


@dataclass(frozen=True, slots=True)
class _Table:
    """A table that has the shape of its target; `settled` once that is committed."""

    target: Target
    sql: TableSql
    writer: Writer
    settled: bool


class PostgresConfig(Block):
    """`type: postgres` of a sink."""

    dsn: SecretStr = Field(description="libpq connection string or URL of the database; service files and PG* variables work")
    schema_: str = Field("public", alias="schema", min_length=1, description="schema of the tables, made if it is missing")

    @field_validator("dsn")
    @classmethod
    def _understood(cls, dsn: SecretStr) -> SecretStr:
        try:
            conninfo_to_dict(dsn.get_secret_value())
        except psycopg.ProgrammingError:
            raise ValueError("is not a connection string or URL that libpq understands") from None
        return dsn


class PostgresSink(SharedSink):
    """Rows and cursor in one transaction; see docs/postgres-sink.md."""

    kind = "postgres"
    Config: ClassVar[type[BaseModel]] = PostgresConfig

    def __init__(self, name: str, config: PostgresConfig, pipeline: str) -> None:
        super().__init__(name, config, pipeline)
        self._dsn = config.dsn.get_secret_value()
        self._schema_name = config.schema_
        self._session: Session | None = None
        self._looking: Session | None = None
        self._place = name  # in the table of cursors
        self._workers = 1
        self._epoch = 0
        self._tables: dict[str, _Table] = {}
        self._number = 0

    def open(self, journal: str) -> Cursor | None:
        self.close()
        self._place = self.name
        session = self._connected("deliver")
        try:
            schema = self._target(session)
            of, text = self._fenced(session, schema, journal)
            if text is not None and of != journal:
                raise TerminalError(
                    f"the sink {self.name} ({session.server}, schema {self._schema_name}) is fed by another journal", hint=ANOTHER_JOURNAL
                )
            gone = session.rows(
                f"DELETE FROM {schema.qualified(TABLES)} k WHERE pipeline = %s AND sink = %s AND NOT EXISTS (SELECT 1 FROM pg_class c"
                " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = k.table_name) RETURNING dataset",
                [self.pipeline, self.name, self._schema_name],
            )
            session.end("COMMIT")
        except BaseException:
            session.close()
            raise
        self._begun(session, schema)
        self._workers = 1
        if text is None:
            return None
        cursor = Cursor.decode(text)
        self._workers = cursor.of
        # a table that somebody dropped goes there in no way any more, so it is copied again
        return replace(cursor, epoch=self._epoch, routes={**cursor.routes, **{dataset: "dropped" for (dataset,) in gone}})

    def _begun(self, session: Session, schema: TargetSchema) -> None:
        self._session = session
        self._schema = schema
        self._staging = Staging(session)

    def join(self, journal: str, worker: int, of: int) -> Cursor:
        self.close()
        self._place = workers_place(self.name, worker)
        session = self._connected(f"deliver {worker}")
        try:
            schema = self._target(session)
            cursor = None
            if not schema.foundation():
                session.begin()
                held = session.rows(
                    f"UPDATE {schema.qualified(CURSORS)} SET epoch = epoch + 1 WHERE pipeline = %s AND sink = %s RETURNING cursor, epoch",
                    [self.pipeline, self._place],
                )
                cursor = Cursor.decode(held[0][0]) if held else None
            if cursor is None or cursor.of != of or cursor.journal != journal:
                raise NotYetError(f"the first worker of the sink {self.name} has not begun yet")
            session.end("COMMIT")
        except BaseException:
            session.close()
            raise
        self._epoch = int(held[0][1])
        self._begun(session, schema)
        return replace(cursor, epoch=self._epoch)

    def seize(self) -> Sequence[Cursor]:
        session = self._opened()
        session.begin()
        held = self._fence_others(session, self._schema)
        if missing := [worker for worker in range(1, self._workers) if worker not in held]:
            raise TerminalError(
                f"the sink {self.name} ({session.server}): what its worker {missing[0]} holds is not in {CURSORS} any more",
                hint=f"drop the tables of the sink and its rows in {CURSORS}: then everything is copied",
            )
        return [held[worker] for worker in range(1, self._workers)]

    def _fence_others(self, session: Session, schema: TargetSchema) -> dict[int, Cursor]:
        """What every worker but the first holds, those of other times among them. They stay in the table: epochs must not begin anew."""
        rows = session.rows(
            f"UPDATE {schema.qualified(CURSORS)} SET epoch = epoch + 1"
            " WHERE pipeline = %s AND starts_with(sink, %s) RETURNING sink, cursor",
            [self.pipeline, workers_place(self.name)],
        )
        return {int(place.rpartition("/")[2]): Cursor.decode(text) for place, text in rows}

    def hand_out(self, cursors: Sequence[Cursor]) -> None:
        session = self._opened()
        for worker, cursor in enumerate(cursors[1:], 1):
            session.rows(
                f"INSERT INTO {self._schema.qualified(CURSORS)} AS c (pipeline, sink, journal, cursor, epoch) VALUES (%s, %s, %s, %s, 1)"
                " ON CONFLICT (pipeline, sink) DO UPDATE SET journal = excluded.journal, cursor = excluded.cursor, epoch = c.epoch + 1"
                " RETURNING 1",
                [self.pipeline, workers_place(self.name, worker), cursor.journal, cursor.encode()],
            )
        self.commit(cursors[0])
        self._workers = len(cursors)

    def cursors(self) -> Sequence[Cursor]:
        try:
            session = self._looking = self._looking or self._connected("look")
            if not self._target(session).knows_cursors():
                return []
            rows = session.rows(
                f"SELECT sink, cursor FROM {self._target(session).qualified(CURSORS)}"
                " WHERE pipeline = %s AND (sink = %s OR starts_with(sink, %s)) AND cursor IS NOT NULL",
                [self.pipeline, self.name, workers_place(self.name)],
            )
        except TransientError:
            if self._looking is not None:
                self._looking.close()
            self._looking = None
            raise
        found = {place: Cursor.decode(text) for place, text in rows}
        if self.name not in found:
            return []
        of = found[self.name].of
        places = [self.name, *(workers_place(self.name, worker) for worker in range(1, of))]
        return [found[place] for place in places if place in found]

    def _connected(self, what: str) -> Session:
        return Session(self._dsn, f"sluice {self.pipeline} {what}:{self.name}")

    def _target(self, session: Session) -> TargetSchema:
        return TargetSchema(session, self._schema_name, (self.pipeline, self.name))

    def _fenced(self, session: Session, schema: TargetSchema, journal: str) -> tuple[str, str | None]:
        """Makes Sluice's own tables, and takes the cursor (and its journal) over from whoever had it. From its next commit on, that one
        fails. Leaves the transaction open."""
        session.begin()
        if schema.foundation():
            session.execute("SELECT pg_advisory_xact_lock(hashtext('sluice'))")
            for statement in schema.foundation():
                session.execute(statement, shaping=True)
        held = session.rows(
            f"INSERT INTO {schema.qualified(CURSORS)} AS c (pipeline, sink, journal, epoch) VALUES (%s, %s, %s, 1)"
            " ON CONFLICT (pipeline, sink) DO UPDATE SET epoch = c.epoch + 1 RETURNING journal, cursor, epoch",
            [self.pipeline, self.name, journal],
        )
        of, text, epoch = held[0]
        self._epoch = int(epoch)
        return of, text

    def standing(self) -> Standing:
        with closing(self._connected("look")) as session:
            session.execute("SET default_transaction_read_only = on")
            return self._target(session).standing()

    def adopt(self, cursor: Cursor) -> None:
        with closing(self._connected("resync")) as session:
            schema = self._target(session)
            self._fenced(session, schema, cursor.journal)
            session.rows(
                f"UPDATE {schema.qualified(CURSORS)} SET journal = %s, cursor = %s WHERE pipeline = %s AND sink = %s RETURNING 1",
                [cursor.journal, replace(cursor, epoch=self._epoch).encode(), self.pipeline, self.name],
            )
            self._fence_others(session, schema)
            session.end("COMMIT")

    def plan(self, targets: Sequence[Target]) -> Sequence[str]:
        with closing(self._connected("plan")) as session:
            session.execute("SET default_transaction_read_only = on")
            schema = self._target(session)
            return [*schema.foundation(), *(statement for target in targets for statement in schema.changes(target))]

    def prepare(self, target: Target) -> None:
        self._table(target)

    def _table(self, target: Target) -> _Table:
        known = self._tables.get(target.table)
        if known is not None and known.target == target:
            return known
        session = self._opened()
        statements = self._schema.changes(target)
        if statements:  # another worker may be about to do the same
            session.rows("SELECT pg_advisory_xact_lock(hashtext(%s))", [self._schema.qualified(target.table)])
            statements = self._schema.changes(target)
        for statement in statements:
            session.execute(statement, shaping=True)
        if known is not None:
            session.forget()
            self._staging.drop(known.sql.rows_table)
            self._staging.drop(known.sql.keys_table)
        self._number += 1
        sql = TableSql.of(target, self._schema, self._number)
        writer = MirrorWriter if target.schema.key else BagWriter
        made = (HistoryWriter if target.mode == "history" else writer)(session, self._staging, sql)
        self._tables[target.table] = _Table(target, sql, made, settled=not statements)
        return self._tables[target.table]

    def _opened(self) -> Session:
        if self._session is None:
            raise TransientError(f"the sink {self.name} is not connected")
        return self._session

    def begin(self) -> None:
        self._opened().begin()

    def write(self, target: Target, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        return self._table(target).writer.write(batch, leaving)

    def mark(self, target: Target, marker: CopyMarker) -> None:
        table = self._table(target)
        if isinstance(table.writer, MirrorWriter):
            table.writer.copying_again = marker.phase == "start" and not marker.first
        if marker.phase != "end" or marker.first or target.on_delete == "ignore":
            return
        try:
            self._sweep(table, marker.ordinal)
        except RowRefused as error:
            raise TerminalError(
                f"{self._opened().server}: rows of {target.table} that the source has no longer cannot go: {error.message}",
                hint="do other tables in the target refer to them?",
            ) from error

    def _sweep(self, table: _Table, ordinal: int) -> None:
        if isinstance(table.writer, HistoryWriter):
            table.writer.sweep(ordinal)
            return
        older = f"{quoted(POSITION)} < {ordinal}"
        if table.sql.soft:
            deleted = quoted(DELETED_AT)
            self._opened().execute(f"UPDATE {table.sql.table} SET {deleted} = now() WHERE {older} AND {deleted} IS NULL")
        else:
            self._opened().execute(f"DELETE FROM {table.sql.table} WHERE {older}")

    def commit(self, cursor: Cursor) -> None:
        session = self._opened()
        held = f"UPDATE {self._schema.qualified(CURSORS)} SET cursor = $1, journal = $2 WHERE pipeline = $3 AND sink = $4 AND epoch = $5"
        text = replace(cursor, epoch=self._epoch).encode()
        values = [value.encode() for value in (text, cursor.journal, self.pipeline, self._place, str(self._epoch))]
        # dividing by no rows at all stops the COMMIT behind it, in the same round trip
        fence = Command(f"WITH held AS ({held} RETURNING 1) SELECT 1 / count(*) FROM held", values)
        try:
            session.run([fence, Command("COMMIT")])
        except RowRefused as error:
            self.rollback()
            if error.at == 0:
                raise AlreadyRunningError(
                    f"another process has taken over the sink {self.name} of the pipeline {self.pipeline}",
                    hint="only one may deliver into it: stop one of them",
                ) from error
            raise TerminalError(
                f"{session.server}: the target refuses the transaction as a whole: {error.message}",
                hint="drop the constraint in the target that is checked only at the end of a transaction: it tells of no row",
            ) from error
        self._staging.ended(committed=True)
        self._tables = {name: replace(table, settled=True) for name, table in self._tables.items()}

    def rollback(self) -> None:
        if self._session is None:
            return
        try:
            self._session.end("ROLLBACK")
        except TransientError:  # the connection is gone, and the transaction with it
            self.close()
            return
        self._staging.ended(committed=False)
        if any(not table.settled for table in self._tables.values()):
            self._tables = {name: table for name, table in self._tables.items() if table.settled}
            self._session.forget()

    def held(self, target: Target, batch: ChangeBatch) -> pa.Table:
        return pa.table(list(batch.columns), list(target.schema.names))

    def read(self, target: Target, keys: pa.Table | None) -> Iterator[pa.Table]:
        with closing(self._connected("verify")) as session:
            session.execute(
                "SET default_transaction_read_only = on; SET enable_hashjoin = on; SET enable_mergejoin = on; SET enable_seqscan = on"
            )
            schema = self._target(session)
            if schema.shape(target.table):
                yield from read_rows(session, TableSql.of(target, schema, 0), keys)

    def close(self) -> None:
        for session in (self._session, self._looking):
            if session is not None:
                session.close()
        self._session = self._looking = None
        self._tables = {}
