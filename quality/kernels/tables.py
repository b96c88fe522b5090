"""The columns of a table, and how many rows it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from pipeline.names import nearest
from quality.frame import Frame
from quality.kernels.arguments import Arguments, Bound
from quality.kernels.conditions import RowCondition, read_condition
from quality.kernels.errors import BadExpectation
from quality.kernels.kinds import forms_of
from quality.kernels.verdict import SetVerdict
from quality.kernels.whole import Limits, SetKernel, chosen
from quality.pandas_form import PANDAS_ERRORS


class TableKernel:
    """A rule over a frame as a whole."""

    engine = "arrow"

    def __init__(self, judge: Callable[[Frame], SetVerdict], columns: tuple[str, ...] = (), condition: RowCondition | None = None) -> None:
        self.columns = columns if condition is None else tuple(dict.fromkeys((*columns, *condition.columns)))
        self._judge = judge
        self._condition = condition

    def prepare(self, types: Mapping[str, pa.DataType]) -> None:
        if self._condition is not None:
            self._condition.prepare(types)

    def judge(self, frame: Frame) -> SetVerdict:
        return self._judge(frame if self._condition is None else chosen(frame, self._condition.columns, self._condition))


def _limits(least: Bound | None, most: Bound | None, strict: tuple[bool, bool] = (False, False)) -> Limits:
    return Limits(None if least is None else float(least), None if most is None else float(most), *strict)  # type: ignore[arg-type]  # numbers


def _rows_between(arguments: Arguments) -> TableKernel:
    least, most = arguments.whole("min_value"), arguments.whole("max_value")
    arguments.ordered("min_value", least, "max_value", most)
    limits = _limits(least, most, (arguments.flag("strict_min"), arguments.flag("strict_max")))
    return TableKernel(lambda frame: limits.verdict(frame.rows, pa.int64()), condition=read_condition(arguments))


def _rows_equal(arguments: Arguments) -> TableKernel:
    value = arguments.needed_whole("value")
    return TableKernel(lambda frame: SetVerdict(frame.rows == value, frame.rows), condition=read_condition(arguments))


def _columns_between(arguments: Arguments) -> TableKernel:
    least, most = arguments.number("min_value"), arguments.number("max_value")
    limits = _limits(least, most)
    return TableKernel(lambda frame: limits.verdict(len(frame.columns), pa.int64()))


def _columns_equal(arguments: Arguments) -> TableKernel:
    value = arguments.needed_whole("value")
    return TableKernel(lambda frame: SetVerdict(len(frame.columns) == value, len(frame.columns)))


def _names(arguments: Arguments, name: str) -> list[str] | None:
    value = arguments.get(name)
    if value is None:
        return None
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(one, str) for one in value):
        raise arguments.fail(name, "must be a list of names of columns")
    return list(value)


def _ordered_columns(arguments: Arguments) -> TableKernel:
    names = _names(arguments, "column_list")

    def judge(frame: Frame) -> SetVerdict:
        found = list(frame.columns)
        return SetVerdict(names is None or found == names, found)

    return TableKernel(judge)


def _set_of_columns(arguments: Arguments) -> TableKernel:
    names = _names(arguments, "column_set")
    exact = (
        arguments.flag("exact_match", default=True)
        if arguments.get("exact_match") is not None or not arguments.given("exact_match")
        else False
    )

    def judge(frame: Frame) -> SetVerdict:
        found, wanted = set(frame.columns), set(names or ())
        return SetVerdict(found == wanted if exact else wanted <= found, sorted(found))

    return TableKernel(judge)


def _exists(arguments: Arguments) -> TableKernel:
    column, place = arguments.column(), arguments.whole("column_index")

    def judge(frame: Frame) -> SetVerdict:
        names = list(frame.columns)
        if place:  # Great Expectations takes the first place, 0, for no place
            return SetVerdict(-len(names) <= place < len(names) and names[place] == column, names)
        return SetVerdict(column in names, names)

    return TableKernel(judge)


def _type(arguments: Arguments) -> TableKernel:
    column, name = arguments.column(), arguments.text("type_")
    from pandas.api.types import pandas_dtype

    try:
        wanted = pandas_dtype(name)
    except (ImportError, *PANDAS_ERRORS) as error:
        raise BadExpectation(f"type_ {name!r} is no type of pandas: {error}", "type_") from error

    def judge(frame: Frame) -> SetVerdict:
        if column not in frame.columns:
            raise BadExpectation(f"there is no column {column}", "column", hint=nearest(column, frame.columns))
        dtypes = [form.dtype for form in forms_of(frame.columns[column].type)]
        return SetVerdict(any(_is_dtype(dtype, wanted, name) for dtype in dtypes), str(dtypes[0]))

    return TableKernel(judge, (column,))


def _is_dtype(dtype: object, wanted: object, name: str) -> bool:
    if getattr(wanted, "kind", "") in ("m", "M") and str(wanted) in ("datetime64", "timedelta64"):  # without a unit: any of them
        return str(dtype).startswith(str(wanted)) and "," not in str(dtype)
    if type(dtype).__name__ == type(wanted).__name__ == "StringDtype":
        return str(dtype) == str(wanted)
    return dtype in (wanted, name)


OFFERED: Mapping[str, Callable[[Arguments], SetKernel]] = {
    "expect_table_row_count_to_be_between": _rows_between,
    "expect_table_row_count_to_equal": _rows_equal,
    "expect_table_column_count_to_be_between": _columns_between,
    "expect_table_column_count_to_equal": _columns_equal,
    "expect_table_columns_to_match_ordered_list": _ordered_columns,
    "expect_table_columns_to_match_set": _set_of_columns,
    "expect_column_to_exist": _exists,
    "expect_column_type_to_be": _type,
}
