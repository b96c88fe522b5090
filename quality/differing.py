"""Whether rows are all different, told by hashes: far cheaper than numbering what they hold, and nearly always all there is to know."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from journal.duckdb_session import session
from quality.column import Column

_FAMILIES = ("text", "int", "date", "timestamp", "bool")  # one value is written in one way
_WORTH = 4096  # rows; of fewer ones numbering is as fast


def all_differ(columns: Sequence[Column]) -> bool:
    """Whether no two rows are the same. False says nothing: there may be too few rows, nulls, or values of other kinds."""
    if len(columns[0]) < _WORTH or any(column.family not in _FAMILIES or column.missing is not None for column in columns):
        return False
    if len(columns) == 1 and columns[0].family == "int":
        hashes = np.sort(columns[0].numbers)
    else:
        table = pa.table({f"c{place}": column.array for place, column in enumerate(columns)})
        answer = session().over(table, f"SELECT hash({', '.join(table.column_names)}) AS h FROM given")
        hashes = np.sort(np.asarray(answer.column(0)))
    return bool((hashes[1:] != hashes[:-1]).all())
