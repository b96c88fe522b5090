"""The tables of a DuckDB sink: what is there, and the statements that make or alter what a dataset needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from journal.schema import TableSchema
from pipeline.errors import SinkShapeError
from sinks.base import Cursor, Standing, Target
from sinks.bookkeeping import CURSORS, POSITION, TABLES, bookkeeping, check_names
from sinks.duckdb_ddl import alter_table, create_table, full_type, has_key
from sinks.duckdb_names import Names
from sinks.duckdb_session import Session, literal, quoted


@dataclass(frozen=True, slots=True)
class Registered:
    """What Sluice knows of a table that it made: whose it is, for which schema, and the names and types of its columns.

    `keyless`: it is still to get its primary key, all at once, when the copy that fills it is over. `filling`: nothing but that copy
    has been written into it.
    """

    owner: tuple[str, str]  # pipeline and sink
    schema: TableSchema
    mode: str
    on_delete: str
    shape: Mapping[str, str]
    keyless: bool = False
    filling: bool = False

    def encode(self) -> str:
        told = {"schema": self.schema.encoded, "mode": self.mode, "on_delete": self.on_delete, "shape": dict(self.shape)}
        return json.dumps({**told, "keyless": self.keyless, "filling": self.filling}, ensure_ascii=False)

    @classmethod
    def decode(cls, owner: tuple[str, str], text: str) -> Registered:
        found = json.loads(text)
        schema = TableSchema.decode(found["schema"])
        return cls(owner, schema, found["mode"], found["on_delete"], found["shape"], found["keyless"], found["filling"])


class Catalogue:
    """The tables of one file, as a session sees them."""

    def __init__(self, session: Session, owner: tuple[str, str]) -> None:
        self._session = session
        self._owner = owner

    def foundation(self) -> list[str]:
        """What makes Sluice's own tables, as far as they are missing."""
        cursors = f"CREATE TABLE {CURSORS} (pipeline VARCHAR, sink VARCHAR, journal VARCHAR, cursor VARCHAR, epoch BIGINT NOT NULL,"
        tables = f"CREATE TABLE {TABLES} (table_name VARCHAR PRIMARY KEY, pipeline VARCHAR NOT NULL, sink VARCHAR NOT NULL,"
        wanted = {
            CURSORS: f"{cursors} PRIMARY KEY (pipeline, sink))",
            TABLES: f"{tables} dataset VARCHAR NOT NULL, made VARCHAR NOT NULL)",
        }
        return [statement for name, statement in wanted.items() if not self.shape(name)]

    def standing(self) -> Standing:
        """See Sink.standing."""
        if not (self.shape(CURSORS) and self.shape(TABLES)):
            return Standing(None, 0)
        mine = " WHERE pipeline = ? AND sink = ?"
        held = self._session.rows(f"SELECT cursor FROM {CURSORS}{mine} AND cursor IS NOT NULL", self._owner)
        tables = self._session.rows(f"SELECT table_name FROM {TABLES}{mine}", self._owner)
        newest = [
            self._session.rows(f"SELECT coalesce(max({quoted(POSITION)}), 0) FROM {quoted(table)}")[0][0]
            for (table,) in tables
            if self.shape(table)
        ]
        return Standing(Cursor.decode(held[0][0]) if held else None, max(newest, default=0))

    def shape(self, table: str) -> dict[str, str]:
        """Every column of the table now, in order, with its type; empty if there is no such table. Case does not matter to DuckDB."""
        query = (
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = 'main'"
            " AND lower(table_name) = lower(?) ORDER BY column_index"
        )
        return {str(name): str(kind) for name, kind in self._session.rows(query, [table])}

    def primary_key(self, table: str) -> tuple[str, ...]:
        """The columns of its primary key; none if it has none."""
        query = (
            "SELECT constraint_column_names FROM duckdb_constraints() WHERE database_name = current_database() AND schema_name = 'main'"
            " AND lower(table_name) = lower(?) AND constraint_type = 'PRIMARY KEY'"
        )
        found = self._session.rows(query, [table])
        return tuple(found[0][0]) if found else ()

    def registered(self, table: str) -> Registered | None:
        """What Sluice knows of the table; None if it never made it."""
        if not self.shape(TABLES):
            return None
        found = self._session.rows(f"SELECT pipeline, sink, made FROM {TABLES} WHERE lower(table_name) = lower(?)", [table])
        return Registered.decode((found[0][0], found[0][1]), found[0][2]) if found else None

    def forget_dropped(self) -> list[str]:
        """Forgets tables that somebody dropped. Returns their datasets."""
        query = f"SELECT table_name, dataset FROM {TABLES} WHERE pipeline = ? AND sink = ?"
        gone = [(table, dataset) for table, dataset in self._session.rows(query, self._owner) if not self.shape(table)]
        for table, _ in gone:
            self._session.execute(f"DELETE FROM {TABLES} WHERE table_name = ?", [table])
        return [dataset for _, dataset in gone]

    def changes(self, target: Target) -> list[str]:
        """The statements that make the table, or alter it, for the target; none where it is right.

        Raises SinkShapeError for a table that is not ours, or was changed by others, or cannot follow.
        """
        check_names(target)
        known = self.registered(target.table)
        shape = self.shape(target.table)
        if not shape:
            return [create_table(target, target.table, with_key=True), self.register(target)]
        if known is None:
            raise SinkShapeError(
                f"the table {target.table} exists in {self._session.file.path} and was not made by Sluice",
                hint="name another table with `table` in the pipeline file, or rename or drop this one",
            )
        if known.owner != self._owner:
            raise SinkShapeError(
                f"the table {target.table} in {self._session.file.path} belongs to the sink {known.owner[1]!r} of the pipeline"
                f" {known.owner[0]!r} (names that differ only in case are one to DuckDB)",
                hint="name another table with `table`, or another file",
            )
        if known.schema.dataset != target.schema.dataset:
            raise SinkShapeError(
                f"the table {target.table} in {self._session.file.path} already holds the dataset {known.schema.dataset}",
                hint="name another table with `table` in the pipeline file (names that differ only in case are one to DuckDB)",
            )
        self._check_untouched(target, known, shape)
        if known.mode != target.mode:
            raise SinkShapeError(
                f"the table {target.table} was made with `mode: {known.mode}`, and now it is `mode: {target.mode}`",
                hint="name another table with `table`, or drop this one and it is copied again",
            )
        if known.schema == target.schema and known.on_delete == target.on_delete:
            return []
        was = Target(target.dataset, target.table, known.schema, mode=known.mode, on_delete=known.on_delete)
        with_key = has_key(target) and not known.keyless
        foreign = [name for name in shape if name not in known.shape]
        return [
            *alter_table(was, target, self.primary_key(target.table), with_key, foreign),
            self.register(target, known.keyless, known.filling),
        ]

    def _check_untouched(self, target: Target, known: Registered, shape: Mapping[str, str]) -> None:
        for name, kind in known.shape.items():
            if shape.get(name) != kind:
                what = "has another type than Sluice gave it" if name in shape else "is gone"
                raise SinkShapeError(
                    f"the column {name!r} of {target.table} in {self._session.file.path} {what}: someone else changed the table",
                    hint="put it back, or drop the table and it is copied again",
                )

    def register(self, target: Target, keyless: bool = False, filling: bool = False) -> str:
        """The statement that remembers what the table is now."""
        names = Names.of(target)
        shape = {names.held(column.name): full_type(column.type) for column in (*target.schema.columns, *bookkeeping(target))}
        made = Registered(self._owner, target.schema, target.mode, target.on_delete, shape, keyless, filling)
        values = ", ".join(literal(text) for text in (target.table, *self._owner, target.dataset, made.encode()))
        return f"INSERT OR REPLACE INTO {TABLES} (table_name, pipeline, sink, dataset, made) VALUES ({values})"
