"""Columns whose values grow or fall from row to row, missing values left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from quality.column import Column, Rows, family, unpacked
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation
from quality.kernels.rule import Check, MapKernel, Types, row_kernel


def increasing(arguments: Arguments) -> MapKernel:
    """Values that are not less than the one before; with `strictly`, greater."""
    return _ordered(arguments, "greater", "greater_equal")


def decreasing(arguments: Arguments) -> MapKernel:
    """Values that are not greater than the one before; with `strictly`, less."""
    return _ordered(arguments, "less", "less_equal")


def _ordered(arguments: Arguments, strict: str, weak: str) -> MapKernel:
    column = arguments.column()
    how = strict if arguments.flag("strictly") else weak

    def choose(types: Types) -> Check:
        if family(types[0]) in ("text", "binary", "other"):
            raise BadExpectation(f"column {column} is of type {types[0]}, whose values have no difference", "column")
        return Check(lambda columns: _in_order(columns[0], how), among=True)

    return row_kernel(arguments, [column], choose)


def _in_order(column: Column, how: str) -> Rows:
    """Whether each value follows the one before it; the first always does. Between equal infinities there is no difference to judge."""
    answer = np.ones(len(column), np.bool_)
    if len(column) < 2:
        return answer
    if column.family == "decimal":
        answer[1:] = unpacked(getattr(pc, how)(column.array[1:], column.array[:-1]))
        return answer
    later, earlier = column.numbers[1:], column.numbers[:-1]
    answer[1:] = _COMPARE[how](later, earlier)
    if column.family == "float":
        answer[1:] |= np.isinf(later) & (later == earlier)
    return answer


_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
}

OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_be_increasing": increasing,
    "expect_column_values_to_be_decreasing": decreasing,
}
