"""The shape that all rules over a whole set of rows share."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from dateutil.parser import parse

from pipeline.names import nearest
from quality.column import Column
from quality.frame import Frame
from quality.kernels.arguments import Arguments, Bound
from quality.kernels.conditions import RowCondition, read_condition
from quality.kernels.errors import BadExpectation
from quality.kernels.rule import type_of
from quality.kernels.thresholds import within
from quality.kernels.verdict import SetVerdict


class SetKernel(Protocol):
    """A rule over a set of rows, ready to judge one."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""

    @property
    def engine(self) -> str:
        """How it is evaluated: arrow, duckdb, python or gx."""

    def prepare(self, types: Mapping[str, pa.DataType]) -> None:
        """Makes ready for columns of these types. Raises BadExpectation where they cannot be judged."""

    def judge(self, frame: Frame) -> SetVerdict:
        """Judges the set. Raises BadExpectation where its types cannot be judged."""


class ColumnKernel:
    """A rule over the values of one column, those that are malformed or absent left out."""

    engine = "arrow"

    def __init__(
        self, column: str, condition: RowCondition | None, check: Callable[[pa.DataType], None], judge: Callable[[Column], SetVerdict]
    ) -> None:
        self.columns = tuple(dict.fromkeys((column, *(condition.columns if condition else ()))))
        self._column = column
        self._condition = condition
        self._check = check
        self._judge = judge

    def prepare(self, types: Mapping[str, pa.DataType]) -> None:
        self._check(type_of(self._column, types, "column"))
        if self._condition is not None:
            self._condition.prepare(types)

    def judge(self, frame: Frame) -> SetVerdict:
        if self._column not in frame.columns:
            raise BadExpectation(f"there is no column {self._column}", "column", hint=nearest(self._column, frame.columns))
        column = chosen(frame, self.columns, self._condition).column(self._column)
        self._check(column.type)
        return self._judge(column)


def column_kernel(
    arguments: Arguments, judge: Callable[[Column], SetVerdict], check: Callable[[pa.DataType], None] = lambda of: None
) -> ColumnKernel:
    """A kernel over one column that reads what all such expectations take: column, row_condition and condition_parser."""
    return ColumnKernel(arguments.column(), read_condition(arguments), check, judge)


def chosen(frame: Frame, columns: tuple[str, ...], condition: RowCondition | None) -> Frame:
    """The rows over which a rule that reads these columns is judged."""
    left_out = frame.skipped(columns)
    kept = None if left_out is None else ~left_out
    if condition is not None:
        rows = condition.rows(frame)
        kept = rows if kept is None else kept & rows
    return frame if kept is None else frame.where(kept)


class Limits:
    """The bounds of a statistic: min_value and max_value, each strict or not, as they are read from arguments."""

    def __init__(self, least: Bound | None, most: Bound | None, strict_least: bool, strict_most: bool) -> None:
        self._bounds = (least, most, strict_least, strict_most)

    @classmethod
    def read(cls, arguments: Arguments, *, numbers: bool = False, strict: bool = True) -> Limits:
        """Bounds of any kind, or with `numbers` only numbers; with `strict` they can be strict."""
        least, most = (arguments.number(name) if numbers else arguments.bound(name) for name in ("min_value", "max_value"))
        flags = (arguments.flag("strict_min"), arguments.flag("strict_max")) if strict else (False, False)
        return cls(least, most, *flags)

    def hold(self, value: object, of: pa.DataType) -> bool:
        """Whether one value of a type lies within. Raises BadExpectation where it does not compare with the bounds."""
        one = value if isinstance(value, pa.Array) else pa.array([value], of)
        return bool(within(of, *self._bounds)(Column(one))[0])

    def take_text(self, of: pa.DataType) -> None:
        """Raises BadExpectation unless the bounds are dates or times, for which text is read as one."""
        bounds = [bound for bound in self._bounds[:2] if bound is not None]
        if not all(isinstance(bound, dt.date) for bound in bounds) or len({type(bound) for bound in bounds}) > 1:
            raise BadExpectation(f"a column of type {of} compares with dates, or with times, and with nothing else", "min_value")

    def hold_text(self, text: str) -> bool:
        """Whether text, read as a date or a time, lies within; text that is none does not."""
        least, most, strict_least, strict_most = self._bounds
        if least is None and most is None:
            return True
        try:
            moment = parse(text)
            value: Any = moment if isinstance(least, dt.datetime) or isinstance(most, dt.datetime) else moment.date()
            above = least is None or (value > least if strict_least else value >= least)
            return bool(above and (most is None or (value < most if strict_most else value <= most)))
        except (OverflowError, TypeError, ValueError):
            return False

    def verdict(self, value: object, of: pa.DataType) -> SetVerdict:
        """The verdict on a statistic; one that does not exist (of no values) is in no bounds."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return SetVerdict(False, None)
        return SetVerdict(self.hold(value, of), shown(value))


def shown(value: object) -> object:
    """A value as JSON holds it."""
    if isinstance(value, np.generic):
        return shown(value.item())
    if isinstance(value, bool) or value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (Decimal, dt.timedelta)):
        return str(value)
    if isinstance(value, (dt.date, dt.datetime, dt.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [shown(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): shown(one) for key, one in value.items()}
    return str(value)
