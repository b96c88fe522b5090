"""Avro's times and decimals read as the bare numbers that they are, and made text by whole columns: an object of Python for each costs
more than the rest of its record.

Only where the column has the type that the logical type is for; everything else stays with fastavro.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from journal.types import PgType
from sources.records.avro_schemas import WriterSchema
from sources.records.base import DecodeOptions, RecordSchema
from sources.records.columns import Converted, moment_texts, numerics
from sources.records.connect import decimal_text, written
from sources.records.object_rows import Readers
from sources.records.scalars import Unfit, pg_type, scalar_reader

_MOMENTS = ("timestamp with time zone", "timestamp without time zone")
_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)  # microseconds since 1970 of the years 1 to 9999
_DAYS = (-719_162, 2_932_896)
_PLAIN_SCALE = 6  # up to which Arrow writes decimals without an exponent
_LONG_BYTES = 8


def lean(schema: WriterSchema, columns: RecordSchema, options: DecodeOptions) -> tuple[WriterSchema, dict[int, Readers]]:
    """The schema without logical types of fields that are read here, and how their columns are read."""
    parsed = schema.parsed
    if not isinstance(parsed, Mapping) or parsed.get("type") != "record":
        return schema, {}
    found: dict[int, Readers] = {}
    bare: dict[str, Any] = {}
    for place, field in enumerate(columns.fields):
        name = options.paths.get(field.name, field.name)
        kind = schema.fields.get(name)
        branches = kind if isinstance(kind, list) else [kind]
        logical = [one for one in branches if isinstance(one, Mapping) and "logicalType" in one]
        if len(logical) != 1 or any(other not in ("null", logical[0]) for other in branches) or name in bare:
            continue
        converters = _converters(logical[0], pg_type(field.type))
        if converters is not None:
            found[place] = converters
            bare[name] = [one["type"] if one is logical[0] else one for one in branches] if isinstance(kind, list) else logical[0]["type"]
    fields = [{**field, "type": bare.get(field["name"], field["type"])} for field in parsed["fields"]]
    return replace(schema, parsed={**parsed, "fields": fields}), found


def _converters(logical: Mapping[str, Any], kind: PgType) -> Readers | None:
    if kind.array:
        return None
    match (logical["type"], logical["logicalType"]):
        case "long", "timestamp-micros" if kind.base in _MOMENTS:
            return _moments(kind, 1, "io.debezium.time.MicroTimestamp")
        case "long", "timestamp-millis" if kind.base in _MOMENTS:
            return _moments(kind, 1000, "io.debezium.time.Timestamp")
        case "int", "date" if kind.base == "date":
            return _days, _reader("io.debezium.time.Date", kind, "")
        case "bytes", "decimal" if kind.base == "numeric" and 0 <= (scale := logical.get("scale", 0)) <= _PLAIN_SCALE:
            return _decimals(kind, scale), lambda value: scalar_reader(kind)(decimal_text(value, scale))
    return None


def _reader(name: str, kind: PgType, zone: str) -> Callable[[Any], str | None]:
    write = written(name, {})
    assert write is not None  # noqa: S101  (of these names)
    return lambda value: scalar_reader(kind)(write(value) + zone)


def _moments(kind: PgType, factor: int, name: str) -> Readers:
    zoned = kind.base == _MOMENTS[0]

    def convert(values: Sequence[int | None]) -> Converted:
        count, null = _numbers(values)
        outside = (count < _YEARS[0] // factor) | (count > _YEARS[1] // factor)
        micros = np.where(outside, 0, count) * factor
        return moment_texts(
            pa.array(micros, pa.int64(), mask=null).cast(pa.timestamp("us")), zoned=zoned
        ), outside if outside.any() else None

    return convert, _reader(name, kind, "Z" if zoned else "")


def _days(values: Sequence[int | None]) -> Converted:
    count, null = _numbers(values)
    outside = (count < _DAYS[0]) | (count > _DAYS[1])
    days = np.where(outside, 0, count).astype(np.int32)
    return pa.array(days, pa.int32(), mask=null).cast(pa.date32()).cast(pa.string()), outside if outside.any() else None


def _numbers(values: Sequence[int | None]) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    array = pa.array(values, pa.int64())
    return np.asarray(array.fill_null(0)), np.asarray(array.is_null())


def _decimals(kind: PgType, scale: int) -> Callable[[Sequence[bytes | None]], Converted]:
    fit = numerics(kind)

    def convert(values: Sequence[bytes | None]) -> Converted:
        if any(value is not None and len(value) > _LONG_BYTES for value in values):
            return fit(pa.array([None if value is None else _text(value, scale) for value in values], pa.string()))
        unscaled = pa.array([None if value is None else int.from_bytes(value, "big", signed=True) for value in values], pa.int64())
        whole = unscaled.cast(pa.decimal128(19, 0))
        return fit(pa.Array.from_buffers(pa.decimal128(19, scale), len(whole), whole.buffers(), offset=whole.offset).cast(pa.string()))

    return convert


def _text(value: bytes, scale: int) -> str:
    """Empty, which is looked at one by one, where there are too many digits."""
    try:
        return decimal_text(value, scale)
    except Unfit:
        return ""
