"""How long things took, of any number of them in little memory: medians and percentiles that add up over stretches of time and datasets.

Lengths that differ by less than a twentieth are kept together, with their number and their sum: a median or a percentile is told as the
average of those around it, to within 5 %, and exactly where there are few.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

_LEAST = 0.001  # seconds: shorter ones are all alike
_STEPS = 16  # kinds of lengths between one and twice as much
_BASE = 1024
KINDS = 4096
"""Kinds of lengths there are room for, all above 0, from less than a millisecond up to more than any."""


def kind_of(seconds: str) -> str:
    """The kind of a length (an SQL expression, of which none may be below 0) as an SQL expression; null for none."""
    return f"cast({_BASE} + {_STEPS} * log2({_LEAST} + {seconds}) as integer)"


def with_logarithm(db: sqlite3.Connection) -> sqlite3.Connection:
    """A connection that knows `log2`, with which SQLite need not have been built."""
    try:
        db.execute("select log2(1.0)").fetchone()
    except sqlite3.OperationalError:
        db.create_function("log2", 1, lambda value: None if value is None else math.log2(value), deterministic=True)
    return db


@dataclass(slots=True)
class Lengths:
    """Lengths of time in seconds: by kind their number and sum; `worst` is the longest."""

    kinds: dict[int, tuple[int, float]] = field(default_factory=dict)
    worst: float | None = None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Self:
        """These."""
        made = cls()
        for one in seconds:
            made.add(int(_BASE + _STEPS * math.log2(_LEAST + one)), 1, one, one)
        return made

    @classmethod
    def together(cls, parts: Iterable[Lengths]) -> Self:
        """All of several."""
        made = cls()
        for part in parts:
            for kind, (number, total) in part.kinds.items():
                made.add(kind, number, total, part.worst)
        return made

    def add(self, kind: int, number: int, total: float, worst: float | None) -> None:
        """More, all of one kind."""
        before, sum_before = self.kinds.get(kind, (0, 0.0))
        self.kinds[kind] = before + number, sum_before + total
        if worst is not None and (self.worst is None or worst > self.worst):
            self.worst = worst

    @property
    def number(self) -> int:
        return sum(number for number, _ in self.kinds.values())

    @property
    def median(self) -> float | None:
        """Half of them took longer, half less; None where there are none."""
        last = self.number - 1
        return None if last < 0 else (self._at(last // 2) + self._at((last + 1) // 2)) / 2

    @property
    def p95(self) -> float | None:
        """What 95 of 100 took at most; None where there are none."""
        return None if not self.kinds else self._at(math.ceil(0.95 * self.number) - 1)

    def _at(self, place: int) -> float:
        """The length at a place in the order, from 0."""
        passed = 0
        for kind in sorted(self.kinds):
            number, total = self.kinds[kind]
            passed += number
            if place < passed:
                return total / number
        raise IndexError(place)
