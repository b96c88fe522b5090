"""What copies hand to the stream's taker, in order, bounded in bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from journal.batch import Entry

Made = Callable[[], Sequence[Entry]]


@dataclass(frozen=True, slots=True, eq=False)
class Handout:
    """Entries that are ready, or made when they are taken (markers, which depend on what the stream has handed out by then)."""

    entries: Sequence[Entry] | Made
    nbytes: int
    read: float

    def open(self) -> Sequence[Entry]:
        """Once, in the taker's thread."""
        return self.entries() if callable(self.entries) else self.entries


class Handouts:
    """A queue between a copying thread and the taker. Whoever puts waits while more than `limit` bytes are in it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[Handout] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, entries: Sequence[Entry] | Made, nbytes: int = 0) -> bool:
        """Waits for room. False: closed, and nothing was put."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._bytes == 0 or self._bytes + nbytes <= self._limit)
            if self._closed:
                return False
            self._queue.append(Handout(entries, nbytes, time.monotonic()))
            self._bytes += nbytes
            self._changed.notify_all()
            return True

    def take(self) -> Handout | None:
        """The oldest, if there is one. Never waits."""
        with self._changed:
            if not self._queue:
                return None
            handout = self._queue.popleft()
            self._bytes -= handout.nbytes
            self._changed.notify_all()
            return handout

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        with self._changed:
            return bool(self._queue)

    def wait(self, timeout: float) -> None:
        """Waits until there is something to take, or `wake` is called."""
        with self._changed:
            if not self._queue and not self._closed:
                self._changed.wait(timeout)

    def pause(self, timeout: float) -> None:
        """Waits, whatever there is to take, unless it is closed; `put` and `wake` may cut it short."""
        with self._changed:
            if timeout > 0.0 and not self._closed:
                self._changed.wait(timeout)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more is put; whoever waits goes on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
