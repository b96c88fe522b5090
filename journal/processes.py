"""Which processes of a pipeline live: those of this state folder by their locks, those of other machines by what was told last."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from journal.locks import held_locks, held_since
from journal.state import Folder, State
from pipeline.model import Pipeline

RUN = "run"
INGEST = "ingest"
WATCH = "watch"
_DELIVER = "deliver-"

HEARD = 10.0
"""Seconds for which a process of another machine counts as alive after it was told to be: five times as long as it takes to tell it again.
The machines' clocks have to agree better than that."""


def delivering(sink: str) -> str:
    """The lock of a sink's process."""
    return f"{_DELIVER}{sink}"


def running_in(folder: Path) -> Mapping[str, float]:
    """The locks of a pipeline's processes that are held in a folder, with the time since when."""
    return {name: since for name, since in held_locks(folder).items() if name in (RUN, INGEST, WATCH) or name.startswith(_DELIVER)}


class Processes:
    """Those of one pipeline, as of now; without those of other machines where its journal is local."""

    def __init__(self, pipeline: Pipeline, state: State) -> None:
        self._folder = pipeline.state
        self._others = state.elsewhere if pipeline.journal.kafka is not None else list[Folder]

    def _elsewhere(self, lock: str) -> Iterator[tuple[str, float]]:
        for other in self._others():
            if lock in other.running and time.time() - other.updated_at < HEARD:
                yield other.machine, other.running[lock]

    def _held(self, lock: str) -> Iterator[tuple[str, float]]:
        here = held_since(self._folder, lock)
        if here is not None:
            yield socket.gethostname(), here
        yield from self._elsewhere(lock)

    def since(self, lock: str) -> float | None:
        """When the process that holds a lock took it, the last one where there are several; None where none lives."""
        return max((since for _, since in self._held(lock)), default=None)

    def alive(self, lock: str) -> bool:
        """Whether a process that lives holds a lock."""
        return self.since(lock) is not None

    def foremost(self, lock: str) -> bool:
        """Whether no process of another folder has held a lock for longer than the one of this folder."""
        others = [since for _, since in self._elsewhere(lock)]
        here = held_since(self._folder, lock)
        return not others or (here is not None and here <= min(others))

    def machines(self, lock: str) -> list[str]:
        """Where the processes live that hold a lock."""
        return sorted({machine for machine, _ in self._held(lock)})

    def elsewhere(self, lock: str) -> list[str]:
        """The same for processes of other folders alone."""
        return sorted({machine for machine, _ in self._elsewhere(lock)})
