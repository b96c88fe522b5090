"""Comparisons with a constant as comparisons of whole numbers, so that no column is converted and no value rounded.

A bound that a contract states is a double (Great Expectations makes it one), a date or a time. What is held in whole units
(integers, dates, timestamps, decimals) is compared with the last whole unit that satisfies the bound.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.column import Column, Rows, family, plain, unpacked
from quality.kernels.arguments import Bound
from quality.kernels.errors import BadExpectation

_EPOCH = dt.datetime(1970, 1, 1)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

Judge = Callable[[Column], Rows]


def within(of: pa.DataType, least: Bound | None, most: Bound | None, strict_least: bool, strict_most: bool) -> Judge:
    """Whether each value of a column of type `of` lies between two bounds, either of which may be None.

    Raises BadExpectation where values of this type do not compare with the bounds. Undefined where the value is missing.
    """
    kind, of = family(of), plain(of)
    if kind == "float":
        low, high = _double(least, of, "min_value"), _double(most, of, "max_value")
        return lambda column: _doubles(column.numbers, low, high, strict_least, strict_most)
    first = _first(of, least, strict_least)
    last = _last(of, most, strict_most)
    if (least is not None and first is None) or (most is not None and last is None):
        return lambda column: np.zeros(len(column), np.bool_)
    if kind == "decimal":
        return _decimals(of, first, last)
    return lambda column: _wholes(column.numbers, first, last)


def _doubles(values: np.ndarray, low: float | None, high: float | None, strict_low: bool, strict_high: bool) -> Rows:
    answer: Rows | None = None
    if low is not None:
        answer = values > low if strict_low else values >= low
    if high is not None:
        below = values < high if strict_high else values <= high
        answer = below if answer is None else answer & below
    return np.ones(len(values), np.bool_) if answer is None else answer


def _wholes(values: np.ndarray, first: int | None, last: int | None) -> Rows:
    answer: Rows | None = None
    if first is not None:
        answer = values >= first
    if last is not None:
        below = values <= last
        answer = below if answer is None else answer & below
    return np.ones(len(values), np.bool_) if answer is None else answer


def _decimals(of: pa.DataType, first: int | None, last: int | None) -> Judge:
    largest = 10**of.precision - 1

    def judge(column: Column) -> Rows:
        answer = np.ones(len(column), np.bool_)
        if first is not None:
            if first > largest:
                return np.zeros(len(column), np.bool_)
            if first > -largest:
                answer &= unpacked(pc.greater_equal(column.array, decimal_scalar(first, of)))
        if last is not None:
            if last < -largest:
                return np.zeros(len(column), np.bool_)
            if last < largest:
                answer &= unpacked(pc.less_equal(column.array, decimal_scalar(last, of)))
        return answer

    return judge


def decimal_scalar(units: int, of: pa.DataType) -> pa.Scalar:
    """The decimal of so many of the type's smallest units, however many digits it has."""
    digits = tuple(int(digit) for digit in str(abs(units)))
    return pa.scalar(Decimal((int(units < 0), digits, -of.scale)), of)


def _double(bound: Bound | None, of: pa.DataType, name: str) -> float | None:
    if bound is None or isinstance(bound, float):
        return bound
    raise _unlike(of, bound, name)


def _first(of: pa.DataType, bound: Bound | None, strict: bool) -> int | None:
    """The least whole unit that satisfies a lower bound; None for no bound, or one that nothing satisfies."""
    if bound is None:
        return None
    if isinstance(bound, float) and not math.isfinite(bound):
        _exact(of, 0.0, "min_value")
        return _LOWEST if bound == -math.inf else None
    values = _exact(of, bound, "min_value")
    return math.floor(max(values)) + 1 if strict else math.ceil(min(values))


def _last(of: pa.DataType, bound: Bound | None, strict: bool) -> int | None:
    """The greatest whole unit that satisfies an upper bound; None for no bound, or one that nothing satisfies."""
    if bound is None:
        return None
    if isinstance(bound, float) and not math.isfinite(bound):
        _exact(of, 0.0, "max_value")
        return _HIGHEST if bound == math.inf else None
    values = _exact(of, bound, "max_value")
    return math.ceil(min(values)) - 1 if strict else math.floor(max(values))


_LOWEST, _HIGHEST = -(10**80), 10**80  # beyond every integer and decimal that Arrow holds


def _exact(of: pa.DataType, bound: Bound, name: str) -> tuple[Fraction, ...]:
    """A bound in units of the type. A double is also taken for the shortest decimal that is read as it: 0.1 as a contract says it."""
    kind = family(of)
    if isinstance(bound, float):
        if kind in ("int", "bool"):
            return (Fraction(bound),)
        if kind == "decimal":
            return tuple(value * 10**of.scale for value in (Fraction(bound), Fraction(repr(bound))))
        raise _unlike(of, bound, name)
    if kind == "date":
        return (_seconds(of, bound, name) / 86400,)
    if kind == "timestamp":
        return (_seconds(of, bound, name) * _PER_SECOND[of.unit],)
    raise _unlike(of, bound, name)


def _seconds(of: pa.DataType, bound: dt.date | dt.datetime, name: str) -> Fraction:
    moment = bound if isinstance(bound, dt.datetime) else dt.datetime(bound.year, bound.month, bound.day)
    if moment.tzinfo is not None:
        if getattr(of, "tz", None) is None:
            raise BadExpectation(f"{name} has a time zone, and the column ({of}) has none", name)
        moment = moment.astimezone(dt.UTC).replace(tzinfo=None)
    since = moment - _EPOCH
    return Fraction(since.days * 86400 + since.seconds) + Fraction(since.microseconds, 10**6)


def _unlike(of: pa.DataType, bound: Bound, name: str) -> BadExpectation:
    what = "a number" if isinstance(bound, float) else "a time" if isinstance(bound, dt.datetime) else "a date"
    return BadExpectation(f"{name} is {what}, and a column of type {of} does not compare with one", name)
