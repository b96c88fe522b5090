"""How a process is asked to stop: the first signal drains it, the second ends it at once, and so does the clock."""

from __future__ import annotations

import atexit
import os
import select
import signal
import threading
from types import FrameType

import structlog

log = structlog.get_logger("sluice")

_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_LONGEST = 9.0  # seconds that draining may take, whatever hangs
_LAST_WORDS = 0.5


def _deaf() -> None:
    """All is done: the interpreter gives up handlers before it ends, and a signal that came then would kill what has succeeded."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)


class Stop:
    """A flag that SIGTERM and SIGINT set. A flow that sees it takes nothing new, finishes what is open, commits, and ends."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._asked_before = False

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Waits; returns at once, and True, when the process is to stop."""
        return self._event.wait(seconds)

    def on_signals(self) -> None:
        """Only in the main thread. A process that does not drain in time is ended: what it had open comes again when it is started.

        A thread heeds the signals too, since the main thread hears of them only between two steps of Python: not while a target writes.
        """
        heard, told = os.pipe()
        os.set_blocking(told, False)
        before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        if before >= 0:
            os.close(before)  # of an earlier command in this process: its thread ends with it
        threading.Thread(target=self._heed, args=(heard,), name="signals", daemon=True).start()
        for number in _NUMBERS:
            signal.signal(number, self._asked)
        atexit.register(_deaf)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._asked_before:
            os._exit(128 + number)
        self._asked_before = True
        self._event.set()

    def _heed(self, heard: int) -> None:
        try:
            if _next(heard, None) is None:
                return
            self._event.set()
            second = _next(heard, _LONGEST)
            if second is None:
                signal.setitimer(signal.ITIMER_REAL, _LAST_WORDS)  # should even the log hang
                log.error("did not drain in time: what is open is given up, and comes again", seconds=_LONGEST)
            os._exit(128 + (second or signal.SIGTERM))
        finally:
            os.close(heard)


def _next(heard: int, patience: float | None) -> int | None:
    """The next signal that asks to stop; None after `patience` seconds, or when nobody tells of them any more."""
    while select.select([heard], [], [], patience)[0]:
        told = os.read(heard, 1)
        if not told:
            return None
        if told[0] in _NUMBERS:
            return told[0]
    return None
