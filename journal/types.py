"""The one table of types: what a Postgres type is in Arrow (for rules) and in DuckDB, and the casts from Postgres' text.

Postgres                      Arrow                DuckDB              notes
boolean                       bool                 BOOLEAN             text is t or f
smallint integer bigint       int16 int32 int64    SMALLINT … BIGINT
oid                           int64                BIGINT              unsigned 32 bits
real, double precision        float32, float64     FLOAT, DOUBLE       NaN and infinities included
numeric(p,s), p <= 38         decimal128(p,s)      DECIMAL(p,s)        NaN and infinities do not fit: malformed
numeric(p,s), 38 < p <= 76    decimal256(p,s)      VARCHAR
numeric                       string               VARCHAR             unbounded digits; cast it to what you need
date                          date32               DATE                infinity is the largest value, as in DuckDB
timestamp                     timestamp(us)        TIMESTAMP           the same
timestamp with time zone      timestamp(us, UTC)   TIMESTAMPTZ         the same
time                          time64(us)           TIME                24:00:00 does not fit Arrow; DuckDB holds it
uuid                          string               UUID
bytea                         binary               BLOB
json, jsonb                   string               JSON
text, varchar(n), "char", …   string               VARCHAR             char(n) keeps its padding
everything else, all arrays   string               VARCHAR             Postgres' own text: intervals, ranges, inet, money, …
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.moments import DATE_INFINITY, INFINITY, parse_moments

__all__ = ["DATE_INFINITY", "INFINITY", "PgType", "TypedColumn", "arrow_type", "duckdb_type", "parse_type", "typed"]

Mask = npt.NDArray[np.bool_]

_SPELLING = {
    "int2": "smallint", "int4": "integer", "int": "integer", "int8": "bigint", "bool": "boolean", "float4": "real",
    "float8": "double precision", "decimal": "numeric", "varchar": "character varying", "bpchar": "character", "char": "character",
    "timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone", "timetz": "time with time zone",
    "time": "time without time zone", "string": "text", "varbit": "bit varying",
}  # fmt: skip

_WRITTEN = re.compile(
    r"""^\s*(?P<base>"(?:[^"]|"")+"|[a-z_][a-z0-9_. ]*?)\s*(?:\((?P<args>[-\d,\s]+)\))?"""
    r"""(?P<zone>\s+with(?:out)?\s+time\s+zone)?\s*(?P<array>(?:\[\d*\])*)\s*$""",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class PgType:
    """A Postgres type by its canonical name, such as `numeric`, its arguments (precision, scale, length), and whether it is an array."""

    base: str
    args: tuple[int, ...] = ()
    array: bool = False

    def __str__(self) -> str:
        args = f"({','.join(map(str, self.args))})" if self.args else ""
        head, zone, _ = self.base.partition(" with")
        written = f"{head}{args}{self.base[len(head) :]}" if zone else f"{self.base}{args}"
        return written + ("[]" if self.array else "")


@lru_cache(maxsize=4096)
def parse_type(text: str) -> PgType:
    """Reads a type as format_type() or a person writes it. Raises ValueError for what is not a type's name."""
    found = _WRITTEN.match(text)
    if found is None:
        raise ValueError(f"{text!r} is not a Postgres type")
    base = found["base"]
    if not base.startswith('"'):
        base = " ".join(base.lower().split())
    if found["zone"]:
        base += " " + " ".join(found["zone"].lower().split())
    args = tuple(int(part) for part in found["args"].split(",")) if found["args"] else ()
    return PgType(_SPELLING.get(base, base), args, bool(found["array"]))


def _builtin(text: str) -> PgType | None:
    """The type; None for one of an extension that is not written like Postgres' own, such as geometry(Point,4326)."""
    try:
        return parse_type(text)
    except ValueError:
        return None


def arrow_type(text: str) -> pa.DataType:
    """The Arrow type in which values of a Postgres type are compared and computed with."""
    kind = _builtin(text)
    if kind is None or kind.array:
        return pa.string()
    if kind.base == "numeric" and kind.args:
        precision, scale = (*kind.args, 0)[:2]
        if not 0 <= scale <= precision <= 76:
            return pa.string()
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    return _ARROW.get(kind.base, pa.string())


_ARROW: dict[str, pa.DataType] = {
    "boolean": pa.bool_(), "smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64(), "oid": pa.int64(), "real": pa.float32(),
    "double precision": pa.float64(), "date": pa.date32(), "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"), "time without time zone": pa.time64("us"), "bytea": pa.binary(),
}  # fmt: skip


