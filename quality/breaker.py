"""The breaker of a contract: when too many of the last rows are held back, something else is wrong than those rows."""

from __future__ import annotations

from collections import deque

from quality.contract import Breaker


class BreakerState:
    """Counts the rows of the last batches, as many as make up the window, and how many of them broke a rule that holds back."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._batches: deque[tuple[int, int]] = deque()
        self._rows = 0
        self._bad = 0

    @property
    def action(self) -> str:
        """`pause` or `warn`."""
        return self._breaker.action

    def count(self, rows: int, bad: int) -> str | None:
        """Takes one more batch into account. Says why the breaker has tripped, or None if it has not."""
        self._batches.append((rows, bad))
        self._rows += rows
        self._bad += bad
        while self._rows - self._batches[0][0] >= self._breaker.window:
            old_rows, old_bad = self._batches.popleft()
            self._rows -= old_rows
            self._bad -= old_bad
        if self._bad <= self._breaker.share * max(self._rows, self._breaker.window):
            return None
        limit = f"the contract's breaker allows {self._breaker.share:.4g} of {self._breaker.window}"
        return f"{self._bad} of the last {self._rows} rows break rules that hold them back; {limit}"
