"""Whole columns on their way to a Postgres server: as COPY's CSV, or as the text of parameters where there are only a few rows.

In CSV every value is quoted and a null is nothing between two commas, so no content can be taken for anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv

from journal.batch import Longs
from sinks.postgres_session import Param

FORMAT = "(FORMAT csv)"

_PIECE = 8 << 20  # bytes that are made at a time
_OPTIONS = pyarrow.csv.WriteOptions(include_header=False, quoting_style="all_valid", batch_size=4096)


def csv_blocks(columns: Sequence[pa.Array]) -> Iterator[memoryview]:
    """The rows as CSV, in pieces of some megabytes that end with a row."""
    n = len(columns[0])
    step = max(1, n * _PIECE // max(1, sum(column.nbytes for column in columns)))
    names = [str(i) for i in range(len(columns))]
    for start in range(0, n, step):
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(pa.table([column.slice(start, step) for column in columns], names), sink, _OPTIONS)
        yield memoryview(sink.getvalue())


def params(columns: Sequence[pa.Array]) -> list[tuple[Param, ...]]:
    """The rows as parameters. For a few rows: it makes an object for each value."""
    cells = [[None if value is None else str(value).encode() for value in column.to_pylist()] for column in columns]
    return list(zip(*cells, strict=True)) if cells else []


def array_text(values: pa.Array | pa.ChunkedArray) -> str:
    """A column as the text of one Postgres array."""
    quoted = ("NULL" if value is None else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values.to_pylist())
    return "{" + ",".join(quoted) + "}"


def array_param(values: pa.Array) -> Param:
    """A column as one parameter."""
    return array_text(values).encode()


def moments(micros: Longs) -> pa.StringArray:
    """Microseconds since 1970 UTC as text; null below 0 (a row that was never deleted)."""
    return pa.array(np.maximum(micros, 0)).cast(pa.timestamp("us")).cast(pa.string()) if (micros >= 0).all() else _some_moments(micros)


def _some_moments(micros: Longs) -> pa.StringArray:
    return pa.array(micros, mask=micros < 0).cast(pa.timestamp("us")).cast(pa.string())
