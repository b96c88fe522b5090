"""expect_column_values_to_be_between, and the lengths of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow.compute as pc

from quality.column import Column, Rows
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation
from quality.kernels.rule import Check, MapKernel, Types, row_kernel
from quality.kernels.thresholds import within


def between(arguments: Arguments) -> MapKernel:
    """Values between two bounds, of which one may be missing."""
    column = arguments.column()
    least, most = arguments.bound("min_value"), arguments.bound("max_value")
    strict_least, strict_most = arguments.flag("strict_min"), arguments.flag("strict_max")
    if least is None and most is None:
        raise BadExpectation("min_value and max_value cannot both be missing", "min_value")
    arguments.ordered("min_value", least, "max_value", most)

    def choose(types: Types) -> Check:
        judge = within(types[0], least, most, strict_least, strict_most)
        return Check(lambda columns: judge(columns[0]))

    return row_kernel(arguments, [column], choose)


def lengths_between(arguments: Arguments) -> MapKernel:
    """Texts whose number of characters is between two bounds."""
    column = arguments.column()
    least, most = arguments.whole("min_value"), arguments.whole("max_value")
    strict_least, strict_most = arguments.flag("strict_min"), arguments.flag("strict_max")
    if least is None and most is None:
        raise BadExpectation("min_value and max_value cannot both be missing", "min_value")
    first = None if least is None else least + strict_least
    last = None if most is None else most - strict_most

    def judge(lengths: np.ndarray) -> Rows:
        answer = np.ones(len(lengths), np.bool_) if first is None else lengths >= first
        return answer if last is None else answer & (lengths <= last)

    return _of_lengths(arguments, column, judge)


def lengths_equal(arguments: Arguments) -> MapKernel:
    """Texts of one length."""
    column = arguments.column()
    value = arguments.needed_number("value")
    return _of_lengths(arguments, column, lambda lengths: lengths == value)


def _of_lengths(arguments: Arguments, column: str, judge: Callable[[np.ndarray], Rows]) -> MapKernel:
    return row_kernel(arguments, [column], lambda types: Check(lambda columns: judge(_lengths(columns[0]))))


def _lengths(column: Column) -> np.ndarray:
    """The number of characters of each value as text. Undefined where missing."""
    texts = column if column.family == "text" else Column(column.texts)
    if texts.ascii:
        return np.diff(texts.offsets)
    return np.asarray(pc.fill_null(pc.utf8_length(texts.array), 0))


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_be_between": between,
    "expect_column_value_lengths_to_be_between": lengths_between,
    "expect_column_value_lengths_to_equal": lengths_equal,
}
