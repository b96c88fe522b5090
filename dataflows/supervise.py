"""One command that runs a whole pipeline: a process for ingest and one for each sink, restarted when they die, stopped in order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from dataflows.backoff import Backoff

log = structlog.get_logger("sluice.run")

SUPERVISED = "SLUICE_SUPERVISED"
"""In the environment of a child: the pid of its supervisor, without which it ends."""

_LIVED = 30.0  # seconds after which a process that dies is restarted at once
_GRACE = 7.5  # seconds that all processes together get to drain
_INGEST_GRACE = 3.5  # seconds after which the sinks no longer wait for ingest
FOR_GOOD = (1, 2)
"""Exit codes that say that starting again changes nothing."""


@dataclass
class Child:
    """One process: `ingest`, `deliver:SINK` or `watch`. `ended` is its exit code once it will not be started again."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    ended: int | None = None
    restarts: int = 0
    not_before: float = 0.0
    started: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.2, most=10.0))

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


def _path() -> str:
    """PYTHONPATH of a child: these packages come first, and never those of the folder it is started in, which may have a `pipeline` too."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def command(arguments: Sequence[str]) -> list[str]:
    """What runs `sluice` with these arguments."""
    return [sys.executable, "-P", "-m", "cli", *arguments]


def begin(child: Child) -> None:
    """Starts a child, in a session of its own: a Ctrl-C in the terminal reaches the supervisor only, which stops its children in order."""
    environment = {**os.environ, SUPERVISED: str(os.getpid()), "PYTHONPATH": _path()}
    child.process = subprocess.Popen(child.command, start_new_session=True, env=environment)
    child.started = time.monotonic()


class Supervisor:
    """Starts children, looks after them with `tend`, and stops them.

    A child that was killed, or ended though nobody asked it to, is started again, with a growing delay while it keeps dying. One that
    ends with the exit code of an error which somebody has to mend stays down; its neighbours go on.
    """

    def __init__(self, names: Sequence[str], arguments: Sequence[str], late: Mapping[str, float] | None = None) -> None:
        """`arguments` are those of `sluice run`, to which each child's `--only` is added. Those in `late` are started by `tend`, so many
        seconds after the others."""
        self.children = [Child(name, command([*arguments, "--only", name])) for name in names]
        self._late = late or {}

    def start(self) -> None:
        for child in self.children:
            if child.name in self._late:
                child.not_before = time.monotonic() + self._late[child.name]
            else:
                begin(child)

    def tend(self) -> None:
        """Restarts what has died. Call it some times a second."""
        now = time.monotonic()
        for child in self.children:
            if child.ended is not None or child.alive:
                continue
            if child.process is not None:
                self._bury(child, child.process.returncode, now)
            elif now >= child.not_before:
                child.restarts += bool(child.started)
                begin(child)

    def _bury(self, child: Child, code: int, now: float) -> None:
        child.process = None
        if code == 0 or code in FOR_GOOD:
            child.ended = code
            return
        if now - child.started > _LIVED:
            child.backoff.reset()
        delay = child.backoff.next()
        child.not_before = now + delay
        log.warning("process died, starting it again", process=child.name, code=code, seconds=round(delay, 1))

    def stop(self, *, in_order: bool = True) -> None:
        """Ingest first, then the sinks, which take what it has still written; SIGKILL for what does not end in time.

        Unless `in_order`, all at once: where the sinks have what they were to get.
        """
        ingest, *sinks = self.children
        began = time.monotonic()
        _terminate(ingest)
        if in_order:
            _ended(ingest, began + _INGEST_GRACE)
        for child in sinks:
            _terminate(child)
        for child in self.children:
            if not _ended(child, began + _GRACE) and child.process is not None:
                log.error("process did not drain in time, killing it", process=child.name)
                child.process.kill()
                child.process.wait()
        for child in self.children:
            if child.ended is None and child.process is not None:
                child.ended = child.process.returncode


def _terminate(child: Child) -> None:
    if child.alive and child.process is not None:
        child.process.terminate()


def _ended(child: Child, deadline: float) -> bool:
    """Whether a process ends until a moment (time.monotonic())."""
    if child.process is not None:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
    return True
