"""Which sinks wait for a stream (a topic, a folder of files) to be read again for them."""

from __future__ import annotations

import threading
import time

_GRACE = 2.0  # seconds in which a request may still be told of whose copy has just become durable


class Copies:
    """Asked for by any thread, made by the reader's.

    Everything taken is confirmed in order, once for each segment, so that counting both tells when the end of a copy is durable.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[str, None] = {}
        self._ending: dict[str, int] = {}  # sink -> the segment with the copy's end, counted from 1
        self._done: dict[str, float] = {}
        self._making: str | None = None
        self._confirmed = 0

    def ask(self, sink: str) -> None:
        """Nothing more happens where a copy for the sink waits, is under way, or is not durable yet."""
        with self._lock:
            fresh = time.monotonic() - self._done.get(sink, -_GRACE) < _GRACE
            if sink != self._making and sink not in self._ending and not fresh:
                self._wanted[sink] = None

    def next(self) -> str | None:
        """The sink whose turn it is, to be made now."""
        with self._lock:
            self._making = next(iter(self._wanted), None)
            if self._making is not None:
                del self._wanted[self._making]
            return self._making

    def again(self, sink: str) -> None:
        """It could not be finished."""
        with self._lock:
            self._making = None
            self._wanted[sink] = None

    def ending(self, sink: str, place: int) -> None:
        """Its end is the segment with this number."""
        with self._lock:
            self._making = None
            self._ending[sink] = place

    def confirmed(self) -> None:
        """A segment is durable."""
        with self._lock:
            self._confirmed += 1
            for sink in [sink for sink, place in self._ending.items() if place <= self._confirmed]:
                del self._ending[sink]
                self._done[sink] = time.monotonic()
