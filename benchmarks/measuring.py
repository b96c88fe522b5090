"""Processes measured from outside: wall time, CPU time and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parent.parent


@dataclass
class Process:
    """A command that runs, and what it has used."""

    popen: subprocess.Popen[bytes]
    cpu_at_start: float = 0.0

    def cpu(self) -> float:
        """Seconds of CPU, user and system, of all its threads."""
        return cpu_of(self.popen.pid)

    def peak_mb(self) -> float:
        """The largest resident size so far."""
        return peak_of(self.popen.pid)

    def stop(self) -> None:
        self.popen.terminate()
        self.popen.wait(30)


def peak_of(pid: int) -> float:
    """Megabytes, the largest resident size of a process so far."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_of(pid: int) -> float:
    """Seconds of CPU, user and system, of a process. Raises FileNotFoundError or ProcessLookupError when it is gone."""
    words = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICK


def sluice(*arguments: str) -> Process:
    """Starts a command of the program."""
    return Process(subprocess.Popen([sys.executable, "-m", "cli", *arguments], cwd=ROOT, stderr=subprocess.DEVNULL))


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts a command, its output thrown away."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(*arguments: str) -> None:
    """Runs a command of the program to its end."""
    subprocess.run([sys.executable, "-m", "cli", *arguments], cwd=ROOT, check=True, capture_output=True)


def wait(condition: Callable[[], bool], timeout: float = 300.0, pause: float = 0.005) -> float:
    """Polls; returns time.perf_counter() when the condition holds."""
    deadline = time.perf_counter() + timeout
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError
        time.sleep(pause)
    return time.perf_counter()


def run_seconds(command: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command, its output thrown away."""
    began, cpu = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = os.times()
    return time.perf_counter() - began, done.children_user + done.children_system - cpu.children_user - cpu.children_system
