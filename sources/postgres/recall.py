"""Values that the log left out, read again from the table: for sinks that may lack the row they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from journal.batch import ChangeBatch, Mask, Op, Presence
from journal.schema import TableSchema
from sources.postgres.copy import copy_of, copy_rows
from sources.postgres.session import Connection, Server
from sources.postgres.table import Attribute, Table

_SEPARATOR = "\0"  # no text of Postgres has it


def wants(batch: ChangeBatch) -> bool:
    """Whether a new row lacks values, and has a key by which they can be found."""
    return bool(batch.schema.key) and any(_lacking(batch, column).any() for column in batch.presence)


def recalled(server: Server, connection: Connection, table: Table, batch: ChangeBatch) -> ChangeBatch:
    """The batch with absent values of inserts and updates filled in as they are now, marked RECALLED; one query.

    A row that is gone by now stays as it is: a later change deletes it, or moves it to another key. So does a column that is gone.
    Raises Refused or TransientError.
    """
    live = {(column.attnum, column.name): column for column in table.live if column.selectable}
    place = {name: live.get((column.attnum, name)) for name, column in zip(batch.schema.names, batch.schema.columns, strict=True)}
    columns = [column for column in batch.presence if place[batch.schema.names[column]] is not None and _lacking(batch, column).any()]
    key = [attribute for name in batch.schema.key if (attribute := place[name]) is not None]
    if not columns or len(key) != len(batch.schema.key):
        return batch
    rows = np.logical_or.reduce([_lacking(batch, column) for column in columns])
    keys = key_columns(batch.take(rows), batch.schema)
    wanted = [attribute for column in columns if (attribute := place[batch.schema.names[column]]) is not None]
    found = read_by_key(server, connection, table, key, keys, wanted)
    if found is None:
        return batch
    joined = _joined(found[: len(key)])
    where = pc.index_in(_joined(key_columns(batch, batch.schema)), value_set=joined)
    there = np.asarray(where.is_valid())
    filled = list(batch.columns)
    presence = dict(batch.presence)
    for column, values in zip(columns, found[len(key) :], strict=True):
        chosen = _lacking(batch, column) & there
        filled[column] = pc.if_else(pa.array(chosen), values.take(where), filled[column])
        presence[column] = np.where(chosen, np.uint8(Presence.RECALLED), presence[column])
    return replace(batch, columns=tuple(filled), presence=presence)


def key_columns(batch: ChangeBatch, schema: TableSchema) -> list[pa.StringArray]:
    """The columns of the key."""
    return [batch.column(name) for name in schema.key]


def read_by_key(
    server: Server,
    connection: Connection,
    table: Table,
    key: Sequence[Attribute],
    keys: Sequence[pa.StringArray],
    wanted: Sequence[Attribute],
) -> list[pa.StringArray] | None:
    """Rows of the table that have one of the keys: one array for each column of the key, then one for each that is wanted.

    None where there is none of them.
    """
    query = copy_of(
        sql.SQL("SELECT {} FROM {}{} WHERE {}").format(
            sql.SQL(", ").join(sql.Identifier(column.name) for column in (*key, *wanted)),
            sql.SQL("" if table.kind == "p" else "ONLY "),
            table.sql,
            key_condition(key, keys),
        )
    )
    parts = [rows.columns for rows in copy_rows(server, connection, query, len(key) + len(wanted), lambda: False) if rows.count]
    if not parts:
        return None
    return [pa.concat_arrays(arrays) for arrays in zip(*parts, strict=True)]


def key_condition(key: Sequence[Attribute], keys: Sequence[pa.StringArray]) -> sql.Composable:
    """`key` is one of `keys`, given as text."""
    names = [sql.Identifier(f"k{place}") for place in range(len(key))]
    casts = sql.SQL(", ").join(sql.SQL("{}::{}").format(name, sql.SQL(column.written)) for name, column in zip(names, key, strict=True))
    lists = sql.SQL(", ").join(sql.SQL("{}::text[]").format(sql.Literal(column.to_pylist())) for column in keys)
    return sql.SQL("({}) IN (SELECT {} FROM unnest({}) AS k({}))").format(
        sql.SQL(", ").join(sql.Identifier(column.name) for column in key), casts, lists, sql.SQL(", ").join(names)
    )


def _lacking(batch: ChangeBatch, column: int) -> Mask:
    new = (batch.op == Op.INSERT) | (batch.op == Op.UPDATE)
    lacking: Mask = new & (batch.presence[column] == Presence.ABSENT)
    return lacking


def _joined(columns: Sequence[pa.StringArray]) -> pa.StringArray:
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, _SEPARATOR)
