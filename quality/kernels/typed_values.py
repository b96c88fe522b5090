"""The values of a contract's list as values of a column's type.

A value is in a list when Python calls it equal to one of its members, as pandas does: 1, 1.0 and true are equal, "1" is not equal
to them, a date is no time, and a time with a zone is no time without.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.column import Column, Rows, family, plain, unpacked

_WIDE = Context(prec=1100)  # every double has fewer digits
_EPOCH = dt.datetime(1970, 1, 1)
_UNIT = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def is_member(column: Column, values: Sequence[object]) -> Rows:
    """Whether each value of the column equals one of `values`. False where missing."""
    if column.family == "other":
        return np.array([value is not None and _listed(value, values) for value in column.array.to_pylist()], np.bool_)
    return unpacked(pc.is_in(column.array, alike(values, column.type)))


def alike(values: Iterable[object], of: pa.DataType) -> pa.Array:
    """Those of the values that a column of the type can hold, as its type; what it cannot hold, no row can equal."""
    of = plain(of)
    found = [one for value in values if value is not None for one in forms(value, of)]
    if family(of) == "float":
        return pa.array(np.array(found, np.float32 if pa.types.is_float32(of) else np.float64))
    if family(of) == "timestamp":
        return pa.array(found, pa.int64()).cast(of)
    return pa.array(found, of)


def forms(value: object, of: pa.DataType) -> Sequence[object]:
    """What a column of the (plain) type holds where its value equals `value`: nothing, one form, or several."""
    match family(of):
        case "text":
            return [value] if isinstance(value, str) else []
        case "bool":
            return [value == 1] if isinstance(value, (int, float, Decimal)) and value in (0, 1) else []
        case "int":
            return _integers(value, of)
        case "float":
            return _floats(value)
        case "decimal":
            return _decimals(value, of)
        case "date":
            return [value] if isinstance(value, dt.date) and not isinstance(value, dt.datetime) else []
        case "timestamp":
            return _moments(value, of)
        case "binary":
            return [value] if isinstance(value, bytes) else []
        case _:
            return []


def _integers(value: object, of: pa.DataType) -> Sequence[object]:
    if not isinstance(value, (int, float, Decimal)) or not math.isfinite(value) or value != int(value):
        return []
    limits = np.iinfo(of.to_pandas_dtype())
    return [int(value)] if limits.min <= int(value) <= limits.max else []


def _floats(value: object) -> Sequence[object]:
    if not isinstance(value, (int, float, Decimal)) or math.isnan(value):
        return []
    try:
        number = float(value)
    except OverflowError:
        return []
    if number != value:
        return []
    return [0.0, -0.0] if number == 0 else [number]


def _decimals(value: object, of: pa.DataType) -> Sequence[object]:
    """A double also stands for the shortest decimal that is read as it."""
    if not isinstance(value, (int, float, Decimal)) or not math.isfinite(value):
        return []
    exact = {Decimal(value), Decimal(repr(value))} if isinstance(value, float) else {Decimal(value)}
    return [one for one in exact if _fits(one, of)]


def _fits(value: Decimal, of: pa.DataType) -> bool:
    _, digits, exponent = value.normalize(_WIDE).as_tuple()
    if not isinstance(exponent, int):
        return False
    return not any(digits) or (-exponent <= of.scale and len(digits) + exponent + of.scale <= of.precision)


def _moments(value: object, of: pa.DataType) -> Sequence[object]:
    if not isinstance(value, dt.datetime) or (value.tzinfo is None) != (of.tz is None):
        return []
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    since = value - _EPOCH
    micros = (since.days * 86400 + since.seconds) * 10**6 + since.microseconds
    whole, rest = divmod(micros * _UNIT[of.unit], 10**6)
    return [] if rest else [whole]


def _listed(value: object, values: Sequence[object]) -> bool:
    return any(type(one) is not bool and one == value for one in values)
