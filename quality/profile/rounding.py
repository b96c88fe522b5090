"""Limits that leave the data some room: rounded away from it, to numbers that a person would write."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_DIGITS = 2


def lower(least: int | float, most: int | float) -> int | float | None:
    """A minimum below `least`: 0 where that is near, seen from `most`. None where no number is fit to be one."""
    if least >= 0 and (least <= most / 2 or least <= 10):
        return 0
    return _rounded(least, ROUND_FLOOR)


def upper(most: int | float, least: int | float) -> int | float | None:
    """A maximum above `most`: 0 where nothing is positive."""
    if most <= 0 and (most >= least / 2 or most >= -10):
        return 0
    return _rounded(most, ROUND_CEILING)


def _rounded(value: int | float, direction: str) -> int | float | None:
    if not math.isfinite(value):
        return None
    exact = Decimal(value) if isinstance(value, int) else Decimal(repr(value))
    found = Context(prec=_DIGITS, rounding=direction).plus(exact)
    if found == found.to_integral_value() and abs(found) < Decimal(2) ** 53:
        return int(found)
    if isinstance(value, int):
        return int(found)
    near = float(found)
    return near if math.isfinite(near) else None
