"""The distinct values of a column, the most common of them, and how their shares differ from what is expected."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Hashable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from dateutil.parser import parse

from quality.column import Column, family, unpacked
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation
from quality.kernels.typed_values import alike
from quality.kernels.verdict import SetVerdict
from quality.kernels.whole import ColumnKernel, SetKernel, column_kernel, shown

_MOST_SHOWN = 20


def _values(arguments: Arguments) -> list[object]:
    """The values of a list, each once. Raises BadExpectation for what cannot be in a set."""
    values = arguments.values()
    for value in values:
        if not isinstance(value, Hashable):
            raise BadExpectation(f"value_set cannot hold {value!r}", "value_set")
    return list(dict.fromkeys(values))


def _distinct(arguments: Arguments, *, others: bool, missing: bool) -> ColumnKernel:
    """Whether there are `others` than the listed values, and whether listed values are `missing`."""
    values = _values(arguments)
    if not values and others and not missing:
        raise BadExpectation("value_set must not be empty", "value_set")

    def judge(column: Column) -> SetVerdict:
        found = _distinct_values(column)
        read = [_as_column(value, column.type) for value in values]
        unexpected = found.filter(pc.invert(pc.is_in(found, alike(read, column.type)))) if len(found) else found
        absent = [value for value, one in zip(values, read, strict=True) if not _occurs(one, found, column.type)]
        observed: dict[str, object] = {}
        if others:
            observed |= {"unexpected_count": len(unexpected), "unexpected": shown(unexpected.slice(0, _MOST_SHOWN).to_pylist())}
        if missing:
            observed |= {"missing_count": len(absent), "missing": shown(absent[:_MOST_SHOWN])}
        return SetVerdict(not (others and len(unexpected)) and not (missing and absent), observed)

    return column_kernel(arguments, judge, _comparable)


def _comparable(of: pa.DataType) -> None:
    if family(of) == "other":
        raise BadExpectation(f"values of type {of} are in no set", "column")


def _distinct_values(column: Column) -> pa.Array:
    if column.family == "null":
        return pa.array([], pa.string())
    present = column if column.missing is None else column.where(~column.missing)
    codes, values = present.encoded
    return values.take(pa.array(np.unique(codes)))


def _occurs(value: object, found: pa.Array, of: pa.DataType) -> bool:
    return bool(len(found)) and bool(unpacked(pc.is_in(alike([value], of), found)).any())


def _as_column(value: object, of: pa.DataType) -> object:
    """A listed value as columns of dates and times read it: text as a date or a time, a date as its midnight."""
    if family(of) == "date" and isinstance(value, str):
        return _parsed(value).date()
    if family(of) == "timestamp":
        if isinstance(value, str):
            return _parsed(value)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return dt.datetime(value.year, value.month, value.day)
    return value


def _parsed(value: str) -> dt.datetime:
    try:
        return parse(value)
    except (ValueError, OverflowError):
        return dt.datetime.min  # text that is no time equals none


def _most_common(arguments: Arguments) -> ColumnKernel:
    values, ties_okay = _values(arguments), arguments.flag("ties_okay")

    def judge(column: Column) -> SetVerdict:
        modes = _modes(column)
        listed = sum(_occurs(value, modes, column.type) for value in values)
        success = listed > 0 if ties_okay else len(modes) == 1 and listed == 1
        return SetVerdict(success, shown(modes.slice(0, _MOST_SHOWN).to_pylist()))

    return column_kernel(arguments, judge, _comparable)


def _modes(column: Column) -> pa.Array:
    if column.family == "null":
        return pa.array([], pa.string())
    present = column if column.missing is None else column.where(~column.missing)
    codes, values = present.encoded
    if len(codes) == 0:
        return values.slice(0, 0)
    counts = np.bincount(codes, minlength=len(values))
    return values.take(pa.array(np.flatnonzero(counts == counts.max())))


def _divergence(arguments: Arguments) -> ColumnKernel:
    from quality.kernels.divergence import divergence_kernel

    return divergence_kernel(arguments)


OFFERED: Mapping[str, Callable[[Arguments], SetKernel]] = {
    "expect_column_distinct_values_to_be_in_set": lambda arguments: _distinct(arguments, others=True, missing=False),
    "expect_column_distinct_values_to_contain_set": lambda arguments: _distinct(arguments, others=False, missing=True),
    "expect_column_distinct_values_to_equal_set": lambda arguments: _distinct(arguments, others=True, missing=True),
    "expect_column_most_common_value_to_be_in_set": _most_common,
    "expect_column_kl_divergence_to_be_less_than": _divergence,
}
