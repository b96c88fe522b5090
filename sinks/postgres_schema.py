"""The tables of a Postgres sink: what is there, and the statements that make or alter what a dataset needs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from journal.schema import Column, TableSchema
from pipeline.errors import SinkShapeError
from sinks.base import Cursor, Standing, Target
from sinks.bookkeeping import CURSORS, DELETED_AT, POSITION, TABLES, bookkeeping, check_names
from sinks.evolution import AddColumn, DropColumn, RenameColumn, Step, WidenColumn, carried, steps
from sinks.history import OLD_KEY, OP
from sinks.postgres_errors import MOST_COLUMNS, RowRefused
from sinks.postgres_session import Session, literal, quoted
from sinks.row_hash import ROW

_LONGEST_NAME = 63  # bytes

Shape = tuple[tuple[str, str], ...]  # name and type of each column that is ours

_TYPE = re.compile(
    r"""^(?P<base>"(?:[^"]|"")+"|[^(\[]+?)\s*(?P<args>\([^)]*\))?(?P<tail>\s+with(?:out)?\s+time\s+zone)?(?P<array>(?:\[\d*\])*)$"""
)


@dataclass(frozen=True, slots=True)
class Registered:
    """What Sluice knows of a table that it made: whose it is, for which schema, and how the server describes it."""

    owner: tuple[str, str]  # pipeline and sink
    schema: TableSchema
    mode: str
    on_delete: str
    shape: Shape

    def encode(self) -> str:
        told = {"schema": self.schema.encoded, "mode": self.mode, "on_delete": self.on_delete, "shape": self.shape}
        return json.dumps(told, ensure_ascii=False)

    @classmethod
    def decode(cls, owner: tuple[str, str], text: str) -> Registered:
        found = json.loads(text)
        shape = tuple((name, kind) for name, kind in found["shape"])
        return cls(owner, TableSchema.decode(found["schema"]), found["mode"], found["on_delete"], shape)


