"""Values on their way into DuckDB and back: Postgres' text as Arrow that DuckDB takes as it is, and DuckDB's values in Postgres' words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Mask
from journal.duckdb_session import session
from journal.types import duckdb_type, typed

_CAST = frozenset({"UUID", "JSON", "TIME"})  # DuckDB reads their text itself: Arrow has no such type, or holds less


def taken(kind: str, expression: str) -> str:
    """SQL for an incoming value as the DuckDB type of a column of Postgres type `kind`."""
    held = duckdb_type(kind)
    return f"CAST({expression} AS {held})" if held in _CAST else expression


def incoming(kinds: Sequence[str], columns: Sequence[pa.StringArray]) -> tuple[list[pa.Array], dict[int, Mask]]:
    """Postgres' text as arrays that `taken` takes, and for each column with values that DuckDB cannot hold bool[n] of those.

    Such values are null in the array.
    """
    arrays: list[pa.Array] = []
    bad: dict[int, Mask] = {}
    for c, (kind, text) in enumerate(zip(kinds, columns, strict=True)):
        held = duckdb_type(kind)
        if held in _CAST or held == "VARCHAR":
            arrays.append(text)
            continue
        found = typed(text, kind)
        arrays.append(found.values)
        if found.malformed.any():
            bad[c] = found.malformed
    for c, mask in _unreadable({c: duckdb_type(kind) for c, kind in enumerate(kinds) if duckdb_type(kind) in _CAST}, arrays).items():
        bad[c] = mask
        arrays[c] = pc.if_else(pa.array(mask), None, arrays[c])
    return arrays, bad


def _unreadable(kinds: Mapping[int, str], arrays: Sequence[pa.Array]) -> dict[int, Mask]:
    """Values whose text DuckDB does not read as their type. It is asked once for all columns, and once more for those that have some."""
    if not kinds or not len(arrays[0]):
        return {}
    rows = pa.table({f"c{c}": arrays[c] for c in kinds})
    tests = {c: f"(c{c} IS NOT NULL AND TRY_CAST(c{c} AS {kind}) IS NULL)" for c, kind in kinds.items()}
    counts = session().over(rows, "SELECT " + ", ".join(f"count(*) FILTER {test} AS c{c}" for c, test in _where(tests)) + " FROM given")
    some = {c: test for c, test in tests.items() if counts[f"c{c}"][0].as_py()}
    if not some:
        return {}
    found = session().over(rows, "SELECT " + ", ".join(f"{test} AS c{c}" for c, test in some.items()) + " FROM given")
    return {c: np.asarray(found[f"c{c}"].combine_chunks()) for c in some}


def _where(tests: Mapping[int, str]) -> list[tuple[int, str]]:
    return [(c, f"(WHERE {test})") for c, test in tests.items()]


def refusal(kind: str) -> str:
    """Why a value is refused. The value is not repeated: it may be somebody's secret."""
    return f"the value does not fit DuckDB's {duckdb_type(kind)}"


def postgres_words(held: str, expression: str) -> str:
    """SQL for a value of the DuckDB type `held` as text that Postgres reads as the same value, and writes itself but for some floats."""
    text = f"CAST({expression} AS VARCHAR)"
    match held:
        case "VARCHAR":
            return expression
        case "BOOLEAN":
            return f"CASE WHEN {expression} THEN 't' WHEN NOT {expression} THEN 'f' END"
        case "FLOAT" | "DOUBLE":
            infinite = f"CASE WHEN {expression} > 0 THEN 'Infinity' ELSE '-Infinity' END"
            digits = rf"regexp_replace({text}, '\.0$', '')"
            return f"CASE WHEN isnan({expression}) THEN 'NaN' WHEN isinf({expression}) THEN {infinite} ELSE {digits} END"
        case "DATE" | "TIMESTAMP" | "TIMESTAMPTZ":
            return f"CASE WHEN {text} LIKE '% (BC)%' THEN replace({text}, ' (BC)', '') || ' BC' ELSE {text} END"
        case "BLOB":
            return rf"'\x' || lower(hex({expression}))"
    return text


def row_hash(expressions: Sequence[str]) -> str:
    """SQL for the hash of a row: md5 of each value's length and DuckDB's text for it, one after the other; a null as N."""
    parts = [f"coalesce(strlen(CAST({e} AS VARCHAR)) || ':' || CAST({e} AS VARCHAR), 'N')" for e in expressions]
    return f"md5({' || '.join(parts)})"


def row_hashes(kinds: Sequence[str], columns: Sequence[pa.Array]) -> pa.StringArray:
    """The same for values that come in, columns of the given Postgres types: string array[n]."""
    rows = pa.table({f"c{c}": array for c, array in enumerate(columns)})
    expressions = [taken(kind, f"c{c}") for c, kind in enumerate(kinds)]
    found = session().over(rows, f"SELECT {row_hash(expressions)} AS h FROM given")["h"]
    return pa.concat_arrays(found.cast(pa.string()).chunks) if found.num_chunks else pa.array([], pa.string())
