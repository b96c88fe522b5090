"""How a process is asked to stop: the first signal drains it, the second ends it at once."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from types import FrameType

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


def _deaf() -> None:
    """All is done: the interpreter gives up handlers before it ends, and a signal that came then would kill what has succeeded."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)


class Stop:
    """A flag that SIGTERM and SIGINT set. A flow that sees it takes nothing new, finishes what is open, commits, and ends."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Waits; returns at once, and True, when the process is to stop."""
        return self._event.wait(seconds)

    def on_signals(self) -> None:
        """Only in the main thread."""
        for number in _NUMBERS:
            signal.signal(number, self._asked)
        atexit.register(_deaf)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._event.is_set():
            os._exit(128 + number)
        self._event.set()
