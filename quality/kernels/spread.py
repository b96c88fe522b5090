"""Values that lie far from the others: z-scores and outliers, measured over the rows that are judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from quality.column import Column, Rows, family
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation
from quality.kernels.rule import Check, MapKernel, Types, row_kernel
from quality.pandas_form import series

_QUARTILES = (0.25, 0.75)


def z_scores(arguments: Arguments) -> MapKernel:
    """Values less than `threshold` standard deviations (of the sample) from the mean. Where there is no deviation, all pass."""
    column, threshold = arguments.column(), arguments.needed_number("threshold")
    double_sided = arguments.needed_flag("double_sided")

    def passes(column: Column) -> Rows:
        scores = _z_scores(column)
        with np.errstate(invalid="ignore"):
            under = np.abs(scores) < abs(threshold) if double_sided else scores < threshold
        return np.asarray(under | np.isnan(scores), np.bool_)

    def choose(types: Types) -> Check:
        if family(types[0]) in ("date", "timestamp"):
            return Check(lambda columns: passes(columns[0]), "python", among=True)
        _numeric(column, types)
        return Check(lambda columns: passes(columns[0]), among=True)

    return row_kernel(arguments, [column], choose)


def not_outliers(arguments: Arguments) -> MapKernel:
    """Values within `multiplier` quartile ranges of the middle half (`iqr`), or standard deviations of the mean (`std`)."""
    column, method = arguments.column(), arguments.choice("method", ("iqr", "std"), "iqr")
    multiplier = arguments.needed_number("multiplier", least=0.0) if arguments.given("multiplier") else 1.5

    def passes(column: Column) -> Rows:
        values = column.doubles
        if len(values) == 0:
            return np.ones(0, np.bool_)
        if method == "iqr":
            with np.errstate(invalid="ignore"):
                low, high = (float(value) for value in np.quantile(values, _QUARTILES))
            spread = high - low
        else:
            low = high = mean(values)
            spread = deviation(values)
        if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(spread)):
            return np.ones(len(values), np.bool_)
        away = multiplier * spread
        if method == "iqr":
            return (values >= low - away) & (values <= high + away)
        return values == low if away <= 0 else np.abs(values - low) < away

    def choose(types: Types) -> Check:
        _numeric(column, types)
        return Check(lambda columns: passes(columns[0]), among=True)

    return row_kernel(arguments, [column], choose)


def _numeric(column: str, types: Types) -> None:
    if family(types[0]) not in ("int", "float", "decimal", "bool", "null"):
        raise BadExpectation(f"column {column} is of type {types[0]}, which is no number", "column")


def _z_scores(column: Column) -> npt.NDArray[np.float64]:
    if column.family in ("date", "timestamp"):
        times = series(column if column.family == "timestamp" else Column(column.array.cast(pa.timestamp("us"), safe=False)))
        away = times.std()
        if len(times) < 2 or away == away * 0:
            return np.full(len(times), np.nan)
        return np.asarray((times - times.mean()) / away, np.float64)
    values = column.doubles
    spread = deviation(values)
    if spread == 0:
        return np.full(len(values), np.nan)
    with np.errstate(invalid="ignore"):
        return (values - mean(values)) / spread


def mean(values: npt.NDArray[np.float64]) -> float:
    """The mean; NaN where infinities cancel."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float(values.sum() / len(values))


def deviation(values: npt.NDArray[np.float64]) -> float:
    """The standard deviation of a sample; NaN for fewer than two values, and where infinities are among them."""
    if len(values) < 2:
        return math.nan
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.sqrt(((mean(values) - values) ** 2).sum() / (len(values) - 1)))


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_value_z_scores_to_be_less_than": z_scores,
    "expect_column_values_to_not_be_outliers": not_outliers,
}
