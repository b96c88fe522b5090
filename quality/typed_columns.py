"""Values that come typed (Parquet, Arrow), seen as a contract says: what does not fit the contract's type is malformed."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.types import TypedColumn
from quality.contract import Property
from quality.logical_types import Family
from quality.reading import read_values

_FITTING: dict[Family, tuple[Family, ...]] = {
    "text": ("text",),
    "uuid": ("text",),
    "integer": ("integer",),
    "number": ("number", "integer"),
    "boolean": ("boolean",),
    "date": ("date", "timestamp"),
    "timestamp": ("timestamp", "date"),
    "time": ("time",),
    "json": ("json",),
    "array": ("array",),
    "binary": ("binary", "text", "array"),
}


def as_contract_says(values: pa.Array, prop: Property | None) -> TypedColumn:
    """A typed column of a file as the property says; a column that is not in the contract stays as it is."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    family = family_of_arrow(values.type)
    if family in ("json", "array"):
        values = _documents(values)
    held = prop.held() if prop is not None else None
    none = np.zeros(len(values), np.bool_)
    if prop is None or held is None or not held.known:
        return TypedColumn(values, none)
    if family == "null":
        return TypedColumn(pa.nulls(len(values), held.arrow), none)
    if family == "text" and held.family not in ("text", "binary"):
        return read_values(values.cast(pa.string()), held, by=prop.format, zone=prop.zone)
    if family == "number" and held.family == "integer":
        return _whole(values)
    if family not in _FITTING.get(held.family, ()):
        return TypedColumn(pa.nulls(len(values), held.arrow), np.asarray(pc.is_valid(values)))
    if family == "number" and pa.types.is_decimal(held.arrow) and values.type != held.arrow:
        return read_values(pc.cast(values, pa.string()), held)
    return TypedColumn(values, none)


def family_of_arrow(of: pa.DataType) -> Family | str:
    """The family of an Arrow type."""
    kinds = pa.types
    for test, family in (
        (kinds.is_null, "null"),
        (kinds.is_boolean, "boolean"),
        (kinds.is_integer, "integer"),
        (kinds.is_floating, "number"),
        (kinds.is_decimal, "number"),
        (kinds.is_date, "date"),
        (kinds.is_timestamp, "timestamp"),
        (kinds.is_time, "time"),
        (kinds.is_string, "text"),
        (kinds.is_large_string, "text"),
        (kinds.is_string_view, "text"),
        (kinds.is_struct, "json"),
        (kinds.is_map, "json"),
        (kinds.is_list, "array"),
        (kinds.is_large_list, "array"),
        (kinds.is_fixed_size_list, "array"),
        (kinds.is_binary, "binary"),
        (kinds.is_large_binary, "binary"),
        (kinds.is_fixed_size_binary, "binary"),
    ):
        if test(of):
            return family
    return "other"


def _whole(values: pa.Array) -> TypedColumn:
    """Floating point (as pandas writes integers with gaps) and decimals as integers, where they are whole."""
    as_double = values.cast(pa.float64())
    whole = pc.fill_null(pc.and_(pc.is_finite(as_double), pc.equal(pc.trunc(as_double), as_double)), True)
    malformed = ~np.asarray(pc.fill_null(whole, True))
    kept = pc.if_else(pa.array(malformed), None, values)
    try:
        return TypedColumn(kept.cast(pa.int64()), malformed)
    except pa.ArrowInvalid:
        return TypedColumn(kept.cast(pa.decimal128(38, 0)), malformed)


def _documents(values: pa.Array) -> pa.StringArray:
    """Structs, maps and lists as JSON."""
    pairs = pa.types.is_map(values.type)
    rows = (dict(value) if pairs and value is not None else value for value in values.to_pylist())
    return pa.array([None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in rows], pa.string())
