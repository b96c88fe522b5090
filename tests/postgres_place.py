"""A Postgres database as a place for sinks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from sinks.postgres import PostgresConfig, PostgresSink
from tests.fix_postgres import Database


class PostgresPlace:
    """A database of the test's own."""

    def __init__(self, database: Database, schema: str = "public") -> None:
        self.database = database
        self.schema = schema
        self.dsn = database.dsn

    def sink(self, name: str = "out", pipeline: str = "test") -> PostgresSink:
        return PostgresSink(name, PostgresConfig.model_validate({"dsn": self.dsn, "schema": self.schema}), pipeline)

    def table(self, name: str) -> Sequence[Mapping[str, str | None]]:
        with self.database.connect() as connection:
            connection.execute("SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'")
            cursor = psycopg.RawCursor(connection)
            cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(self.schema, name)).as_bytes(connection))
            result = cursor.pgresult
            assert result is not None
            assert cursor.description is not None
            names = [column.name for column in cursor.description]
            cells = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
            return [{n: None if v is None else v.decode() for n, v in zip(names, row, strict=True)} for row in cells]

    def make_foreign_table(self, name: str) -> None:
        with self.database.connect() as connection:
            connection.execute(sql.SQL("CREATE TABLE {} (id integer)").format(sql.Identifier(self.schema, name)))

    def drop_table(self, name: str) -> None:
        with self.database.connect() as connection:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(self.schema, name)))

    def crash(self, sink: PostgresSink) -> None:
        session = sink._session
        assert session is not None
        session._connection.pgconn.finish()  # the socket closes, as it does when a process is killed

    @contextmanager
    def away(self) -> Iterator[None]:
        self.database.server.stop("immediate")
        try:
            yield
        finally:
            self.database.server.start()

    def powerless(self) -> PostgresSink:
        with self.database.connect() as connection:
            connection.execute("DROP ROLE IF EXISTS powerless")
            connection.execute("CREATE ROLE powerless LOGIN PASSWORD 'powerless'")
        dsn = self.database.server.dsn_for(self.database.name, user="powerless", password="powerless")
        return PostgresSink("out", PostgresConfig.model_validate({"dsn": dsn, "schema": "nobody's"}), "test")
