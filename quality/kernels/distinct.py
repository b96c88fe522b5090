"""Judging each distinct value once, for what only Python can judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from quality.column import Column, Rows


def by_distinct(column: Column, judge: Callable[[Any], bool]) -> Rows:
    """What `judge` says of each value. Undefined where missing."""
    codes, values = column.encoded
    answers = np.fromiter((judge(value) for value in values.to_pylist()), np.bool_, len(values))
    if len(answers) == 0:
        return np.zeros(len(column), np.bool_)
    return answers[codes]
