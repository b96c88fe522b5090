"""Waits until every sink holds what the journal has up to an entry, and runs the sinks' processes meanwhile where none does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing

from dataflows.supervise import Supervisor
from journal.opening import catch_up, open_reader
from journal.processes import Processes, delivering
from journal.state import State
from pipeline.model import Pipeline

_LOOK = 0.1


def wait_until_delivered(pipeline: Pipeline, seq: int, timeout: float, arguments: Sequence[str]) -> list[str]:
    """The sinks that do not hold entry `seq` in time, in seconds. `arguments` are those of `sluice run`, for processes that are started."""
    deadline = time.monotonic() + timeout
    with ExitStack() as held:
        state = held.enter_context(closing(State.open(pipeline.state)))
        with open_reader(pipeline) as reader:
            journal = reader.id
        lacking = _lacking(pipeline, state, journal, seq)
        processes = Processes(pipeline, state)
        idle = [name for name in lacking if not processes.alive(delivering(name))]
        supervisor = Supervisor([f"deliver:{name}" for name in idle], arguments) if idle else None
        if supervisor is not None:
            held.callback(supervisor.stop, in_order=False)
            supervisor.start()
        while (lacking := _lacking(pipeline, state, journal, seq)) and time.monotonic() < deadline:
            if supervisor is not None:
                supervisor.tend()
                if all(child.ended is not None for child in supervisor.children) and set(lacking) <= set(idle):
                    break
            time.sleep(_LOOK)
            catch_up(pipeline)
        return lacking


def _lacking(pipeline: Pipeline, state: State, journal: str, seq: int) -> list[str]:
    known = state.sinks()
    return [name for name in pipeline.sinks if name not in known or known[name].journal != journal or known[name].seq < seq]
