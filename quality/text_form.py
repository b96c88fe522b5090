"""What Python's str() makes of the values of a column: regular expressions and lengths are judged on it when the column is no text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from quality.column import Column


def as_text(column: Column) -> pa.Array:
    """The texts of a column's values; null where the value is missing.

    Great Expectations asks pandas for `astype(str)`. A timestamp is written as pandas writes a single one, always with its time:
    what pandas makes of a whole column depends on the other rows of the batch. Bytes that are not UTF-8 are written as Python
    writes bytes.
    """
    match column.family:
        case "text":
            return column.array
        case "int":
            return column.array.cast(pa.string())
        case "bool":
            return pc.if_else(column.array, "True", "False")
        case "decimal" | "date":
            return column.array.cast(pa.string())
        case "timestamp":
            return _timestamps(column.array)
        case "float":
            return _floats(column)
        case "binary":
            return _decoded(column.array)
        case "null":
            return pa.nulls(len(column), pa.string())
        case _:
            return pa.array([None if value is None else str(value) for value in column.array.to_pylist()], pa.string())


def _floats(column: Column) -> pa.Array:
    numbers = column.numbers
    bits, codes = np.unique(numbers.view(np.int64 if numbers.itemsize == 8 else np.int32), return_inverse=True)
    written = np.array([str(value) for value in bits.view(numbers.dtype)], dtype=object)
    texts = pa.array(written, pa.string()).take(pa.array(codes.ravel()))
    return texts if column.missing is None else pc.if_else(pa.array(column.missing), None, texts)


def _timestamps(array: pa.Array) -> pa.Array:
    zone = array.type.tz
    if zone is not None and zone.upper() not in ("UTC", "ETC/UTC", "+00:00"):
        return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
    unit = array.type.unit if array.type.unit == "ns" else "us"
    texts = array.cast(pa.timestamp(unit)).cast(pa.string())
    if unit == "ns":
        texts = pc.replace_substring_regex(texts, r"(\.\d{6})000$", r"\1")
    texts = pc.replace_substring_regex(texts, r"\.000000$", "")
    return texts if zone is None else pc.binary_join_element_wise(texts, "+00:00", "")


def _decoded(array: pa.Array) -> pa.Array:
    try:
        return array.cast(pa.large_string() if pa.types.is_large_binary(array.type) else pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if value is None else _utf8(value) for value in array.to_pylist()], pa.string())


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return str(value)
