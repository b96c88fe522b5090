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

Mask = npt.NDArray[np.bool_]

INFINITY = 2**63 - 1  # of timestamps in DuckDB; the negative one is -INFINITY
DATE_INFINITY = 2**31 - 1

_SPELLING = {
    "int2": "smallint", "int4": "integer", "int": "integer", "int8": "bigint", "bool": "boolean", "float4": "real", "float8": "double precision",
    "decimal": "numeric", "varchar": "character varying", "bpchar": "character", "char": "character", "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone", "timetz": "time with time zone", "time": "time without time zone", "string": "text",
    "varbit": "bit varying",
}  # fmt: skip

_WRITTEN = re.compile(
    r"""^\s*(?P<base>"[^"]+"|[a-z_][a-z0-9_. ]*?)\s*(?:\((?P<args>[-\d,\s]+)\))?(?P<zone>\s+with(?:out)?\s+time\s+zone)?\s*(?P<array>(?:\[\d*\])*)\s*$""",
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


def arrow_type(text: str) -> pa.DataType:
    """The Arrow type in which values of a Postgres type are compared and computed with."""
    kind = parse_type(text)
    if kind.array:
        return pa.string()
    if kind.base == "numeric" and kind.args:
        precision, scale = (*kind.args, 0)[:2]
        if 0 <= scale <= precision:
            return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale) if precision <= 76 else pa.string()
        return pa.string()
    return _ARROW.get(kind.base, pa.string())


_ARROW: dict[str, pa.DataType] = {
    "boolean": pa.bool_(), "smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64(), "oid": pa.int64(), "real": pa.float32(),
    "double precision": pa.float64(), "date": pa.date32(), "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"), "time without time zone": pa.time64("us"), "bytea": pa.binary(),
}  # fmt: skip


def duckdb_type(text: str) -> str:
    """The DuckDB type of a column that holds values of a Postgres type."""
    kind = parse_type(text)
    if kind.array:
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
        return _guarded(text, target, pc.match_substring_regex(text, r"^(t|f|true|false)$"), lambda a: pc.match_substring_regex(a, "^t"))
    if pa.types.is_binary(target):
        return _guarded(text, target, pc.match_substring_regex(text, r"^\\x([0-9a-f]{2})*$"), _unhex)
    if pa.types.is_time64(target):  # Arrow casts no string to a time, but a timestamp to one
        midnight = np.asarray(pc.fill_null(pc.starts_with(text, "24"), False))  # the end of the day is not its beginning
        moment = typed(pc.binary_join_element_wise("1970-01-01", pc.if_else(pa.array(midnight), None, text), " "), "timestamp")
        return TypedColumn(moment.values.cast(target), moment.malformed | midnight)
    try:
        return TypedColumn(text.cast(target), none)
    except pa.ArrowInvalid:
        return _row_by_row(text, target)


def _guarded(text: pa.StringArray, target: pa.DataType, fits: pa.BooleanArray, convert: object) -> TypedColumn:
    assert callable(convert)
    malformed = ~np.asarray(pc.fill_null(fits, True))
    if malformed.any():
        text = pc.if_else(pa.array(malformed), None, text)
    return TypedColumn(convert(text).cast(target), malformed)


def _unhex(text: pa.StringArray) -> pa.Array:
    return pa.array([None if v is None else bytes.fromhex(v[2:]) for v in text.to_pylist()], pa.binary())


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
            value = _special(part[0].as_py(), target)
            malformed[start] = value is None
            pieces.append(pa.array([value], _storage(target)).cast(target) if value is not None else pa.nulls(1, target))

    cast(0, len(text))
    return TypedColumn(pa.concat_arrays(pieces) if pieces else pa.array([], target), malformed)


def _storage(target: pa.DataType) -> pa.DataType:
    return pa.int32() if pa.types.is_date(target) else pa.int64()


_DATED = re.compile(r"^(?P<year>\d{4,})(?P<rest>-\d\d-\d\d)(?P<clock> \d\d:\d\d:\d\d(?:\.\d+)?)?(?:\+00)?(?P<bc> BC)?$")


def _special(value: str, target: pa.DataType) -> int | None:
    """Infinity, years before Christ and beyond 9999, in the units of the target; None for what does not fit."""
    if not (pa.types.is_date(target) or pa.types.is_timestamp(target)):
        return None
    if value in ("infinity", "-infinity"):
        largest = DATE_INFINITY if pa.types.is_date(target) else INFINITY
        return largest if value == "infinity" else -largest
    found = _DATED.match(value)
    if found is None:
        return None
    year = 1 - int(found["year"]) if found["bc"] else int(found["year"])
    # numpy counts years like astronomers do: 1 BC is year 0
    try:
        days = int(np.datetime64(f"{year:05d}{found['rest']}" if year < 0 else f"{year:04d}{found['rest']}", "D").astype(np.int64))
    except ValueError:  # the 30th of February
        return None
    if pa.types.is_date(target):
        return days if abs(days) < DATE_INFINITY else None
    clock = (found["clock"] or " 00:00:00").strip()
    hours, minutes, seconds = clock.split(":")
    whole, _, fraction = seconds.partition(".")
    micros = ((days * 24 + int(hours)) * 60 + int(minutes)) * 60_000_000 + int(whole) * 1_000_000 + int(fraction.ljust(6, "0") or 0)
    return micros if abs(micros) < INFINITY else None
