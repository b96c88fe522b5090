"""Columns as pandas holds them, in the form in which Great Expectations' verdicts are taken.

Integers are nullable (Int64), doubles have NaN for null, timestamps are datetime64; booleans without nulls are numpy's, and all
else is Python's own objects (str, Decimal, date, bytes, list) with None for null. pandas is imported only when it is needed.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from quality.column import Column, family, unpacked

if TYPE_CHECKING:
    import pandas as pd

# what pandas raises when values do not go with an operation
PANDAS_ERRORS = (ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, SyntaxError, TypeError, ValueError)

_FIRST_DAY = (dt.date.min - dt.date(1970, 1, 1)).days
_LAST_DAY = (dt.date.max - dt.date(1970, 1, 1)).days


def series(column: Column) -> pd.Series[Any]:
    """One column in the form above."""
    import pandas as pd

    match column.family:
        case "int":
            missing = np.zeros(len(column), np.bool_) if column.missing is None else column.missing
            return pd.Series(pd.arrays.IntegerArray(column.numbers.astype(column.numbers.dtype, copy=True), missing.copy()))
        case "float":
            values = column.numbers.copy()
            if column.missing is not None:
                values[column.missing] = np.nan
            return pd.Series(values)
        case "bool" if column.missing is None:
            return pd.Series(unpacked(column.array).copy())
        case "timestamp":
            unit = column.type.unit
            stamps = column.numbers.astype(f"datetime64[{unit}]")
            if column.missing is not None:
                stamps[column.missing] = np.datetime64("NaT")
            made = pd.Series(stamps)
            return made if column.type.tz is None else made.dt.tz_localize("UTC").dt.tz_convert(column.type.tz)
        case "date":
            # infinity and years that Python's dates do not reach keep their order as the first and last of them
            days = np.clip(column.numbers.astype(np.int64), _FIRST_DAY, _LAST_DAY).astype("datetime64[D]").astype(object)
            if column.missing is not None:
                days[column.missing] = None
            return pd.Series(days, dtype=object)
        case _:
            return pd.Series(column.array.to_pylist(), dtype=object)


def specimen(of: pa.DataType) -> pa.Array:
    """One ordinary value of a type: what an operation does with it, it does with a column of the type."""
    values: dict[str, object] = {
        "bool": True, "int": 1, "float": 1.5, "decimal": Decimal(0), "text": "a", "date": dt.date(2024, 1, 31),
        "timestamp": dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC if getattr(of, "tz", None) else None), "binary": b"a",
    }  # fmt: skip
    kind = family(of)
    if pa.types.is_fixed_size_binary(of):
        return pa.array([b"a" * of.byte_width], of)
    if kind in values:
        return pa.array([values[kind]], of)
    if pa.types.is_time(of):
        return pa.array([dt.time(12)], of)
    if pa.types.is_duration(of):
        return pa.array([dt.timedelta(1)], of)
    if pa.types.is_list(of) or pa.types.is_large_list(of):
        return pa.array([[]], of)
    if pa.types.is_struct(of):
        return pa.array([{}], of)
    return pa.nulls(1, of)
