"""What a contract's types mean: for values in files, and for the columns of a table.

    logicalType   in a file becomes             goes with these Postgres types of a column
    string        text                          text, varchar, char, uuid, enums, intervals, inet, … (not numbers, dates, booleans)
    integer       int64, or wider if need be    smallint, integer, bigint, numeric (whole values)
    number        float64, exact in SQL rules   the same and real, double precision
    boolean       bool                          boolean
    date          date                          date, timestamp
    timestamp     timestamp, in UTC             timestamp, timestamp with time zone, date
    time          time                          time
    object, map   JSON text                     json, jsonb
    array, vector JSON text                     json, jsonb, arrays

A physicalType narrows this where it says more: `numeric(12,2)` is an exact decimal, `double precision` a double, `uuid` must look
like one, `timestamptz` has a zone. A column of text may hold any of them: its values are then read as the contract's type, and
those that cannot be fail the type's rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from journal.types import PgType, arrow_type, parse_type

Family = Literal["text", "integer", "number", "boolean", "date", "timestamp", "time", "json", "array", "uuid", "binary", "other"]

_NAMES: dict[Family, str] = {
    "text": 'text|character varying|character|citext|name|str|varchar2|nvarchar|nvarchar2|nchar|clob|"char"',
    "integer": "smallint|integer|bigint|oid|tinyint|mediumint|int16|int32|int64|long|short|serial|bigserial|smallserial|byteint",
    "number": "numeric|number|real|double precision|float|double|float32|float64|bignumeric",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp without time zone|timestamp with time zone|datetime|datetime2|datetimeoffset"
    "|timestamp_tz|timestamp_ltz|timestamp_ntz",
    "time": "time without time zone",
    "json": "json|jsonb|struct|record|object|map|variant|super",
    "array": "list|array",
    "uuid": "uuid|uniqueidentifier|guid",
    "binary": "bytea|bytes|binary|varbinary|blob",
}
_FAMILY_OF: dict[str, Family] = {name: family for family, names in _NAMES.items() for name in names.split("|")}
_ZONED = frozenset({"timestamp with time zone", "timestamp_tz", "timestamp_ltz", "datetimeoffset"})
_DOUBLES = frozenset({"real", "double precision", "float", "double", "float32", "float64"})

_LOGICAL: dict[str, Family] = {
    "string": "text", "integer": "integer", "number": "number", "boolean": "boolean", "date": "date", "timestamp": "timestamp",
    "time": "time", "object": "json", "map": "json", "array": "array", "vector": "array",
}  # fmt: skip
_FITTING: dict[Family, frozenset[Family]] = {
    "text": frozenset({"text", "uuid", "binary", "other", "time", "json", "array"}),
    "integer": frozenset({"integer", "number"}),
    "number": frozenset({"integer", "number"}),
    "boolean": frozenset({"boolean"}),
    "date": frozenset({"date", "timestamp"}),
    "timestamp": frozenset({"timestamp", "date"}),
    "time": frozenset({"time"}),
    "json": frozenset({"json"}),
    "array": frozenset({"json", "array"}),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """How the values of one column are held while they are judged.

    family   what they are; `postgres` the type in Postgres' words, for SQL; `arrow` the type in a Frame
    read     whether they come as free text that has to be read as the family first (a CSV field, a text column)
    logical  the contract's logicalType, if it has one
    known    false where the contract says nothing of the type: a file's values are then what they are
    """

    family: Family
    postgres: str
    arrow: pa.DataType
    read: bool = False
    logical: str | None = None
    known: bool = True


def family_of(type_text: str) -> Family:
    """The family of a type, in the words of Postgres or of some other system; `other` for what is not known."""
    try:
        kind = parse_type(re.sub(r"<.*>", "", type_text, flags=re.DOTALL))  # struct<a: int>
    except ValueError:
        return "other"
    return "array" if kind.array else _FAMILY_OF.get(kind.base, "other")


def in_file(logical: str | None, physical: str | None, *, zoned: bool = False) -> Judged:
    """How values of a property are held that come from a file; `zoned`: timestamps are said to have a zone."""
    written = family_of(physical) if physical else "other"
    family = _LOGICAL[logical] if logical else "text" if written == "other" else written
    if physical and written == "uuid" and family == "text":
        family = "uuid"
    if written == "binary":
        family = "binary"
    if zoned and family == "timestamp":
        physical, written = "timestamptz", family
    known = logical is not None or written != "other"
    return replace(_held(family, physical if written == family else None), read=True, logical=logical, known=known)


def in_column(logical: str | None, physical: str | None, column_type: str, *, zoned: bool = False) -> Judged | None:
    """How values of a table's column are held; None where the column cannot hold what the contract says."""
    found = family_of(column_type)
    wanted = _LOGICAL[logical] if logical else None
    if found == "text" and wanted not in (None, "text"):
        return in_file(logical, physical, zoned=zoned)
    if wanted is not None and found not in _FITTING[wanted]:
        return None
    return Judged(found, column_type, _frame_type(column_type), logical=logical)


def _frame_type(column_type: str) -> pa.DataType:
    """As in journal.types, but numbers without a precision are decimals of the batch's own scale, here the widest."""
    kind = parse_type(column_type)
    found = arrow_type(column_type)
    return pa.decimal128(38, 10) if kind.base == "numeric" and not kind.array and pa.types.is_string(found) else found


def _held(family: Family, physical: str | None) -> Judged:
    kind = parse_type(physical) if physical and family not in ("json", "array") else PgType("")
    base = kind.base
    match family:
        case "integer":
            return Judged(family, "bigint", pa.int64())
        case "number":
            if base in _DOUBLES:
                return Judged(family, "double precision", pa.float64())
            if base in ("numeric", "number") and kind.args and 0 < kind.args[0] <= 38:
                precise = str(PgType("numeric", kind.args[:2]))
                return Judged(family, precise, arrow_type(precise))
            return Judged(family, "numeric", pa.float64())
        case "boolean":
            return Judged(family, "boolean", pa.bool_())
        case "date":
            return Judged(family, "date", pa.date32())
        case "timestamp":
            zoned = base in _ZONED
            return Judged(family, f"timestamp {'with' if zoned else 'without'} time zone", pa.timestamp("us", "UTC" if zoned else None))
        case "time":
            return Judged(family, "time without time zone", pa.time64("us"))
        case "json" | "array":
            return Judged(family, "jsonb", pa.string())
        case "uuid":
            return Judged(family, "uuid", pa.string())
        case _:
            return Judged(family, "text", pa.string())
