"""Values, and combinations of values, that occur once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from quality.column import Column, Rows
from quality.differing import all_differ
from quality.kernels.arguments import Arguments
from quality.kernels.equality import same_value
from quality.kernels.rule import Check, Ignore, MapKernel, Types, row_kernel

RECORD_IGNORE: Mapping[str, Ignore] = {"all_values_are_missing": "all missing", "any_value_is_missing": "any missing", "never": "nothing"}

_DENSE = 8  # numbers that lie this close are counted as they are


def ignored(arguments: Arguments) -> Ignore:
    """Which rows an expectation over several columns leaves out."""
    return RECORD_IGNORE[arguments.choice("ignore_row_if", tuple(RECORD_IGNORE), "all_values_are_missing")]


def unique(arguments: Arguments) -> MapKernel:
    """Values that no other row has. All copies fail, the first one too."""
    column = arguments.column()
    return row_kernel(arguments, [column], lambda types: Check(_apart, among=True))


def compound_unique(arguments: Arguments) -> MapKernel:
    """Combinations of values that no other row has; missing values are equal to one another."""
    columns = arguments.columns()
    return row_kernel(
        arguments,
        columns,
        lambda types: Check(_apart, among=True),
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


def _apart(columns: Sequence[Column]) -> Rows:
    """bool[n]: rows that no other is like."""
    if len(columns) == 1 and (dense := _dense(columns[0])) is not None:
        return _alone(dense)
    if all_differ(columns):
        return np.ones(len(columns[0]), np.bool_)
    return _alone(_combined(columns) if len(columns) > 1 else _codes(columns[0]))


def _codes(column: Column) -> npt.NDArray[np.int64]:
    """Small whole numbers, equal where the values are; 0 where missing and nowhere else."""
    dense = _dense(column)
    if dense is not None:
        return dense
    codes = column.encoded[0].astype(np.int64) + 1
    if column.family == "float" and column.missing is not None:
        codes[column.missing] = 0
    return codes


def _dense(column: Column) -> npt.NDArray[np.int64] | None:
    """The same, of numbers that lie close together."""
    if column.family in ("int", "date", "timestamp") and len(column):
        least, most = int(column.numbers.min()), int(column.numbers.max())
        if most - least < _DENSE * len(column) and max(-least, most) < 2**62:
            codes = column.numbers.astype(np.int64) - (least - 1)
            return codes if column.missing is None else np.where(column.missing, 0, codes)
    return None


def _combined(columns: Sequence[Column]) -> npt.NDArray[np.int64]:
    whole = _codes(columns[0])
    for column in columns[1:]:
        more = _codes(column)
        width = int(more.max(initial=0)) + 1
        if int(whole.max(initial=0)) >= 2**62 // width:
            whole = _renumbered(whole)
        whole = whole * width + more
    return whole if int(whole.max(initial=0)) < _DENSE * len(whole) else _renumbered(whole)


def _renumbered(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.asarray(pa.array(codes).dictionary_encode().indices).astype(np.int64)


def _alone(codes: npt.NDArray[np.int64]) -> Rows:
    counts = np.bincount(codes)
    if int(counts.max(initial=0)) <= 1:
        return np.ones(codes.size, np.bool_)
    return np.asarray(counts[codes] == 1, np.bool_)


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_be_unique": unique,
    "expect_compound_columns_to_be_unique": compound_unique,
    "expect_select_column_values_to_be_unique_within_record": unique_within_record,
}
