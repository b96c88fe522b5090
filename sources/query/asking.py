"""One answer of a query: its columns, and its rows in one snapshot, in the words in which Postgres copies tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pyarrow as pa
from psycopg import sql

from journal.batch import ChangeBatch, Defect
from journal.schema import Column, TableSchema
from pipeline.errors import Refused
from pipeline.names import nearest
from sources.base import SourceContext
from sources.postgres.copier import read_batch
from sources.postgres.copy import copy_of, copy_rows
from sources.postgres.session import Connection, Server
from sources.query.config import QueryConfig


class Query:
    """One query on one server. Every error that leaves here is a SluiceError."""

    def __init__(self, config: QueryConfig, context: SourceContext) -> None:
        self._source = context.name
        self._dataset = context.tables.get(context.name, context.name)
        declared = context.schemas.get(context.name)
        mapped = context.name in context.mapped
        self._key = () if mapped else context.keys.get(self._dataset) or (() if declared is None else declared.key)
        self._server = Server(config.dsn.get_secret_value(), f"sluice {context.pipeline}", config.connect_timeout)
        # on lines of its own: it may end with a comment
        self._text = sql.SQL("\n{}\n").format(sql.SQL(config.query))

    @property
    def label(self) -> str:
        """Where it is asked, without secrets."""
        return self._server.label

    def describe(self) -> TableSchema:
        """The columns of the answer. Raises Refused where there is none, or none that can be taken; TransientError."""
        with closing(self._server.connect()) as connection, self._snapshot(connection):
            return self._columns(connection)

    def answer(self, number: int, stopped: Callable[[], bool]) -> Iterator[tuple[TableSchema, ChangeBatch | None]]:
        """The columns, with no rows; then the rows, at most 65,536 at a time. Ends early when `stopped` says so."""
        with closing(self._server.connect()) as connection, self._snapshot(connection):
            schema = self._columns(connection)
            yield schema, None
            count, now = 0, int(time.time() * 1e6)
            for rows in copy_rows(self._server, connection, copy_of(self._text), len(schema.columns), stopped):
                batch = read_batch(schema, self._source, self._source, rows.columns, rows.count, lsn=number, nth=count, now=now)
                defects = [replace(defect, column=schema.names[place]) for place, defect in rows.defects]
                yield schema, replace(batch, defects=(*defects, *_without_key(batch)))
                count += rows.count

    @contextmanager
    def _snapshot(self, connection: Connection) -> Iterator[None]:
        with self._server.told():
            connection.execute("RESET search_path")  # names in a query are found as its user finds them
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
        if not connection.closed:
            with self._server.told():
                connection.execute("COMMIT")

    def _columns(self, connection: Connection) -> TableSchema:
        with self._server.told():
            found = connection.execute(sql.SQL("SELECT * FROM ({}) AS answer LIMIT 0").format(self._text)).pgresult
            assert found is not None  # noqa: S101  (it was a SELECT)
            given = [((found.fname(place) or b"").decode(), found.ftype(place), found.fmod(place)) for place in range(found.nfields)]
            columns = [
                Column(name, str(connection.execute("SELECT pg_catalog.format_type(%s, %s)", (kind, modifier)).fetchall()[0][0]))
                for name, kind, modifier in given
            ]
        names = [column.name for column in columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if not names or twice is not None:
            said = "has no columns" if not names else f"has two columns `{twice}`"
            raise Refused(f"the answer to the query of {self._source} {said}", hint="name them: … AS name")
        for name in self._key:
            if name not in names:
                raise Refused(
                    f"{name}, of the key of {self._dataset}, is not in the answer to the query of {self._source}", hint=nearest(name, names)
                )
        return TableSchema(self._dataset, tuple(columns), tuple(self._key))


def _without_key(batch: ChangeBatch) -> list[Defect]:
    """Rows that nothing identifies."""
    found: list[Defect] = []
    for name in batch.schema.key:
        column = batch.column(name)
        if column.null_count:
            rows = pa.compute.indices_nonzero(column.is_null()).to_pylist()
            found += [Defect(row, name, f"{name} is null, and is in the key", b"") for row in rows]
    return found
