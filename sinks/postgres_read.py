"""Reading a Postgres sink's tables for `verify`, beside whoever writes them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv

from sinks.bookkeeping import DELETED_AT
from sinks.postgres_copy import array_text
from sinks.postgres_history import HistorySql
from sinks.postgres_session import Session, literal, quoted
from sinks.postgres_sql import TableSql

_PIECE = 4 << 20  # bytes of CSV that become one table
# an empty line is a row: that of a table whose one column is null
_READ = pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)


def read_rows(session: Session, sql: TableSql, keys: pa.Table | None) -> Iterator[pa.Table]:
    """The live rows of a table, all or those with the given keys (columns named as in the key), as text."""
    schema = sql.target.schema
    columns = ", ".join(f"h.{quoted(name)}" for name in schema.names)
    source = HistorySql(sql).live() if sql.target.mode == "history" else f"{sql.table} h"
    where = f" WHERE h.{quoted(DELETED_AT)} IS NULL" if sql.soft else ""
    if keys is not None:
        names = ", ".join(f"k{i}" for i in range(len(schema.key)))
        arrays = ", ".join(f"{literal(array_text(keys[name]))}::text[]" for name in schema.key)
        source += f" JOIN unnest({arrays}) AS k ({names}) ON {sql.same('h', schema.key)}"
    query = f"COPY (SELECT {columns} FROM {source}{where}) TO STDOUT (FORMAT csv, FORCE_QUOTE *)"
    for piece in _pieces(session.copy_out(query)):
        yield _parsed(piece, schema.names)


def _pieces(rows: Iterator[memoryview]) -> Iterator[bytes]:
    gathered: list[memoryview] = []
    size = 0
    for row in rows:
        gathered.append(row)
        size += len(row)
        if size >= _PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _parsed(piece: bytes, names: tuple[str, ...]) -> pa.Table:
    places = [str(i) for i in range(len(names))]
    table = pyarrow.csv.read_csv(
        pa.BufferReader(piece),
        pyarrow.csv.ReadOptions(column_names=places, block_size=len(piece) + 1, use_threads=False),
        _READ,
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()), null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    return table.rename_columns(list(names))
