"""Waiting for a condition with a deadline, in place of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_SHORTEST = 0.005
_LONGEST = 0.1


def wait_for(condition: Callable[[], T], timeout: float = 60.0, message: str | Callable[[], str] = "the condition") -> T:
    """Calls `condition` until its answer is true, and returns that answer.

    Raises AssertionError naming `message` (worked out only then, if callable) and the last answer after `timeout` seconds.
    An exception from `condition` is not swallowed.
    """
    deadline = time.monotonic() + timeout
    pause = _SHORTEST
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            said = message() if callable(message) else message
            raise AssertionError(f"still waiting after {timeout:g} s for {said}; the last answer was {answer!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST)
