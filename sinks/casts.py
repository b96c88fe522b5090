"""A column as another Postgres type, by way of DuckDB. A value that does not fit is an error of its row, never rounded or cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from journal.batch import Mask
from journal.duckdb_session import session
from journal.types import PgType, duckdb_type, parse_type, typed
from sinks.duckdb_values import postgres_words

_APPROXIMATE = ("real", "double precision")
_WHOLE = ("smallint", "integer", "bigint")
_LEADS_TO = {
    "text": {"boolean", "number", "moment", "time", "uuid", "json"},
    "boolean": {"text", "number"},
    "number": {"text", "boolean"},
    "moment": {"text", "time"},
    "time": {"text"},
    "uuid": {"text"},
    "json": {"text"},
    "bytes": {"text"},
}


def _family(kind: PgType) -> str:
    """Types that cast to each other; those that Sluice moves as text are text."""
    held = duckdb_type(str(kind))
    if kind.base == "numeric" and not kind.array:
        return "number"
    if held in ("SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE"):
        return "number"
    if held in ("DATE", "TIMESTAMP", "TIMESTAMPTZ"):
        return "moment"
    return {"VARCHAR": "text", "BLOB": "bytes"}.get(held, held.lower())


@dataclass(frozen=True, slots=True)
class ColumnCast:
    """Casts text of the Postgres type `source` to text of the type `target`.

    The target text is one that Postgres and DuckDB read as the same value. Numbers must fit exactly, but for real and double precision,
    which take the nearest value they have.
    """

    source: str
    target: PgType

    def problem(self) -> str | None:
        """Why no value of the source's type can ever be cast, if so."""
        source, target = _family(parse_type(self.source)), _family(self.target)
        fits = source == target or target in _LEADS_TO[source]
        return None if fits else f"a column of type {self.source} cannot be cast to {self.target}"

    def apply(self, text: pa.StringArray) -> tuple[pa.StringArray, Mask]:
        """The cast column (null where it fails), and bool[n] of the values that cannot be cast."""
        if self.target.base == "text":
            return text, np.zeros(len(text), np.bool_)
        kind = duckdb_type(self.source)
        value = text
        unread = np.zeros(len(text), np.bool_)
        if kind not in ("VARCHAR", "UUID", "JSON", "TIME"):
            found = typed(text, self.source)
            value, unread = found.values, found.malformed
        read = "v" if kind == "VARCHAR" or value is not text else f"TRY_CAST(v AS {kind})"
        cast = f"TRY_CAST({read} AS {duckdb_type(str(self.target))})"
        exact = self._exact() if self.target.base in (*_WHOLE, "numeric") else "true"
        written = postgres_words(duckdb_type(str(self.target)), "r")
        answer = session().over(
            pa.table({"t": text, "v": value}),
            f"SELECT CASE WHEN {exact} THEN {written} END AS answer FROM (SELECT t, {cast} AS r FROM given)",
        )
        result = pa.concat_arrays(answer["answer"].cast(pa.string()).chunks) if len(text) else text
        return result, unread | (np.asarray(result.is_null()) & np.asarray(text.is_valid()))

    def _exact(self) -> str:
        """SQL: whether the number r is the one that the text t says."""
        if parse_type(self.source).base in ("boolean", *_WHOLE, "oid"):
            return "true"
        scale = (*self.target.args, 0, 0)[1]
        plain = r"regexp_full_match(trim(t), '[-+]?[0-9]*[.]?[0-9]*')"
        width = "FLOAT" if self.source == "real" else "DOUBLE"
        near = f"TRY_CAST(t AS {width}) = CAST(r AS {width})"
        if parse_type(self.source).base in _APPROXIMATE:
            return near
        return f"CASE WHEN {plain} THEN length(rtrim(split_part(trim(t), '.', 2), '0')) <= {scale} ELSE {near} END"
