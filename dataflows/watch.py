"""The process `watch`: looks after the quality of a pipeline from beside it, a few things each in its own time.

It moves nothing, and nothing waits for it. It costs next to nothing while there is nothing to look at: what a tick needs it imports when
it is due.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import structlog

from dataflows.alerts.tick import alert_tick
from dataflows.audit_tick import AuditTick
from dataflows.beat import follow_supervisor, share
from dataflows.lean import forgo_pandas
from dataflows.observe import Health, HealthServer, WatchMetrics
from dataflows.sampling import Sampling
from dataflows.stopping import Stop
from journal.locks import ProcessLock
from journal.processes import WATCH
from journal.watching import Watching
from pipeline.errors import SluiceError
from pipeline.model import Pipeline

log = structlog.get_logger("sluice.watch")

_PATIENCE = 10.0  # seconds for a process whose supervisor was killed to let go of its lock
_GRACE = 2.0  # seconds that what is being done gets at the end
_NICENESS = 10


class Tick(Protocol):
    """Something that is done again and again. It is made in one thread, and then used in one thread of its own."""

    name: str
    period: float  # seconds between two times; a method may change it

    def tick(self, now: float) -> None:
        """Does it once; `now` in seconds since 1970. It may be given up at any instant, as by `kill -9`: what it keeps it keeps in
        transactions. Raises SluiceError where it cannot be done now."""

    def over(self, deadline: float) -> bool:
        """Asked at the end, after the last time: whether what it has begun on threads of its own ends by a time (time.monotonic())."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What ticks are made of. `stop` is set when the process is to end."""

    pipeline: Pipeline
    metrics: WatchMetrics
    stop: Stop


MakeTick = Callable[[Watched], Tick | None]
"""None where there is nothing to do."""

TICKS: Sequence[MakeTick] = (AuditTick, Sampling, alert_tick)
"""What makes each of the things that the process does; imports of theirs that take long belong into their first tick."""


class _Done:
    """One tick on its thread: its times, and what is told of it."""

    def __init__(self, tick: Tick, watched: Watched, told: Watching) -> None:
        self.tick = tick
        self.error: str | None = None
        self._metrics = watched.metrics
        self._stop = watched.stop
        self._told = told
        self._thread = threading.Thread(target=self._run, name=tick.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def over(self, deadline: float) -> bool:
        """Whether it has come to its end by a time (time.monotonic())."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive() and self.tick.over(deadline)

    def _run(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)  # of this thread alone, there
        self._tell("waiting")
        while not self._stop.wait(self.tick.period):
            self._once()

    def _once(self) -> None:
        began, now = time.monotonic(), time.time()
        self._tell("working")
        before, self.error = self.error, None
        try:
            self.tick.tick(now)
        except SluiceError as error:
            self.error = str(error)
            if before != self.error:
                log.warning("could not be done, trying again", tick=self.tick.name, error=error.message, hint=error.hint)
        except Exception as error:  # noqa: BLE001  (whatever it is, the others go on; what it says may hold values, which no log may)
            self.error = f"{type(error).__name__} in {_place(error)}"
            if before != self.error:
                log.error("failed, trying again", tick=self.tick.name, error=self.error)
        seconds = time.monotonic() - began
        self._metrics.ticks.labels(self.tick.name).observe(seconds)
        if self.error is not None:
            self._metrics.failed.labels(self.tick.name).inc()
        elif before is not None:
            log.info("can be done again", tick=self.tick.name)
        self._tell("waiting" if self.error is None else "failing", ran_at=time.time(), seconds=seconds)

    def _tell(self, state: str, *, ran_at: float | None = None, seconds: float | None = None) -> None:
        try:
            self._told.told(self.tick.name, state, self.error, ran_at=ran_at, seconds=seconds)
        except SluiceError as error:  # the state is for people
            log.warning("state could not be written", error=error.message, hint=error.hint)


def _place(error: BaseException) -> str:
    """Where an error was raised: the file and the line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def run_watch(pipeline: Pipeline) -> int:
    """Watches a pipeline until asked to stop. Returns the exit code; raises AlreadyRunningError."""
    stop = Stop()
    stop.on_signals()
    follow_supervisor(stop)
    forgo_pandas()
    with ExitStack() as held:
        held.enter_context(ProcessLock(pipeline.state, WATCH, f"watch of {pipeline.name}", _PATIENCE))
        watch(pipeline, stop, TICKS, held)
    return 0


def watch(pipeline: Pipeline, stop: Stop, ticks: Sequence[MakeTick], held: ExitStack) -> None:
    """Does each thing in its time, the first time after its period, until `stop`; one that fails is tried again and the others go on."""
    share(pipeline, WATCH, held)
    told = Watching.open(pipeline.state)
    held.callback(told.close)
    watched = Watched(pipeline, WatchMetrics(), stop)
    done = [_Done(tick, watched, told) for make in ticks if (tick := make(watched)) is not None]
    if WATCH in pipeline.monitoring:
        held.callback(HealthServer(*pipeline.monitoring[WATCH], watched.metrics.registry, lambda: _health(done)).close)
    log.info("watching", ticks=[one.tick.name for one in done], pid=os.getpid())
    for one in done:
        one.start()
    while not stop.wait(3600.0):
        pass
    deadline = time.monotonic() + _GRACE
    for one in done:
        if not one.over(deadline):
            log.info("given up, and done again at the next start", tick=one.tick.name)


def _health(done: Sequence[_Done]) -> Health:
    error = next((one.error for one in done if one.error is not None), None)
    return Health(live=True, ready=error is None, state="running" if error is None else "retrying", error=error)
