"""Missing values: null, and NaN, which pandas does not tell from null."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from quality.column import Column, Rows
from quality.kernels.arguments import Arguments
from quality.kernels.rule import Check, MapKernel, row_kernel


def null(arguments: Arguments) -> MapKernel:
    """Values that are missing."""
    return row_kernel(arguments, [arguments.column()], lambda types: Check(lambda columns: _missing(columns[0])), ignore="nothing")


def not_null(arguments: Arguments) -> MapKernel:
    """Values that are there."""
    return row_kernel(arguments, [arguments.column()], lambda types: Check(lambda columns: ~_missing(columns[0])), ignore="nothing")


def _missing(column: Column) -> Rows:
    return np.zeros(len(column), np.bool_) if column.missing is None else column.missing


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_be_null": null,
    "expect_column_values_to_not_be_null": not_null,
}
