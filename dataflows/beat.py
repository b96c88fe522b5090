"""What every process of a pipeline does beside its work: it tells how it does, and heeds its supervisor's end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack

import structlog

from dataflows.stopping import Stop
from dataflows.supervise import SUPERVISED
from pipeline.errors import SluiceError
from pipeline.model import Pipeline

log = structlog.get_logger("sluice")


class Beat:
    """Tells the state, some times a second and on a thread of its own, how a process does."""

    def __init__(self, tell: Callable[[], None], every: float = 0.2) -> None:
        self._tell = tell
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            try:
                self._tell()
            except SluiceError as error:  # the state is for people; the stream goes on without it
                log.warning("state could not be written", error=error.message, hint=error.hint)
                self._over.wait(5.0)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._tell()


def share(pipeline: Pipeline, process: str, held: ExitStack) -> None:
    """Where the journal is in topics, tells other machines what is written into the state here, and takes what they tell.

    `process` is the lock of the process.
    """
    if pipeline.journal.kafka is not None:
        from journal.exchange import Exchange

        held.callback(Exchange(pipeline.state, pipeline.name, pipeline.journal.kafka, process).close)


def follow_supervisor(stop: Stop) -> None:
    """Drains when the supervisor, if there is one, has died: whoever starts it again starts other processes."""
    supervisor = os.environ.get(SUPERVISED)
    if supervisor is not None and supervisor.isdigit():
        threading.Thread(target=_follow, args=(stop, int(supervisor)), name="supervisor", daemon=True).start()


def _follow(stop: Stop, supervisor: int) -> None:
    while os.getppid() == supervisor and not stop.wait(0.5):
        pass
    stop.set()
