"""Columns compared with one another in each row, and summed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.column import Column, Rows, family, unpacked
from quality.kernels.arguments import Arguments
from quality.kernels.equality import Comparison, compare, equal_or_missing
from quality.kernels.errors import BadExpectation
from quality.kernels.membership import PAIR_IGNORE
from quality.kernels.rule import Check, MapKernel, Types, row_kernel
from quality.kernels.thresholds import decimal_scalar
from quality.kernels.uniqueness import ignored


def equal(arguments: Arguments) -> MapKernel:
    """Pairs of equal values. A pair with one missing value is not equal."""
    return _compared(arguments, "equal")


def greater(arguments: Arguments) -> MapKernel:
    """Pairs of which the first is greater than the second, or with `or_equal` not less. A pair with one missing value fails."""
    return _compared(arguments, "greater_equal" if arguments.flag("or_equal") else "greater")


def _compared(arguments: Arguments, how: Comparison) -> MapKernel:
    columns = (arguments.column("column_A"), arguments.column("column_B"))
    ignore = PAIR_IGNORE[arguments.choice("ignore_row_if", tuple(PAIR_IGNORE), "both_values_are_missing")]
    return row_kernel(arguments, columns, lambda types: compare(how, types[0], types[1]), ignore=ignore, argument="column_A")


def all_equal(arguments: Arguments) -> MapKernel:
    """Rows in which all columns have one value, or are all missing."""
    columns = arguments.columns()

    def choose(types: Types) -> Check:
        same = [equal_or_missing(types[0], other) for other in types[1:]]

        def passes(many: Sequence[Column]) -> Rows:
            return np.asarray(np.logical_and.reduce([one.passes([many[0], other]) for one, other in zip(same, many[1:], strict=True)]))

        return Check(passes, "python" if any(one.engine == "python" for one in same) else "arrow")

    return row_kernel(arguments, columns, choose, ignore=ignored(arguments), argument="column_list")


def sum_equal(arguments: Arguments) -> MapKernel:
    """Rows whose columns add up to a total. A row with a missing value fails."""
    columns = arguments.columns()
    total = arguments.needed_number("sum_total")

    def choose(types: Types) -> Check:
        for name, of in zip(columns, types, strict=True):
            if family(of) not in ("bool", "int", "float", "decimal", "null"):
                raise BadExpectation(f"column {name} is of type {of}, which does not add up to a number", "column_list")
        return Check(lambda many: _adds_up(many, total))

    return row_kernel(arguments, columns, choose, ignore=ignored(arguments), argument="column_list")


def _adds_up(columns: Sequence[Column], total: float) -> Rows:
    there = np.ones(len(columns[0]), np.bool_)
    for column in columns:
        if column.missing is not None:
            there &= ~column.missing
    kinds = {column.family for column in columns}
    if "null" in kinds:
        return np.zeros(len(there), np.bool_)
    if kinds <= {"int", "bool"} and sum(_farthest(column) for column in columns) < 2**63:
        return np.asarray(sum((column.numbers.astype(np.int64) for column in columns), np.int64(0)) == total, np.bool_) & there
    answer: Rows = np.asarray(sum((column.doubles for column in columns[1:]), columns[0].doubles) == total, np.bool_)
    if "float" not in kinds:
        # a sum of decimals is right as decimals have it and as doubles have it; a sum of integers only exactly
        exact = _exact_sum(columns, total)
        answer = answer | exact if "decimal" in kinds else exact
    return answer & there


def _farthest(column: Column) -> int:
    """The largest absolute value of a column of integers."""
    return max(abs(int(column.numbers.min(initial=0))), abs(int(column.numbers.max(initial=0))))


def _exact_sum(columns: Sequence[Column], total: float) -> Rows:
    """Whether decimals and integers add up to the total exactly."""
    arrays = [one.array if one.family == "decimal" else pa.array(one.numbers).cast(pa.decimal256(20, 0)) for one in columns]
    wide = pa.decimal256(70, max(array.type.scale for array in arrays))
    if not np.isfinite(total) or (Fraction(total) * 10**wide.scale).denominator != 1:
        return np.zeros(len(columns[0]), np.bool_)
    try:
        whole = arrays[0].cast(wide)
        for array in arrays[1:]:
            whole = pc.add(whole, array.cast(wide)).cast(wide)
        return unpacked(pc.equal(whole, decimal_scalar(int(Fraction(total) * 10**wide.scale), wide)))
    except pa.ArrowInvalid:  # more than 70 digits
        rows = zip(*(array.to_pylist() for array in arrays), strict=True)
        return np.array([None not in row and sum(map(Fraction, row)) == Fraction(total) for row in rows], np.bool_)


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_pair_values_to_be_equal": equal,
    "expect_column_pair_values_a_to_be_greater_than_b": greater,
    "expect_multicolumn_values_to_be_equal": all_equal,
    "expect_multicolumn_sum_to_equal": sum_equal,
}
