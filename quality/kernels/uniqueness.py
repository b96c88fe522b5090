"""Values, and combinations of values, that occur once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from quality.column import Column, Rows
from quality.kernels.arguments import Arguments
from quality.kernels.equality import same_value
from quality.kernels.rule import Check, Ignore, MapKernel, Types, row_kernel

RECORD_IGNORE: Mapping[str, Ignore] = {"all_values_are_missing": "all missing", "any_value_is_missing": "any missing", "never": "nothing"}


def ignored(arguments: Arguments) -> Ignore:
    """Which rows an expectation over several columns leaves out."""
    return RECORD_IGNORE[arguments.choice("ignore_row_if", tuple(RECORD_IGNORE), "all_values_are_missing")]


def unique(arguments: Arguments) -> MapKernel:
    """Values that no other row has. All copies fail, the first one too."""
    column = arguments.column()
    return row_kernel(arguments, [column], lambda types: Check(lambda columns: _alone(_codes(columns[0])), among=True))


def compound_unique(arguments: Arguments) -> MapKernel:
    """Combinations of values that no other row has; missing values are equal to one another."""
    columns = arguments.columns()
    return row_kernel(
        arguments,
        columns,
        lambda types: Check(lambda many: _alone(_combined(many)), among=True),
        ignore=ignored(arguments),
        argument="column_list",
    )


def unique_within_record(arguments: Arguments) -> MapKernel:
    """Rows in which no two of the columns have the same value; two missing values are the same."""
    columns = arguments.columns()

    def choose(types: Types) -> Check:
        pairs = [(i, j, same_value(types[i], types[j])) for j in range(len(types)) for i in range(j)]

        def passes(many: Sequence[Column]) -> Rows:
            repeated = np.zeros(len(many[0]), np.bool_)
            for i, j, same in pairs:
                repeated |= same.passes([many[i], many[j]])
            return ~repeated

        engine = "python" if any(same.engine == "python" for _, _, same in pairs) else "arrow"
        return Check(passes, engine)

    return row_kernel(arguments, columns, choose, ignore=ignored(arguments), argument="column_list")


def _codes(column: Column) -> npt.NDArray[np.integer]:
    """Small numbers, equal where the values are; -1 where missing."""
    codes, _ = column.encoded
    if column.family == "float" and column.missing is not None:
        codes = codes.copy()
        codes[column.missing] = -1
    return codes


def _combined(columns: Sequence[Column]) -> npt.NDArray[np.integer]:
    whole = _codes(columns[0]).astype(np.int64) + 1
    for column in columns[1:]:
        more = _codes(column)
        width = int(more.max(initial=-1)) + 2
        if int(whole.max(initial=0)) >= (2**62) // width:
            _, whole = np.unique(whole, return_inverse=True)
        whole = whole * width + more + 1
    return np.asarray(np.unique(whole, return_inverse=True)[1]).ravel()


def _alone(codes: npt.NDArray[np.integer]) -> Rows:
    counts = np.bincount(codes)
    if counts.size == codes.size:  # as many values as rows
        return np.ones(codes.size, np.bool_)
    return np.asarray(counts[codes] == 1, np.bool_)


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_be_unique": unique,
    "expect_compound_columns_to_be_unique": compound_unique,
    "expect_select_column_values_to_be_unique_within_record": unique_within_record,
}
