"""The shape that all rules over rows share: which rows they are asked about, and how their answers become a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from pipeline.names import nearest
from quality.column import Column, Rows
from quality.frame import Frame
from quality.kernels.arguments import Arguments
from quality.kernels.conditions import RowCondition, read_condition
from quality.kernels.errors import BadExpectation
from quality.kernels.verdict import RowVerdict

Types = tuple[pa.DataType, ...]
Ignore = Literal["nothing", "any missing", "all missing"]


@dataclass(frozen=True)
class Check:
    """How columns of certain types are judged.

    `passes` gives bool[rows]; what it says of rows that are not considered is of no account. With `among` it must see the rows
    that are considered and no others, because a row's answer depends on its neighbours. `without` is the verdict where no row is
    considered.
    """

    passes: Callable[[Sequence[Column]], Rows]
    engine: str = "arrow"
    among: bool = False
    without: bool = True


class RowKernel(Protocol):
    """A rule over rows, ready to judge batches."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""

    @property
    def engine(self) -> str:
        """How it is evaluated: arrow, duckdb, python or gx."""

    def prepare(self, types: Mapping[str, pa.DataType]) -> None:
        """Makes ready for columns of these types. Raises BadExpectation where they cannot be judged."""

    def judge(self, frame: Frame) -> RowVerdict:
        """Judges a batch. Raises BadExpectation where its types cannot be judged."""


def type_of(column: str, types: Mapping[str, pa.DataType], argument: str) -> pa.DataType:
    """The type of a column. Raises BadExpectation when there is no such column."""
    if column not in types:
        raise BadExpectation(f"there is no column {column}", argument, hint=nearest(column, types))
    return types[column]


def row_kernel(
    arguments: Arguments,
    columns: Sequence[str],
    choose: Callable[[Types], Check],
    *,
    ignore: Ignore = "any missing",
    argument: str = "column",
) -> MapKernel:
    """A kernel over `columns` that reads what all such expectations take: mostly, row_condition and condition_parser."""
    return MapKernel(tuple(columns), choose, arguments.mostly(), read_condition(arguments), ignore, argument)


class MapKernel:
    """A rule over the rows of one or more columns. `choose` gives the check for columns of given types, or raises BadExpectation."""

    def __init__(
        self,
        judged: tuple[str, ...],
        choose: Callable[[Types], Check],
        mostly: float,
        condition: RowCondition | None,
        ignore: Ignore,
        argument: str,
    ) -> None:
        self.judged = judged
        self.mostly = mostly
        self.condition = condition
        self.columns = tuple(dict.fromkeys((*judged, *(condition.columns if condition else ()))))
        self._choose = choose
        self._ignore = ignore
        self._argument = argument
        self._checks: dict[Types, Check] = {}
        self._last: Check | None = None

    @property
    def engine(self) -> str:
        return self._last.engine if self._last else "arrow"

    def prepare(self, types: Mapping[str, pa.DataType]) -> None:
        """Chooses the check for these types. Raises BadExpectation."""
        self._check(tuple(type_of(name, types, self._argument) for name in self.judged))
        if self.condition is not None:
            self.condition.prepare(types)

    def judge(self, frame: Frame) -> RowVerdict:
        columns = [self._column(frame, name) for name in self.judged]
        check = self._check(tuple(column.type for column in columns))
        considered = self._considered(frame, columns)
        evaluated = frame.rows if considered is None else int(np.count_nonzero(considered))
        if evaluated == 0:
            failed = np.zeros(frame.rows, np.bool_)
        elif considered is None:
            failed = ~check.passes(columns)
        elif not check.among:
            failed = ~check.passes(columns) & considered
        else:
            failed = np.zeros(frame.rows, np.bool_)
            failed[considered] = ~check.passes([column.where(considered) for column in columns])
        if evaluated == 0 and not check.without:
            return RowVerdict(0, failed, False)
        return RowVerdict.of(evaluated, failed, self.mostly)

    def _column(self, frame: Frame, name: str) -> Column:
        try:
            return frame.column(name)
        except KeyError:
            raise BadExpectation(f"there is no column {name}", self._argument, hint=nearest(name, frame.columns)) from None

    def _check(self, types: Types) -> Check:
        check = self._checks.get(types)
        if check is None:
            check = self._checks[types] = self._choose(types)
        self._last = check
        return check

    def _considered(self, frame: Frame, columns: Sequence[Column]) -> Rows | None:
        """bool[rows] of the rows that the rule is asked about; None for all."""
        left_out = frame.skipped(self.columns)
        missing = None if self._ignore == "nothing" else _combined(self._ignore, columns)
        if missing is not None:
            left_out = missing if left_out is None else left_out | missing
        considered = None if left_out is None else ~left_out
        if self.condition is not None:
            chosen = self.condition.rows(frame)
            considered = chosen if considered is None else chosen & considered
        return considered


def _combined(ignore: Ignore, columns: Sequence[Column]) -> Rows | None:
    found: Rows | None = None
    for column in columns:
        missing = column.missing
        if ignore == "all missing":
            if missing is None:
                return None
            found = missing if found is None else found & missing
        elif missing is not None:
            found = missing if found is None else found | missing
    return found
