"""A worker's flow as a part of a Bytewax cluster: it begins once all workers have met, and none outlives another.

Nothing goes from worker to worker. What ends one, however it dies, ends all of them within a moment; whoever keeps them starts them again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import structlog
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from dataflows.ending import Ending
from dataflows.stopping import Stop
from dataflows.worker import Worker
from pipeline.errors import TransientError

log = structlog.get_logger("sluice")

_EPOCH = timedelta(days=3650)  # all workers go from one epoch to the next together: one that writes for long would keep the others waiting
_TICK = 0.05
_LINGER = 3.0  # seconds that one which has drained waits for the others to do so, too


class Progress(Protocol):
    """How far a worker's flow is."""

    @property
    def begun(self) -> bool:
        """It has met the others."""

    @property
    def drained(self) -> bool:
        """It was asked to stop, and has nothing open any more."""

    @property
    def ending(self) -> Ending:
        """The error that ends it."""


def run_together(flow: Dataflow, state: Progress, worker: Worker, stop: Stop, leaving: Callable[[], None]) -> None:
    """Runs a flow in this thread to its end. Raises the error of ours that ended it, TransientError where another worker has ended.

    `leaving` is called, on another thread, before the process ends because the others do not.
    """
    threading.Thread(target=_leave, args=(state, stop, leaving), name="leaving", daemon=True).start()
    try:
        cli_main(  # type: ignore[no-untyped-call]
            flow, process_id=worker.number, addresses=list(worker.addresses), epoch_interval=_EPOCH
        )
    except BaseException as error:  # a panic of the engine's is no Exception
        state.ending.raised()
        raise TransientError(
            f"another worker has ended, so worker {worker.number} of {worker.of} does: {error}", hint="all of them begin again"
        ) from error
    state.ending.raised()


def _leave(state: Progress, stop: Stop, leaving: Callable[[], None]) -> None:
    """Ends the process that was asked to stop and would wait for other workers: to begin, or to end."""
    while not stop.wait(60.0):
        pass
    over = threading.Event()
    while state.begun and not state.drained:
        over.wait(_TICK)
    if state.begun:
        over.wait(_LINGER)
    leaving()
    os._exit(0)