class TargetSchema:
    """One schema of a target server, as a session sees it."""

    def __init__(self, session: Session, name: str, owner: tuple[str, str]) -> None:
        self._session = session
        self.name = name
        self._owner = owner
        self._types: dict[str, str] = {}

    def qualified(self, table: str) -> str:
        """The table in SQL."""
        return f"{quoted(self.name)}.{quoted(table)}"

    def foundation(self) -> list[str]:
        """What makes the schema and Sluice's own tables, as far as they are missing."""
        found = []
        if not self._session.rows("SELECT 1 FROM pg_namespace WHERE nspname = %s", [self.name]):
            found.append(f"CREATE SCHEMA {quoted(self.name)}")
        if not self._exists(CURSORS):
            found.append(
                f"CREATE TABLE {self.qualified(CURSORS)} (pipeline text, sink text, journal text, cursor text, epoch bigint NOT NULL,"
                " PRIMARY KEY (pipeline, sink))"
            )
        if not self._exists(TABLES):
            found.append(
                f"CREATE TABLE {self.qualified(TABLES)} (table_name text PRIMARY KEY, pipeline text NOT NULL, sink text NOT NULL,"
                " dataset text NOT NULL, made text NOT NULL)"
            )
        return found

    def knows_cursors(self) -> bool:
        """Whether there is a table of cursors."""
        return self._exists(CURSORS)

    def standing(self) -> Standing:
        """See Sink.standing."""
        if not (self._exists(CURSORS) and self._exists(TABLES)):
            return Standing(None, 0)
        mine = " WHERE pipeline = %s AND sink = %s"
        held = self._session.rows(f"SELECT cursor FROM {self.qualified(CURSORS)}{mine} AND cursor IS NOT NULL", self._owner)
        tables = self._session.rows(f"SELECT table_name FROM {self.qualified(TABLES)}{mine}", self._owner)
        newest = [
            self._session.rows(f"SELECT coalesce(max({quoted(POSITION)}), 0) FROM {self.qualified(table)}")[0][0]
            for (table,) in tables
            if self._exists(table)
        ]
        return Standing(Cursor.decode(held[0][0]) if held else None, max(newest, default=0))

    def registered(self, table: str) -> Registered | None:
        """What Sluice knows of the table; None if it never made it."""
        if not self._exists(TABLES):
            return None
        query = f"SELECT pipeline, sink, made FROM {self.qualified(TABLES)} WHERE table_name = %s"
        found = self._session.rows(query, [table])
        return Registered.decode((found[0][0], found[0][1]), found[0][2]) if found else None

    def _exists(self, table: str) -> bool:
        query = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"
        return bool(self._session.rows(query, [self.name, table]))

    def shape(self, table: str) -> dict[str, str]:
        """Every column of the table now, in order, with its type and typmod; empty if there is no such table."""
        query = """
            SELECT a.attname, t.typname || ' ' || a.atttypmod FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
            WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
        return {str(name): str(kind) for name, kind in self._session.rows(query, [self.name, table])}

    def type(self, text: str) -> str:
        """The type in this server's SQL: the same, or text where it is an extension's that the server has not."""
        if text not in self._types:
            found = _TYPE.match(text.strip())
            base = found["base"] if found else text
            array = "[]" if found and found["array"] else ""
            place = self._place(base)
            self._types[text] = (
                f"text{array}" if place is None or found is None else f"{place}{found['args'] or ''}{found['tail'] or ''}{array}"
            )
        return self._types[text]

    def _place(self, base: str) -> str | None:
        """The type's name in SQL, or None where this server has not, or cannot do, such a type."""
        if base == "xml" and not self._does_xml():
            return None
        bare = base[1:-1].replace('""', '"') if base.startswith('"') else base
        own = self._session.rows(
            "SELECT to_regtype('pg_catalog.' || quote_ident(%s)) IS NOT NULL OR"
            " (to_regtype(%s) IS NOT NULL AND (SELECT typnamespace = 'pg_catalog'::regnamespace FROM pg_type WHERE oid = to_regtype(%s)))",
            [bare, base, base],
        )
        if own[0][0]:
            return base
        of_extension = self._session.rows(
            "SELECT n.nspname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
            " JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e' WHERE t.typname = %s",
            [bare],
        )
        return f"{quoted(of_extension[0][0])}.{quoted(bare)}" if of_extension else None

    def _does_xml(self) -> bool:
        """A server can be built without."""
        try:
            with self._session.savepoint():
                self._session.rows("SELECT 'a'::xml")
        except RowRefused:
            return False
        return True

    def changes(self, target: Target) -> list[str]:
        """The statements that make the table, or alter it, for the target; none where it is right.

        Raises SinkShapeError for a table that is not ours, or was changed by others, or cannot follow.
        """
        check_names(target)
        self._check_limits(target)
        known = self.registered(target.table)
        shape = self.shape(target.table)
        if not shape:
            return [*self._create(target), *self._register(target)]
        if known is None:
            raise SinkShapeError(
                f"the table {self.name}.{target.table} exists and was not made by Sluice",
                hint="name another table with `table` in the pipeline file, or rename or drop this one",
            )
        if known.owner != self._owner:
            raise SinkShapeError(
                f"the table {self.name}.{target.table} belongs to the sink {known.owner[1]!r} of the pipeline {known.owner[0]!r}",
                hint="name another table with `table`, or another schema",
            )
        self._check_untouched(target, known, shape)
        if known.mode != target.mode:
            raise SinkShapeError(
                f"the table {self.name}.{target.table} was made with `mode: {known.mode}`, and now it is `mode: {target.mode}`",
                hint="name another table with `table`, or drop this one and it is copied again",
            )
        if known.schema == target.schema and known.on_delete == target.on_delete:
            return []
        return [*self._alter(target, known), *self._register(target)]

    def _check_limits(self, target: Target) -> None:
        width = len(target.schema.columns) + len(bookkeeping(target))
        if width > MOST_COLUMNS:
            raise SinkShapeError(
                f"the dataset {target.dataset} needs {width} columns with those of Sluice; a Postgres table holds {MOST_COLUMNS}",
                hint="leave columns out of this sink with `columns: {NAME: drop}`",
            )
        if len(target.table.encode()) > _LONGEST_NAME:
            raise SinkShapeError(f"the table name {target.table!r} is longer than {_LONGEST_NAME} bytes", hint="name it with `table`")

    def _check_untouched(self, target: Target, known: Registered, shape: Mapping[str, str]) -> None:
        for name, kind in known.shape:
            if shape.get(name) != kind:
                what = "has another type than Sluice gave it" if name in shape else "is gone"
                raise SinkShapeError(
                    f"the column {name!r} of {self.name}.{target.table} {what}: someone else changed the table",
                    hint="put it back, or drop the table and it is copied again",
                )

    def _create(self, target: Target) -> list[str]:
        columns = [f"{quoted(column.name)} {self.type(column.type)}" for column in target.schema.columns]
        columns += [self._definition(column) for column in bookkeeping(target)]
        if target.schema.key and target.mode == "mirror":
            columns.append(f"PRIMARY KEY ({_listed(target.schema.key)})")
        table = self.qualified(target.table)
        return [f"CREATE TABLE {table} ({', '.join(columns)})", *self._indexes(target)]

    def _definition(self, column: Column) -> str:
        return f"{quoted(column.name)} {column.type}" + ("" if column.nullable else " NOT NULL")

    def _indexes(self, target: Target) -> list[str]:
        """What rows are found by, where that is not a primary key. The unique one also keeps a change from being told twice."""
        table = self.qualified(target.table)
        found = [] if target.schema.key else [f"CREATE INDEX ON {table} ({quoted(ROW)})"]
        if target.mode == "history":
            if target.schema.key:
                found.append(f"CREATE UNIQUE INDEX ON {table} ({_listed((*target.schema.key, POSITION))})")
            found.append(f"CREATE INDEX ON {table} ({quoted(OLD_KEY)}) WHERE {quoted(OLD_KEY)} IS NOT NULL")
            found.append(f"CREATE INDEX ON {table} ({quoted(POSITION)}) WHERE {quoted(OP)} = 'truncate'")
        return found

    def _register(self, target: Target) -> list[str]:
        """Run after the table has its shape."""
        made = Registered(self._owner, target.schema, target.mode, target.on_delete, ())
        ours = ", ".join(literal(column.name) for column in (*target.schema.columns, *bookkeeping(target)))
        shape = (
            "SELECT json_agg(json_build_array(a.attname, t.typname || ' ' || a.atttypmod) ORDER BY a.attnum)"
            " FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid"
            f" WHERE a.attrelid = {literal(self.qualified(target.table))}::regclass AND a.attnum > 0"
            f" AND a.attname::text = ANY (ARRAY[{ours}])"
        )
        values = ", ".join(literal(text) for text in (target.table, *self._owner, target.dataset, made.encode()))
        table = self.qualified(TABLES)
        return [
            f"INSERT INTO {table} (table_name, pipeline, sink, dataset, made) VALUES ({values}) ON CONFLICT (table_name) DO UPDATE"
            " SET (pipeline, sink, dataset, made) = (excluded.pipeline, excluded.sink, excluded.dataset, excluded.made)",
            f"UPDATE {table} SET made = jsonb_set(made::jsonb, '{{shape}}', ({shape})::jsonb)::text"
            f" WHERE table_name = {literal(target.table)}",
        ]

    def _alter(self, target: Target, known: Registered) -> list[str]:
        table = self.qualified(target.table)
        todo = steps(known.schema, target.schema, f"{self.name}.{target.table}")
        rekeyed = tuple(
            after.name for name in known.schema.key for before, after in carried(known.schema, target.schema) if before.name == name
        )
        rekeys = rekeyed != target.schema.key
        found = self._drop_keys(target) if rekeys else []
        found += [f"ALTER TABLE {table} {self._step(step)}" for step in todo]
        for step in todo:
            if isinstance(step, AddColumn) and step.column.default is not None:
                found.append(f"ALTER TABLE {table} ALTER COLUMN {quoted(step.column.name)} DROP DEFAULT")
        was = Target(target.dataset, target.table, known.schema, mode=known.mode, on_delete=known.on_delete)
        before = {column.name: column for column in bookkeeping(was)}
        now = {column.name: column for column in bookkeeping(target)}
        found += [f"ALTER TABLE {table} ADD COLUMN {self._definition(column)}" for name, column in now.items() if name not in before]
        if DELETED_AT in before and DELETED_AT not in now:
            found.append(f"DELETE FROM {table} WHERE {quoted(DELETED_AT)} IS NOT NULL")
        found += [f"ALTER TABLE {table} DROP COLUMN {quoted(name)}" for name in before if name not in now]
        if not target.schema.key and target.schema != known.schema:
            found.append(self._rehash(target))
        if rekeys:
            key = (
                [f"ALTER TABLE {table} ADD PRIMARY KEY ({_listed(target.schema.key)})"]
                if target.mode == "mirror" and target.schema.key
                else []
            )
            found += key + self._indexes(target)
        return found

    def _drop_keys(self, target: Target) -> list[str]:
        """Statements that drop what rows were found by until now."""
        query = """
            SELECT i.indexrelid::regclass::text, c.conname FROM pg_index i
            LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype = 'p' AND c.conrelid = i.indrelid
            WHERE i.indrelid = %s::regclass AND (i.indisprimary OR %s)"""
        table = self.qualified(target.table)
        rows = self._session.rows(query, [table, target.mode == "history"])
        return [f"DROP INDEX {index}" if name is None else f"ALTER TABLE {table} DROP CONSTRAINT {quoted(name)}" for index, name in rows]

    def _step(self, step: Step) -> str:
        match step:
            case DropColumn(name):
                return f"DROP COLUMN {quoted(name)}"
            case RenameColumn(old, new):
                return f"RENAME COLUMN {quoted(old)} TO {quoted(new)}"
            case WidenColumn(name, _, new):
                return f"ALTER COLUMN {quoted(name)} TYPE {self.type(new)}"
            case AddColumn(column):
                default = "" if column.default is None else f" DEFAULT {literal(column.default)}"
                return f"ADD COLUMN {quoted(column.name)} {self.type(column.type)}{default}"

    def _rehash(self, target: Target) -> str:
        """Gives every row its hash anew, as row_hash.py has it: its columns are not the same any more."""
        table = self.qualified(target.table)
        if target.mode == "mirror":
            return f"UPDATE {table} SET {quoted(ROW)} = {row_hash('', target.schema)}"
        old = f"SELECT jsonb_build_object({literal(ROW)}, {row_hash('o.', target.schema)}) FROM {table} o"
        was = f"WHERE o.{quoted(ROW)} = t.{quoted(OLD_KEY)} ->> {literal(ROW)} LIMIT 1"
        return (
            f"UPDATE {table} t SET {quoted(ROW)} = {row_hash('t.', target.schema)},"
            f" {quoted(OLD_KEY)} = coalesce(({old} {was}), t.{quoted(OLD_KEY)}) WHERE t.{quoted(OP)} <> 'truncate'"
        )


def row_hash(alias: str, schema: TableSchema) -> str:
    """SQL for the hash of a row's values: concat() writes a value as COPY does."""
    parts = []
    for name in schema.names:
        text = f"convert_to(concat({alias}{quoted(name)}), 'UTF8')"
        parts.append(
            f"CASE WHEN {alias}{quoted(name)} IS NULL THEN 'N'::bytea ELSE (octet_length({text})::text || ':')::bytea || {text} END"
        )
    return f"md5({' || '.join(parts)})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)
