"""What has been read and not been taken yet, bounded in bytes and in number."""

from __future__ import annotations

import threading
from collections import deque

from journal.batch import Segment

_MOST = 3
"""Segments that wait. Few: while nothing is taken, what comes gathers where it comes from, and the next segment is a larger one."""


class Outlet:
    """Between the thread that reads and the one that takes."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes; a single segment may be larger."""
        self._limit = limit
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Segment, int]] = deque()
        self._bytes = 0
        self._failure: BaseException | None = None
        self._closed = False
        self.count = 0  # segments that were ever put

    def put(self, segment: Segment, size: int) -> None:
        """Waits until there is room; nothing happens once it is closed."""
        with self._changed:
            self._changed.wait_for(self._has_room)
            if not self._closed:
                self._waiting.append((segment, size))
                self._bytes += size
                self.count += 1
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._closed or not self._waiting or (len(self._waiting) < _MOST and self._bytes < self._limit)

    def fail(self, error: BaseException) -> None:
        """Behind what waits, whoever takes gets this; the first one counts."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def take(self, timeout: float) -> Segment | None:
        """The oldest, or None after `timeout` seconds."""
        with self._changed:
            if not self._waiting and self._failure is None and timeout > 0:
                self._changed.wait_for(lambda: self._waiting or self._failure is not None, timeout)
            if self._waiting:
                segment, size = self._waiting.popleft()
                self._bytes -= size
                self._changed.notify_all()
                return segment
            if self._failure is not None:
                raise self._failure
            return None

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
