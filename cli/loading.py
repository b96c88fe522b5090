"""How a process comes and goes quickly: most of its life, for a short command, is loading code and taking it apart again."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def loading() -> Iterator[None]:
    """For imports: what they make stays, and looking for garbage in it meanwhile would take a fifth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def leave(code: int) -> NoReturn:
    """Ends the process with everything that is to be done at its end, but leaves its memory to the system as it is.

    The interpreter would take it apart object by object, for as long as a quarter of a second.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120  # as the interpreter says it when nobody reads any more
    os._exit(code)
