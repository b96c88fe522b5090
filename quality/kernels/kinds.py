"""Columns of certain types, by the names that numpy, pandas and Python give to types.

One column can be held in several ways by pandas: text as objects or as strings, integers as int64 or Int64. A name that fits one
of them fits the column. pandas is imported only when such an expectation is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from quality.column import family, plain
from quality.kernels.arguments import Arguments
from quality.kernels.rule import Check, MapKernel, Types, row_kernel
from quality.pandas_form import PANDAS_ERRORS, series, specimen

_NATIVE: Mapping[str, type] = {
    "none": type(None), "bool": bool, "int": int, "long": int, "float": float, "bytes": bytes, "complex": complex, "str": str,
    "string_types": str, "list": list, "dict": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """One way in which pandas holds a column: its dtype, and a value of it where the dtype is object."""

    dtype: Any
    value: object = None


def forms_of(of: pa.DataType) -> list[Form]:
    """The ways in which pandas holds a column of a type without changing its values."""
    import pandas as pd

    from quality.column import Column

    of = plain(of)
    kind = family(of)
    if kind == "null":
        return [Form(np.dtype(object), None)]
    one = series(Column(specimen(of)))
    found = [Form(one.dtype, one.iloc[0] if one.dtype == object else None)]
    if kind == "int":
        found += [Form(np.dtype(of.to_pandas_dtype())), Form(np.dtype(object), 1)]
    elif kind == "text":
        found += [Form(pd.StringDtype(na_value=np.nan)), Form(pd.StringDtype())]
    elif kind == "bool":
        found += [Form(pd.BooleanDtype()), Form(np.dtype(object), True)]
    elif kind == "float":
        found += [Form(pd.Float32Dtype() if pa.types.is_float32(of) else pd.Float64Dtype()), Form(np.dtype(object), 1.5)]
    elif kind == "decimal":
        found.append(Form(np.dtype(np.float64)))
    elif kind == "date":
        found += [Form(np.dtype(f"datetime64[{unit}]")) for unit in ("s", "us", "ns")]
    elif kind == "timestamp":
        zone = of.tz
        units: tuple[Literal["s", "ms", "us", "ns"], ...] = ("s", "ms", "us", "ns")
        found += [Form(pd.DatetimeTZDtype(unit, zone) if zone else np.dtype(f"datetime64[{unit}]")) for unit in units]
        found.append(Form(np.dtype(object), pd.Timestamp(0, tz=zone)))
    return found


def of_type(arguments: Arguments) -> MapKernel:
    """Values of one type, by its name."""
    column, name = arguments.column(), arguments.text("type_")
    scalars, _ = _named([name])

    def fits(form: Form) -> bool:
        if form.dtype == object and name not in ("object", "object_", "O"):
            return isinstance(form.value, tuple(scalars))
        return form.dtype.type in scalars

    return row_kernel(arguments, [column], lambda types: _all_or_none(types, fits))


def in_type_list(arguments: Arguments) -> MapKernel:
    """Values of one of several types; without a list, of any."""
    column = arguments.column()
    if arguments.get("type_list") is None:
        return row_kernel(arguments, [column], lambda types: _all_or_none(types, lambda form: True))
    scalars, dtypes = _named(arguments.texts("type_list"))

    def fits(form: Form) -> bool:
        if form.dtype == object:
            return isinstance(form.value, tuple(scalars))
        return any(_same(form.dtype, one) for one in (*scalars, *dtypes))

    return row_kernel(arguments, [column], lambda types: _all_or_none(types, fits))


def _all_or_none(types: Types, fits: Callable[[Form], bool]) -> Check:
    fit = any(fits(form) for form in forms_of(types[0]))
    # pandas knows the type of such a column also where there is nothing in it
    return Check(lambda columns: np.full(len(columns[0]), fit), without=fit or family(plain(types[0])) not in ("int", "float", "timestamp"))


def _named(names: Sequence[str]) -> tuple[list[type], list[Any]]:
    """The scalar types and the dtypes that names stand for; no value is of a type whose name nobody knows."""
    import pandas as pd

    scalars: list[type] = []
    dtypes: list[Any] = []
    for name in names:
        try:
            dtype = np.dtype(name)
            scalars.append(dtype.type)
            dtypes.append(dtype)
        except (SyntaxError, TypeError, ValueError):
            for place in (pd, pd.core.dtypes.dtypes):  # type: ignore[attr-defined]  # where Great Expectations looks
                found = getattr(place, name, None)
                if isinstance(found, type):
                    scalars.append(found)
                    made = _made(found)
                    if isinstance(made, pd.api.extensions.ExtensionDtype):
                        dtypes.append(made)
        native = _NATIVE.get(name.lower())
        if native is not None:
            scalars.append(native)
    return scalars, dtypes


def _made(kind: type) -> object:
    try:
        return kind()
    except PANDAS_ERRORS:
        return None


def _same(dtype: Any, other: Any) -> bool:
    try:
        return bool(dtype == other)
    except TypeError:
        return False


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_be_of_type": of_type,
    "expect_column_values_to_be_in_type_list": in_type_list,
}
