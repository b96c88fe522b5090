"""Statements that make a table of a DuckDB sink, or bring it from one shape to another."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from journal.schema import Column
from journal.types import duckdb_type
from pipeline.errors import SinkShapeError
from sinks.base import Target
from sinks.bookkeeping import DELETED_AT, bookkeeping
from sinks.duckdb_names import Names
from sinks.duckdb_session import literal, quoted
from sinks.duckdb_values import incoming, postgres_words, row_hash
from sinks.evolution import AddColumn, DropColumn, Step, WidenColumn, carried, steps
from sinks.history import OLD_KEY, OP
from sinks.row_hash import ROW

REBUILT = "_sluice_rebuilt"


def has_key(target: Target) -> bool:
    """Whether the table is to have a primary key."""
    return bool(target.schema.key) and target.mode == "mirror"


def create_table(target: Target, table: str, with_key: bool) -> str:
    """CREATE TABLE for the target under the name `table`."""
    names = Names.of(target)
    columns = [f"{names.column(column.name)} {duckdb_type(column.type)}" for column in target.schema.columns]
    columns += [_definition(column) for column in bookkeeping(target)]
    if with_key and has_key(target):
        columns.append(f"PRIMARY KEY ({names.key(target)})")
    return f"CREATE TABLE {quoted(table)} ({', '.join(columns)})"


def full_type(kind: str) -> str:
    """The DuckDB type for a Postgres type, as duckdb_columns() names it."""
    return {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}.get(duckdb_type(kind), duckdb_type(kind))


def _definition(column: Column) -> str:
    return f"{quoted(column.name)} {duckdb_type(column.type)}" + ("" if column.nullable else " NOT NULL")


def alter_table(was: Target, target: Target, primary_key: Sequence[str], with_key: bool, foreign: Sequence[str]) -> list[str]:
    """The statements that bring the table of `was`, with the given primary key, to what `target` asks for.

    Raises SinkShapeError for a type that the values in the table may not fit, and where columns that somebody else added (`foreign`)
    would be lost.
    """
    todo = [step for step in steps(was.schema, target.schema, target.table) if not _same_here(step)]
    pairs = carried(was.schema, target.schema)
    names, old_names = Names.of(target), Names.of(was)
    key_after = tuple(names.held(a.name) for name in primary_key for b, a in pairs if old_names.held(b.name) == name)
    key_wanted = tuple(names.held(name) for name in target.schema.key) if with_key else ()
    if key_after != key_wanted or _blocked(todo, was, bool(primary_key)):
        if foreign:
            raise SinkShapeError(
                f"the table {target.table} has to be made anew, and somebody added the column {foreign[0]!r} to it",
                hint="drop that column, or drop the table and it is copied again",
            )
        found = _rebuilt(was, target, with_key)
    else:
        found = _in_place(was, target, todo)
    if not target.schema.key and target.schema != was.schema:
        found += _rehashed(target)
    return found


def _same_here(step: Step) -> bool:
    """A change of type that DuckDB does not see."""
    return isinstance(step, WidenColumn) and duckdb_type(step.old) == duckdb_type(step.new)


def _blocked(todo: Sequence[Step], was: Target, indexed: bool) -> bool:
    """Whether DuckDB refuses a step: no column before one of the key can be dropped, and none of the key can have another type."""
    order = was.schema.names
    last = max((order.index(name) for name in was.schema.key), default=-1)
    drops = any(isinstance(step, DropColumn) and order.index(step.name) <= last for step in todo)
    return indexed and (drops or any(isinstance(step, WidenColumn) and step.name in was.schema.key for step in todo))


def _in_place(was: Target, target: Target, todo: Sequence[Step]) -> list[str]:
    table = f"ALTER TABLE {quoted(target.table)}"
    names, old_names = Names.of(target), Names.of(was)
    found = [f"{table} DROP COLUMN {old_names.column(step.name)}" for step in todo if isinstance(step, DropColumn)]
    found += [f"{table} RENAME COLUMN {quoted(old)} TO {quoted(new)}" for old, new in _renames(was, target)]
    for step in todo:
        if isinstance(step, WidenColumn):
            column = names.column(step.name)
            found.append(f"{table} ALTER COLUMN {column} TYPE {duckdb_type(step.new)} USING {_converted(step.old, step.new, column)}")
        elif isinstance(step, AddColumn):
            added = f"{table} ADD COLUMN {names.column(step.column.name)} {duckdb_type(step.column.type)}"
            found.append(added if step.column.default is None else f"{added} DEFAULT {_default(step.column)}")
            if step.column.default is not None:
                found.append(f"{table} ALTER COLUMN {names.column(step.column.name)} DROP DEFAULT")
    before = {column.name for column in bookkeeping(was)}
    now = {column.name: column for column in bookkeeping(target)}
    found += [f"{table} ADD COLUMN {quoted(name)} {duckdb_type(column.type)}" for name, column in now.items() if name not in before]
    if DELETED_AT in before and DELETED_AT not in now:
        found.append(f"DELETE FROM {quoted(target.table)} WHERE {quoted(DELETED_AT)} IS NOT NULL")
    return found + [f"{table} DROP COLUMN {quoted(name)}" for name in sorted(before) if name not in now]


def _renames(was: Target, target: Target) -> list[tuple[str, str]]:
    """What is renamed to what. A name that another column still has, be it in another case, is reached by way of one that nobody has."""
    names, old_names = Names.of(target), Names.of(was)
    pairs = [(old_names.held(before.name), names.held(after.name)) for before, after in carried(was.schema, target.schema)]
    taken = {old.lower() for old, _ in pairs}
    wanted = [(old, new) for old, new in pairs if old != new]
    around = [(old, f"_sluice_renamed_{i}", new) for i, (old, new) in enumerate(wanted) if new.lower() in taken]
    straight = [(old, new) for old, new in wanted if new.lower() not in taken]
    return [*((old, between) for old, between, _ in around), *straight, *((between, new) for _, between, new in around)]


def _rebuilt(was: Target, target: Target, with_key: bool) -> list[str]:
    """The table made anew beside the old one: what DuckDB does not alter in place."""
    old_names = Names.of(was)
    source = {after.name: before for before, after in carried(was.schema, target.schema)}
    values = []
    for column in target.schema.columns:
        before = source.get(column.name)
        if before is not None:
            values.append(_converted(before.type, column.type, old_names.column(before.name)))
        else:
            values.append("NULL" if column.default is None else _default(column))
    had = {column.name for column in bookkeeping(was)}
    values += [quoted(column.name) if column.name in had else "NULL" for column in bookkeeping(target)]
    alive = f" WHERE {quoted(DELETED_AT)} IS NULL" if DELETED_AT in had and target.on_delete != "soft" else ""
    return [
        create_table(target, REBUILT, with_key),
        f"INSERT INTO {REBUILT} SELECT {', '.join(values)} FROM {quoted(target.table)}{alive}",
        f"DROP TABLE {quoted(target.table)}",
        f"ALTER TABLE {REBUILT} RENAME TO {quoted(target.table)}",
    ]


def _converted(old: str, new: str, expression: str) -> str:
    """SQL for a value of type `old` as one of type `new`, which holds it."""
    before, after = duckdb_type(old), duckdb_type(new)
    if before == after:
        return expression
    if after == "VARCHAR":
        if before == "BOOLEAN":  # Postgres casts it to these words, though it writes t and f
            return f"CASE WHEN {expression} THEN 'true' WHEN NOT {expression} THEN 'false' END"
        return postgres_words(before, expression)
    return f"CAST({expression} AS {after})"


def _default(column: Column) -> str:
    """SQL for what rows that were there before the column hold for it. Raises SinkShapeError where DuckDB cannot hold that."""
    text = column.default or ""
    held = duckdb_type(column.type)
    if incoming([column.type], [pa.array([text], pa.string())])[1]:
        raise SinkShapeError(
            f"the rows that are there hold a value in the new column {column.name!r} that does not fit DuckDB's {held}",
            hint="leave the column out of this sink, or cast it to text, under `columns`",
        )
    if held == "BLOB":
        return f"unhex('{text[2:]}')"
    if text.endswith(" BC") and held in ("DATE", "TIMESTAMP", "TIMESTAMPTZ"):  # DuckDB has the era behind the date
        day, _, clock = text.removesuffix(" BC").partition(" ")
        text = f"{day} (BC) {clock}".rstrip()
    return f"CAST({literal(text)} AS {held})"


def _rehashed(target: Target) -> list[str]:
    """Gives every row of a table without a key its hash anew: its columns are not the same any more."""
    names = Names.of(target)
    table = quoted(target.table)
    new = row_hash([names.column(name) for name in target.schema.names])
    if target.mode == "mirror":
        return [f"UPDATE {table} SET {quoted(ROW)} = {new}"]
    told = f"SELECT DISTINCT {quoted(ROW)} AS old, {new} AS new FROM {table} WHERE {quoted(OP)} <> 'truncate'"
    was = f"json_extract_string({quoted(OLD_KEY)}, '/{ROW}')"
    told_key = f"CAST('{{\"{ROW}\": \"' || h.new || '\"}}' AS JSON)"
    return [
        f"CREATE TEMP TABLE _sluice_hashes AS {told}",
        f"UPDATE {table} SET {quoted(OLD_KEY)} = {told_key} FROM _sluice_hashes h WHERE {was} = h.old",
        f"UPDATE {table} SET {quoted(ROW)} = {new} WHERE {quoted(OP)} <> 'truncate'",
        "DROP TABLE _sluice_hashes",
    ]
