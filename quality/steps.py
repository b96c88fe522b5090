"""Rules that compare a change with the value that its row had before: transition, immutable, monotonic.

Values become numbers, so that a comparison is one over whole arrays. Null is left alone: it is compared with nothing, and the value
before it still counts for what comes after; only to `immutable` it is a change like any other once there has been a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from quality.checks import UnfitValueError, as_values, check_values, places_among
from quality.column import Column
from quality.rules import RuleError, Types
from quality.step import Breaks, Step, StepJudge

Longs = npt.NDArray[np.int64]

_ORDERED = frozenset({"integer", "number", "date", "timestamp", "time", "text", "uuid"})


_ORDERED = frozenset({"integer", "number", "date", "timestamp", "time", "text", "uuid"})


def transition(column: str, allowed: Sequence[tuple[Any, Any]], types: Types, mostly: float) -> StepJudge:
    """The value stays, or takes one of the steps (from, to). Raises RuleError for states that no value of the column can equal."""
    states = list(dict.fromkeys((isinstance(state, bool), state) for pair in allowed for state in pair))  # true is not 1, but 1.0 is
    words = [state for _, state in states]
    if column in types:
        try:
            check_values(words, types[column].arrow)
        except UnfitValueError as error:
            raise RuleError(str(error), part="implementation") from error
    places = {state: place for place, state in enumerate(states)}
    may = np.zeros((len(words) + 1, len(words) + 1), np.bool_)
    for start, end in allowed:
        may[places[isinstance(start, bool), start], places[isinstance(end, bool), end]] = True

    held: dict[pa.DataType, pa.Array] = {}

    def numbered(values: Column) -> Step:
        codes, distinct = values.encoded
        if distinct.type not in held:
            held[distinct.type] = as_values(words, distinct.type)
        state = np.append(places_among(distinct, held[distinct.type]), len(words))  # the last is that of a null
        found = codes.astype(np.int64)
        return Step(found, found, lambda before, now: (before != now) & ~may[state[before], state[now]])

    return StepJudge((column,), numbered, mostly)


def immutable(columns: Sequence[str], mostly: float) -> StepJudge:
    """A value that has been set stays."""

    def numbered(values: Column) -> Step:
        codes = values.encoded[0].astype(np.int64)
        return Step(codes + 1, np.where(codes < 0, -1, codes + 1), lambda before, now: before != now)

    return StepJudge(tuple(columns), numbered, mostly)


def monotonic(column: str, types: Types, mostly: float, *, strict: bool, decreasing: bool) -> StepJudge:
    """The value never goes back; `strict`: nor does it stay. Raises RuleError for values without an order."""
    if column in types and types[column].family not in _ORDERED:
        said = f"{column} holds {types[column].family}, which has no order"
        raise RuleError(said, hint="a number, a date, a time or text", part="implementation")
    breaks = _BACK[decreasing, strict]

    def numbered(values: Column) -> Step:
        array = values.array
        if values.family == "float":  # NaN is left alone, and -0.0 is 0.0
            array = pc.if_else(pc.is_nan(array), None, pc.add(array, pa.scalar(0.0, array.type)))
        ranks = np.asarray(pc.rank(array, sort_keys="ascending", tiebreaker="dense")).astype(np.int64)
        ranks[np.asarray(pc.is_null(array))] = -1
        return Step(ranks, ranks, breaks)

    return StepJudge((column,), numbered, mostly)


_BACK: Mapping[tuple[bool, bool], Breaks] = {
    (False, False): lambda before, now: now < before,
    (False, True): lambda before, now: now <= before,
    (True, False): lambda before, now: now > before,
    (True, True): lambda before, now: now >= before,
}
