"""Two columns compared row by row: equal, greater, at least.

Numbers of different types compare as numbers. What Arrow does not compare (a date with a time, times with text) is compared by
pandas, as Great Expectations does, on the rows in which both values are there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from quality.column import Column, Rows, family, plain, unpacked
from quality.kernels.errors import BadExpectation
from quality.kernels.rule import Check
from quality.pandas_form import PANDAS_ERRORS, series, specimen

Comparison = Literal["equal", "greater", "greater_equal"]

_OPERATORS: dict[Comparison, Callable[[Any, Any], Any]] = {"equal": operator.eq, "greater": operator.gt, "greater_equal": operator.ge}
_MICROS_OF_A_DAY = 86_400_000_000
_LAST_DAY = (2**63 - 1) // _MICROS_OF_A_DAY


def compare(how: Comparison, left: pa.DataType, right: pa.DataType, argument: str = "column_A") -> Check:
    """How the values of two columns compare; false where either is missing. Raises BadExpectation where they do not."""
    one, other = family(left), family(right)
    if "null" in (one, other):
        return Check(lambda both: np.zeros(len(both[0]), np.bool_))
    kinds = {one, other}
    if kinds <= {"bool", "int", "float"} or (one in ("date", "timestamp") and plain(left) == plain(right)):
        return _check(lambda both: _OPERATORS[how](both[0].numbers, both[1].numbers))
    if kinds == {"decimal", "float"}:
        return _check(lambda both: _OPERATORS[how](both[0].doubles, both[1].doubles))
    if kinds <= {"bool", "int", "decimal"}:
        return _check(lambda both: _decimals(how, both))
    if one == other and one in ("text", "binary"):
        return _check(lambda both: unpacked(getattr(pc, how)(*_of_one_type(both))))
    if kinds == {"date", "timestamp"} and getattr(left, "tz", None) is None and getattr(right, "tz", None) is None:
        return _check(lambda both: _OPERATORS[how](*(_times(column) for column in both)))
    if kinds == {"date", "timestamp"} and how == "equal":  # a date is no time of a zone
        return _check(lambda both: np.zeros(len(both[0]), np.bool_))
    if kinds == {"text", "timestamp"}:  # pandas reads the text as times if it can read all of a batch
        raise BadExpectation(f"columns of type {left} and {right} do not compare: one holds times and the other text", argument)
    check = Check(lambda both: _by_pandas(how, both), "python")
    try:
        check.passes([Column(specimen(left)), Column(specimen(right))])
    except BadExpectation as error:
        raise BadExpectation(f"columns of type {left} and {right} do not compare: {error.message}", argument) from error
    return check


def same_value(left: pa.DataType, right: pa.DataType) -> Check:
    """Whether two columns hold the same value, as a set of Python's has it: a time is never a text. Two missing values are the same."""
    if {family(left), family(right)} == {"text", "timestamp"}:
        return _or_both_missing(_check(lambda both: np.zeros(len(both[0]), np.bool_)))
    return equal_or_missing(left, right)


def equal_or_missing(left: pa.DataType, right: pa.DataType) -> Check:
    """Whether the values of two columns are equal, where two missing values are."""
    return _or_both_missing(compare("equal", left, right, "column_list"))


def _or_both_missing(equal: Check) -> Check:

    def passes(both: Sequence[Column]) -> Rows:
        answer = equal.passes(both)
        one, other = both[0].missing, both[1].missing
        return answer if one is None or other is None else answer | (one & other)

    return Check(passes, equal.engine)


def _check(answer: Callable[[Sequence[Column]], Any]) -> Check:
    return Check(lambda both: _where_both(both, np.asarray(answer(both), np.bool_)))


def _where_both(both: Sequence[Column], answer: Rows) -> Rows:
    for column in both:
        if column.missing is not None:
            answer = answer & ~column.missing
    return answer


def _of_one_type(both: Sequence[Column]) -> list[pa.Array]:
    if both[0].type == both[1].type:
        return [column.array for column in both]
    return [column.array.cast(pa.large_string() if column.family == "text" else pa.large_binary()) for column in both]


def _decimals(how: Comparison, both: Sequence[Column]) -> Rows:
    """Decimals and integers, exactly: as decimals of 76 digits where these hold both columns, else one by one."""
    if both[0].type == both[1].type:
        return unpacked(getattr(pc, how)(both[0].array, both[1].array))
    arrays = [one.array if one.family == "decimal" else pa.array(one.numbers).cast(pa.decimal256(20, 0)) for one in both]
    scale = max(array.type.scale for array in arrays)
    try:
        return unpacked(getattr(pc, how)(*(array.cast(pa.decimal256(76, scale)) for array in arrays)))
    except pa.ArrowInvalid:
        rows = zip(*(array.to_pylist() for array in arrays), strict=True)
        return np.array([a is not None and b is not None and bool(_OPERATORS[how](a, b)) for a, b in rows], np.bool_)


def _times(column: Column) -> npt.NDArray[np.int64]:
    """Dates and timestamps without a zone as microseconds; infinity stays beyond all others."""
    if column.family == "date":
        return np.clip(column.numbers.astype(np.int64), -_LAST_DAY, _LAST_DAY) * _MICROS_OF_A_DAY
    return np.asarray(column.array.cast(pa.timestamp("us"), safe=False).fill_null(0).cast(pa.int64()), np.int64)


def _by_pandas(how: Comparison, both: Sequence[Column]) -> Rows:
    answer = np.zeros(len(both[0]), np.bool_)
    there = _where_both(both, np.ones(len(both[0]), np.bool_))
    if there.any():
        left, right = (series(column.where(there)) for column in both)
        try:
            answer[there] = np.asarray(_OPERATORS[how](left, right), np.bool_)
        except PANDAS_ERRORS as error:
            raise BadExpectation(str(error)) from error
    return answer
