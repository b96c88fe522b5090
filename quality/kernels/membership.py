"""Values, and pairs of values, in a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from dateutil.parser import parse

from quality.column import Column, family, unpacked
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation
from quality.kernels.rule import Check, Ignore, MapKernel, Types, row_kernel
from quality.kernels.typed_values import alike, is_member

PAIR_IGNORE: Mapping[str, Ignore] = {
    "both_values_are_missing": "all missing",
    "either_value_is_missing": "any missing",
    "neither": "nothing",
}

_LARGEST_TABLE = 1_000_000  # of pairs of listed values


def in_set(arguments: Arguments) -> MapKernel:
    """Values that the list holds."""
    column, values = arguments.column(), arguments.values()
    return row_kernel(arguments, [column], lambda types: _membership(values, types[0]))


def not_in_set(arguments: Arguments) -> MapKernel:
    """Values that the list does not hold. For timestamps, texts of the list are read as times."""
    column, values = arguments.column(), arguments.values()

    def choose(types: Types) -> Check:
        inside = _membership(_as_times(values) if family(types[0]) == "timestamp" else values, types[0])
        return Check(lambda columns: ~inside.passes(columns), inside.engine)

    return row_kernel(arguments, [column], choose)


def _membership(values: list[object], of: pa.DataType) -> Check:
    if family(of) in ("other", "null"):
        return Check(lambda columns: is_member(columns[0], values), "python")
    held = alike(values, of)
    return Check(lambda columns: unpacked(pc.is_in(columns[0].array, held)))


def _as_times(values: list[object]) -> list[object]:
    try:
        return [parse(value) if isinstance(value, str) else value for value in values]
    except (ValueError, OverflowError) as error:
        raise BadExpectation(f"value_set holds text that is no time, and the column holds times: {error}", "value_set") from error


def pairs_in_set(arguments: Arguments) -> MapKernel:
    """Pairs of values that the list of pairs holds; null in a pair stands for a missing value."""
    columns = (arguments.column("column_A"), arguments.column("column_B"))
    pairs = [_pair(value) for value in arguments.values("value_pairs_set")]
    ignore = PAIR_IGNORE[arguments.choice("ignore_row_if", tuple(PAIR_IGNORE), "both_values_are_missing")]

    def choose(types: Types) -> Check:
        left, right = _Coder(types[0], [a for a, _ in pairs]), _Coder(types[1], [b for _, b in pairs])
        width = len(right.held) + 2
        allowed = {(a + 1) * width + b + 1 for one in pairs for a in left.places(one[0]) for b in right.places(one[1])}
        if width * (len(left.held) + 2) <= _LARGEST_TABLE:
            table = np.zeros(width * (len(left.held) + 2), np.bool_)
            table[sorted(allowed)] = True
            return Check(lambda both: table[(left.codes(both[0]) + 1) * width + right.codes(both[1]) + 1])
        listed = np.array(sorted(allowed), np.int64)
        return Check(lambda both: np.isin((left.codes(both[0]) + 1) * width + right.codes(both[1]) + 1, listed))

    return row_kernel(arguments, columns, choose, ignore=ignore, argument="column_A")


def _pair(value: object) -> tuple[object, object]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise BadExpectation("value_pairs_set must be a list of pairs of values", "value_pairs_set")
    return value[0], value[1]


class _Coder:
    """Numbers for a column's values by their places among those of a list: -1 for missing, and their count for none of them."""

    def __init__(self, of: pa.DataType, values: list[object]) -> None:
        if family(of) == "other":
            raise BadExpectation(f"values of type {of} are in no list of pairs", "value_pairs_set")
        self.type = of
        self.held = alike(values, of).unique()

    def places(self, value: object) -> list[int]:
        """The codes of the column's values that equal `value`."""
        if value is None:
            return [-1]
        return [int(place) for place in pc.index_in(alike([value], self.type), self.held).drop_null().to_pylist()]

    def codes(self, column: Column) -> npt.NDArray[np.int64]:
        places = pc.index_in(column.array, self.held) if len(self.held) else pa.nulls(len(column), pa.int32())
        found = np.asarray(pc.fill_null(places, len(self.held))).astype(np.int64)
        if column.missing is not None:
            found[column.missing] = -1
        return found


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_be_in_set": in_set,
    "expect_column_values_to_not_be_in_set": not_in_set,
    "expect_column_pair_values_to_be_in_set": pairs_in_set,
}