def duckdb_type(text: str) -> str:
    """The DuckDB type of a column that holds values of a Postgres type."""
    kind = _builtin(text)
    if kind is None or kind.array:
        return "VARCHAR"
    if kind.base == "numeric" and kind.args:
        precision, scale = (*kind.args, 0)[:2]
        return f"DECIMAL({precision},{scale})" if precision <= 38 and 0 <= scale <= precision else "VARCHAR"
    return _DUCKDB.get(kind.base, "VARCHAR")


_DUCKDB = {
    "boolean": "BOOLEAN", "smallint": "SMALLINT", "integer": "INTEGER", "bigint": "BIGINT", "oid": "BIGINT", "real": "FLOAT",
    "double precision": "DOUBLE", "date": "DATE", "timestamp without time zone": "TIMESTAMP", "timestamp with time zone": "TIMESTAMPTZ",
    "time without time zone": "TIME", "uuid": "UUID", "bytea": "BLOB", "json": "JSON", "jsonb": "JSON",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """Typed values, and bool[n] of those whose text does not fit the Arrow type (null in `values`, though not null in truth)."""

    values: pa.Array
    malformed: Mask


def typed(text: pa.StringArray, type_text: str) -> TypedColumn:
    """Casts Postgres' text to the Arrow type of `type_text`: the whole column at once, row by row only for values that resist."""
    target = arrow_type(type_text)
    none = np.zeros(len(text), np.bool_)
    if pa.types.is_string(target):
        return TypedColumn(text, none)
    if pa.types.is_boolean(target):
        return _booleans(text)
    if pa.types.is_binary(target):
        return _unhexed(text)
    if pa.types.is_time64(target):  # Arrow casts no string to a time, but a timestamp to one
        midnight = np.asarray(pc.fill_null(pc.starts_with(text, "24"), False))  # the end of the day is not its beginning
        moment = typed(pc.binary_join_element_wise("1970-01-01", pc.if_else(pa.array(midnight), None, text), " "), "timestamp")
        return TypedColumn(moment.values.cast(target), moment.malformed | midnight)
    try:
        return TypedColumn(text.cast(target), none)
    except pa.ArrowInvalid:
        if pa.types.is_date(target) or pa.types.is_timestamp(target):
            return TypedColumn(*parse_moments(text, target))
        return _row_by_row(text, target)


def _booleans(text: pa.StringArray) -> TypedColumn:
    true = pc.equal(text, "t")
    known = pc.or_(true, pc.equal(text, "f"))
    if known.false_count:
        true = pc.or_(true, pc.equal(text, "true"))
        known = pc.or_(pc.or_(known, true), pc.equal(text, "false"))
    malformed = np.asarray(pc.invert(known).fill_null(False))
    return TypedColumn(pc.if_else(pa.array(malformed), None, true) if malformed.any() else true, malformed)


_HEX = r"^\\x([0-9a-f]{2})*$"


def _unhexed(text: pa.StringArray) -> TypedColumn:
    """All values decoded in one go: what stands between them is known from their lengths."""
    malformed = ~np.asarray(pc.match_substring_regex(text, _HEX).fill_null(True))
    if malformed.any():
        text = pc.if_else(pa.array(malformed), None, text)
    digits = pc.utf8_slice_codeunits(text.fill_null("\\x"), 2)
    ends = np.frombuffer(digits.buffers()[1], np.int32)[digits.offset : digits.offset + len(digits) + 1]
    data = digits.buffers()[2]
    decoded = bytes.fromhex(bytes(data[int(ends[0]) : int(ends[-1])]).decode()) if data is not None else b""
    valid = pa.array(np.asarray(text.is_valid())).buffers()[1]
    values = pa.Array.from_buffers(pa.binary(), len(text), [valid, pa.py_buffer((ends - ends[0]) // 2), pa.py_buffer(decoded)])
    return TypedColumn(values, malformed)


def _row_by_row(text: pa.StringArray, target: pa.DataType) -> TypedColumn:
    """Halves the column until what cannot be cast stands alone."""
    pieces: list[pa.Array] = []
    malformed = np.zeros(len(text), np.bool_)

    def cast(start: int, stop: int) -> None:
        part = text.slice(start, stop - start)
        try:
            pieces.append(part.cast(target))
        except pa.ArrowInvalid:
            if stop - start > 1:
                middle = (start + stop) // 2
                cast(start, middle)
                cast(middle, stop)
                return
            malformed[start] = True
            pieces.append(pa.nulls(1, target))

    cast(0, len(text))
    return TypedColumn(pa.concat_arrays(pieces) if pieces else pa.array([], target), malformed)
