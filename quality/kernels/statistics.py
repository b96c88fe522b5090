"""Statistics of a column within bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.column import Column, family
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation
from quality.kernels.spread import deviation, mean
from quality.kernels.verdict import SetVerdict
from quality.kernels.whole import ColumnKernel, Limits, SetKernel, column_kernel, shown

_DOUBLE = pa.float64()
_NUMBERS = ("bool", "int", "float", "decimal", "null")
_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _present(column: Column) -> Column:
    return column if column.missing is None else column.where(~column.missing)


def _numbers_only(what: str) -> Callable[[pa.DataType], None]:
    def check(of: pa.DataType) -> None:
        if family(of) not in _NUMBERS:
            raise BadExpectation(f"a column of type {of} has no {what}", "column")

    return check


def _numbers_or_times(what: str) -> Callable[[pa.DataType], None]:
    def check(of: pa.DataType) -> None:
        if family(of) not in (*_NUMBERS, "timestamp"):
            raise BadExpectation(f"a column of type {of} has no {what}", "column")

    return check


def _bounded(limits: Limits) -> Callable[[pa.DataType], None]:
    """Refuses a type whose values do not compare with the bounds."""

    def check(of: pa.DataType) -> None:
        if family(of) == "text":
            limits.take_text(of)
        elif family(of) != "null":
            limits.hold(pa.nulls(1, of), of)

    return check


def _extreme(arguments: Arguments, which: str) -> ColumnKernel:
    limits = Limits.read(arguments)

    def judge(column: Column) -> SetVerdict:
        present = _present(column)
        if len(present) == 0:
            return SetVerdict(False, None)
        if column.family == "text":
            text = getattr(pc, which)(present.array).as_py()
            return SetVerdict(limits.hold_text(text), text)
        if column.family in ("int", "float", "bool", "date", "timestamp"):
            at = int(getattr(np, f"arg{which}")(present.numbers))
        else:
            value = getattr(pc, which)(present.array)
            at = int(pc.index(present.array, value).as_py())
        one = present.array[at : at + 1]
        return SetVerdict(limits.hold(one, column.type), shown(_python(one)))

    return column_kernel(arguments, judge, _bounded(limits))


def _python(one: pa.Array) -> object:
    try:
        return one[0].as_py()
    except (OverflowError, ValueError):  # infinity, and years beyond Python's
        return str(one.cast(pa.int64())[0].as_py()) if not pa.types.is_date(one.type) else str(one.cast(pa.int32())[0].as_py())


def _average(arguments: Arguments, name: str, of_doubles: Callable[[np.ndarray], float]) -> ColumnKernel:
    limits = Limits.read(arguments)

    def judge(column: Column) -> SetVerdict:
        present = _present(column)
        if len(present) == 0:
            return SetVerdict(False, None)
        if column.family == "timestamp":
            from quality.pandas_form import series

            moment = getattr(series(present), name)()
            return limits.verdict(moment.to_pydatetime(warn=False), pa.timestamp("us", column.type.tz))
        if name == "mean" and column.family == "int" and float(np.abs(present.doubles).sum()) < 2**62:
            return limits.verdict(int(present.numbers.sum(dtype=np.int64)) / len(present), _DOUBLE)
        return limits.verdict(of_doubles(present.doubles), _DOUBLE)

    return column_kernel(arguments, judge, _numbers_or_times(name))


def _sum(arguments: Arguments) -> ColumnKernel:
    limits = Limits.read(arguments)

    def judge(column: Column) -> SetVerdict:
        present = _present(column)
        if column.family in ("int", "bool"):
            return limits.verdict(float(sum(present.numbers.tolist()) if len(present) else 0), _DOUBLE)
        return limits.verdict(_added(present), _DOUBLE)

    return column_kernel(arguments, judge, _numbers_only("sum"))


def _added(column: Column) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        return float(column.doubles.sum()) if column.family != "null" else 0.0


def _deviation(arguments: Arguments) -> ColumnKernel:
    limits = Limits.read(arguments, numbers=True)

    def judge(column: Column) -> SetVerdict:
        return limits.verdict(deviation(_present(column).doubles) if column.family != "null" else math.nan, _DOUBLE)

    return column_kernel(arguments, judge, _numbers_only("standard deviation"))


def _distinct_count(arguments: Arguments) -> ColumnKernel:
    least, most = arguments.whole("min_value"), arguments.whole("max_value")
    limits = Limits(
        None if least is None else float(least),
        None if most is None else float(most),
        arguments.flag("strict_min"),
        arguments.flag("strict_max"),
    )
    return column_kernel(arguments, lambda column: limits.verdict(distinct_count(column), pa.int64()))


def _distinct_share(arguments: Arguments) -> ColumnKernel:
    limits = Limits.read(arguments, numbers=True)

    def judge(column: Column) -> SetVerdict:
        present = len(column) - _missing(column)
        return limits.verdict(distinct_count(column) / present if present else 0.0, _DOUBLE)

    return column_kernel(arguments, judge)


def _present_share(arguments: Arguments) -> ColumnKernel:
    limits = Limits.read(arguments, numbers=True)
    return column_kernel(
        arguments, lambda column: limits.verdict((len(column) - _missing(column)) / len(column) if len(column) else 0.0, _DOUBLE)
    )


def distinct_count(column: Column) -> int:
    """How many different values there are, missing ones aside."""
    return len(np.unique(_present(column).encoded[0]))


def _missing(column: Column) -> int:
    return 0 if column.missing is None else int(np.count_nonzero(column.missing))


def _quantiles(arguments: Arguments) -> ColumnKernel:
    given = arguments.mapping("quantile_ranges")
    asked, ranges = given.get("quantiles"), given.get("value_ranges")
    if (
        set(given) - {"quantiles", "value_ranges"}
        or not isinstance(asked, list)
        or not isinstance(ranges, list)
        or len(asked) != len(ranges)
    ):
        raise arguments.fail("quantile_ranges", "must be {quantiles: […], value_ranges: [[least, most], …]} of the same length")
    quantiles = [_quantile(value) for value in asked]
    bounds = [_range(value) for value in ranges]
    method = arguments.get("allow_relative_error") or "nearest"
    if method not in _METHODS:
        raise arguments.fail("allow_relative_error", f"must be false or one of {', '.join(_METHODS)}")

    def judge(column: Column) -> SetVerdict:
        values = _present(column).doubles if column.family != "null" else np.zeros(0)
        found: list[float] = [math.nan] * len(quantiles)
        if len(values):
            found = [float(value) for value in np.quantile(values, quantiles, method=method)]  # type: ignore[call-overload]  # one of its names
        success = all(
            _near(value, low) or _near(value, high) or low <= value <= high for value, (low, high) in zip(found, bounds, strict=True)
        )
        return SetVerdict(success, {"quantiles": shown(quantiles), "values": [None if math.isnan(value) else value for value in found]})

    return column_kernel(arguments, judge, _numbers_only("quantiles that are numbers"))


def _near(value: float, bound: float) -> bool:
    return bool(np.isclose(value, bound, rtol=1.0e-4, atol=1.0e-8))


def _quantile(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise BadExpectation("quantiles must be numbers between 0 and 1", "quantile_ranges")
    return float(value)


def _range(value: Any) -> tuple[float, float]:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(one is None or isinstance(one, (int, float)) for one in value):
        raise BadExpectation("value_ranges must be pairs of a least and a most value, each a number or null", "quantile_ranges")
    low, high = (-math.inf if value[0] is None else float(value[0])), (math.inf if value[1] is None else float(value[1]))
    if low > high:
        raise BadExpectation("value_ranges must be pairs in order", "quantile_ranges")
    return low, high


OFFERED: Mapping[str, Callable[[Arguments], SetKernel]] = {
    "expect_column_min_to_be_between": lambda arguments: _extreme(arguments, "min"),
    "expect_column_max_to_be_between": lambda arguments: _extreme(arguments, "max"),
    "expect_column_mean_to_be_between": lambda arguments: _average(arguments, "mean", mean),
    "expect_column_median_to_be_between": lambda arguments: _average(arguments, "median", lambda values: float(np.median(values))),
    "expect_column_sum_to_be_between": _sum,
    "expect_column_stdev_to_be_between": _deviation,
    "expect_column_unique_value_count_to_be_between": _distinct_count,
    "expect_column_proportion_of_unique_values_to_be_between": _distinct_share,
    "expect_column_proportion_of_non_null_values_to_be_between": _present_share,
    "expect_column_quantile_values_to_be_between": _quantiles,
}
