"""Reading a DuckDB sink's tables for `verify`, in the words of Postgres."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa

from journal.batch import ChangeBatch
from journal.duckdb_session import session
from journal.types import duckdb_type
from sinks.base import Target
from sinks.bookkeeping import DELETED_AT
from sinks.duckdb_history import HistorySql
from sinks.duckdb_session import quoted
from sinks.duckdb_table import Table
from sinks.duckdb_values import incoming, postgres_words, taken

_PIECE = 65_536  # rows


def held_rows(target: Target, batch: ChangeBatch) -> pa.Table:
    """The rows of a batch as `read_rows` would give them back: what DuckDB holds of their values."""
    kinds = [column.type for column in target.schema.columns]
    columns, _ = incoming(kinds, batch.columns)
    given = pa.table({f"c{c}": array for c, array in enumerate(columns)})
    words = [f"{postgres_words(duckdb_type(kind), taken(kind, f'c{c}'))} AS c{c}" for c, kind in enumerate(kinds)]
    found = session().over(given, f"SELECT {', '.join(words)} FROM given")
    return _as_text(found, target)


def read_rows(connection: duckdb.DuckDBPyConnection, table: Table, keys: pa.Table | None) -> Iterator[pa.Table]:
    """The live rows of a table, all or those with the given keys (columns named as in the key), as text."""
    target = table.target
    words = {
        name: postgres_words(duckdb_type(kind), f"h.{table.names.column(name)}")
        for name, kind in zip(target.schema.names, table.kinds, strict=True)
    }
    source = HistorySql(table).live() if target.mode == "history" else f"{table.name} h"
    where = f" WHERE h.{quoted(DELETED_AT)} IS NULL" if target.mode == "mirror" and target.on_delete == "soft" else ""
    if keys is not None:
        wanted = pa.table({f"k{i}": keys[name] for i, name in enumerate(target.schema.key)})
        connection.register("keys_in", wanted)
        source += " JOIN keys_in k ON " + " AND ".join(f"{words[name]} = k.k{i}" for i, name in enumerate(target.schema.key))
    listed = ", ".join(f"{words[name]} AS c{c}" for c, name in enumerate(target.schema.names))
    reader = connection.sql(f"SELECT {listed} FROM {source}{where}").to_arrow_reader(_PIECE)
    for piece in reader:
        yield _as_text(pa.Table.from_batches([piece]), target)


def _as_text(rows: pa.Table, target: Target) -> pa.Table:
    return pa.table([column.cast(pa.string()) for column in rows.columns], list(target.schema.names))
