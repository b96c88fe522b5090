"""How many records are worked on in one piece: as many as fit into a short time, beside a stream that has to go on."""

from __future__ import annotations

BESIDE, ALONE = 0.04, 0.5
"""Seconds that a piece may take, about: beside a stream that has to go on, and where there is none."""

_FEWEST, _MOST = 200, 20_000


class Pace:
    """The size of the next piece, by what the pieces before it took. For one kind of work."""

    def __init__(self, seconds: float) -> None:
        """`seconds` that a piece may take."""
        self.size = _FEWEST
        self._seconds = seconds

    def took(self, records: int, seconds: float) -> None:
        """A piece of so many took so long."""
        if records >= self.size:  # what is left at the end tells little
            fitting = int(records * self._seconds / max(seconds, 1e-4))
            self.size = max(_FEWEST, min(_MOST, (self.size + fitting) // 2))
