"""Values that a library has made Python objects of (avro, parquet) to Postgres' own text, one by one and by columns."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.types import PgType
from sources.records.columns import Converted, booleans, floats, moment_texts, numerics, one_by_one, text_converter
from sources.records.connect import string
from sources.records.json_values import quoted
from sources.records.scalars import FLOATS, INTEGERS, JSONS, Unfit, scalar_reader, shown

_DEEPEST = 200
_ODD = ("null", "\\u0000", "NaN", "Infinity")
_encode = msgspec.json.Encoder(decimal_format="number").encode
_NUMBERS = {*INTEGERS, *FLOATS, "numeric"}
_MOMENTS = {"timestamp with time zone", "timestamp without time zone"}
_WORDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"), (int, "the number"), (float, "the number"), (Decimal, "the number"), (str, "the string"), (bytes, "bytes"),
    (datetime, "a timestamp"), (date, "a date"), (time, "a time"), (UUID, "a uuid"), (Mapping, "a record"), (list, "an array"),
)  # fmt: skip


def object_text(value: Any, kind: PgType) -> str | None:
    """One value. Raises Unfit where it is of another kind than the type, or the type does not hold it."""
    if value is None:
        return None
    if kind.array:
        return _array(value, kind, 0)
    if kind.base in JSONS:
        return json_text(value)
    base = kind.base
    read = scalar_reader(kind)
    match value:
        case bool() if base == "boolean":
            return "t" if value else "f"
        case bool():
            pass
        case int() if base in _NUMBERS:
            return read(_digits(value))
        case float() if base in FLOATS or (base == "numeric" and math.isfinite(value)):
            return read(repr(value)) if math.isfinite(value) else str(floats(pa.array([value]))[0])
        case Decimal() if base == "numeric" or base in INTEGERS:
            return read(_plain(value))
        case str() if base not in _NUMBERS - {"numeric"} and base != "boolean":
            return read(value)
        case bytes() if base == "bytea":
            return "\\x" + value.hex()
        case bytes() if base == "uuid" and len(value) == 16:
            return str(UUID(bytes=value))
        case datetime() if base in _MOMENTS:
            return read(_moment(value, base))
        case datetime():
            pass
        case date() if base == "date":
            return read(value.isoformat())
        case time() if base == "time without time zone":
            return read(value.isoformat())
        case UUID() if base not in _NUMBERS and base not in _MOMENTS:
            return read(str(value))
    raise Unfit(f"expected {kind}, got {named(value)}")


def named(value: object) -> str:
    """A value for a reason: which kind it is, and what it says where it is a number or a string."""
    word = next((word for kind, word in _WORDS if isinstance(value, kind)), type(value).__name__)
    return f"{word} {shown(str(value))}" if word.startswith("the ") else word


def _digits(value: int) -> str:
    if value.bit_length() > 10_000:
        raise Unfit("is a number of too many digits")
    return str(value)


def _plain(value: Decimal) -> str:
    if not value.is_finite():
        raise Unfit(f"{value} is no number that can be taken")
    return str(value)


def _moment(value: datetime, base: str) -> str:
    """An instant is UTC where the type has no zone: avro has no other timestamps in most of its libraries."""
    try:
        if value.tzinfo is not None:
            value = value.astimezone(UTC)
    except OverflowError as error:
        raise Unfit("is no moment that there is") from error
    return (value.replace(tzinfo=None) if base == "timestamp without time zone" else value).isoformat()


def _array(value: object, kind: PgType, depth: int) -> str:
    if not isinstance(value, list) or depth > 6:
        raise Unfit(f"expected {kind}, got {named(value)}")
    element = PgType(kind.base, kind.args)
    parts: list[str] = []
    for item in value:
        if isinstance(item, list) and kind.base not in JSONS:
            parts.append(_array(item, kind, depth + 1))
        else:
            text = object_text(item, element)
            parts.append("NULL" if text is None else quoted(text))
    return "{" + ",".join(parts) + "}"


def json_text(value: object) -> str:
    """A value as JSON. What msgspec would make null or could not hold is looked at part by part."""
    try:
        text = _encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return json_token(value)
    return json_token(value) if any(odd in text for odd in _ODD) else text


def json_token(value: object, depth: int = 0) -> str:
    """A value as JSON: numbers exact, bytes in base64, times as RFC 3339 has them. Raises Unfit for what has no JSON."""
    if depth > _DEEPEST:
        raise Unfit("is nested too deeply")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return _digits(value)
        case float():
            if not math.isfinite(value):
                raise Unfit(f"{value} has no JSON")
            return repr(value)
        case Decimal():
            return scalar_reader(PgType("numeric"))(_plain(value))
        case str():
            if "\0" in value:
                raise Unfit("holds a NUL character, which no jsonb in Postgres can")
            return string(value)
        case bytes():
            return string(base64.b64encode(value).decode())
        case datetime() | date() | time():
            return string(value.isoformat().replace("+00:00", "Z"))
        case UUID():
            return string(str(value))
        case Mapping():
            return "{" + ",".join(f"{string(str(name))}:{json_token(inner, depth + 1)}" for name, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(json_token(inner, depth + 1) for inner in value) + "]"
    raise Unfit(f"{type(value).__name__} has no JSON")


@lru_cache(maxsize=1024)
def object_converter(kind: PgType) -> Callable[[Sequence[Any]], Converted]:
    """What reads a column of such values: by Arrow where all are of the kind that one expects, otherwise one by one."""
    alone = one_by_one(lambda value: object_text(value, kind))
    wanted, together = _together(kind)

    def convert(values: Sequence[Any]) -> Converted:
        found = set(map(type, values)) - {type(None)}
        if found and (together is None or found != {wanted}):
            return alone(values)
        if not found:
            return pa.nulls(len(values), pa.string()), None
        assert together is not None  # noqa: S101  (said above)
        try:
            return together(values)
        except (pa.ArrowInvalid, OverflowError):
            return alone(values)

    return convert


def _together(kind: PgType) -> tuple[type, Callable[[Sequence[Any]], Converted] | None]:
    """The Python type that a column of a Postgres type is expected to have, and how Arrow reads it."""
    if kind.array or kind.base in JSONS:
        return object, None
    base = kind.base
    if base in INTEGERS:
        low, high = INTEGERS[base]
        return int, lambda values: _integers(pa.array(values, pa.int64()), low, high)
    if base == "double precision":
        return float, lambda values: (floats(pa.array(values, pa.float64())), None)
    if base == "boolean":
        return bool, lambda values: (booleans(pa.array(values, pa.bool_())), None)
    if base == "numeric":
        numbers = numerics(kind)
        return Decimal, lambda values: numbers(pa.array([None if value is None else str(value) for value in values], pa.string()))
    if base == "timestamp with time zone":
        return datetime, _instants
    if base == "date":
        return date, lambda values: (pa.array(values, pa.date32()).cast(pa.string()), None)
    if base in ("real", "bytea", "time without time zone", "timestamp without time zone"):
        return object, None
    convert = text_converter(kind)
    return str, lambda values: convert(pa.array(values, pa.string()))


def _integers(values: pa.Int64Array, low: int, high: int) -> Converted:
    outside = pc.or_(pc.less(values, low), pc.greater(values, high)).fill_null(False)
    return values.cast(pa.string()), np.asarray(outside) if outside.true_count else None


def _instants(values: Sequence[datetime | None]) -> Converted:
    if any(value is not None and value.tzinfo is None for value in values):
        raise pa.ArrowInvalid("a timestamp without time zone")
    return moment_texts(pa.array(values, pa.timestamp("us", "UTC")), zoned=True), None
