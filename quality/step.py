"""What a rule makes of values to compare a change with the one before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quality.column import Column

Longs = npt.NDArray[np.int64]
Breaks = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The values of one column as numbers, int64[n]: as they are compared, and as they stand for what comes after; -1 where they are not.

    `breaks` (before, now) says of numbers, or of arrays of them, whether that step is not allowed.
    """

    now: Longs
    held: Longs
    breaks: Breaks


@dataclass(frozen=True, slots=True, eq=False)
class StepJudge:
    """A rule over the steps of each of its columns, ready for certain types; `numbered` makes numbers of a column's values."""

    columns: tuple[str, ...]
    numbered: Callable[[Column], Step]
    mostly: float = 1.0
    engine: str = "arrow"
