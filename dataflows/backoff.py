"""How long to wait before trying again: longer each time, never in step with others."""

from __future__ import annotations

import random


class Backoff:
    """Full jitter between half and the whole of a delay that doubles from `first` to `most`, in seconds."""

    def __init__(self, first: float = 0.1, most: float = 5.0) -> None:
        self._first = first
        self._most = most
        self._tries = 0

    def next(self) -> float:
        delay: float = min(self._most, self._first * 2 ** min(self._tries, 20))
        self._tries += 1
        return delay * random.uniform(0.5, 1.0)  # noqa: S311

    def reset(self) -> None:
        self._tries = 0
