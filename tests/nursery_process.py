"""A process that loads all of `sluice` and forks others, for nursery.py. `python -m tests.nursery_process DESCRIPTOR PADDING`."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataflows.lean import forgo_pandas
from tests import nursery
from tests.nursery import LENGTH

_LOADED = (
    "cli.main",
    "cli.progress",
    "dataflows.process",
    "dataflows.ingest_process",
    "dataflows.reader_process",
    "dataflows.service",
    "dataflows.watch",
    "dataflows.workers",
    "sinks.duckdb",
    "sinks.kafka",
    "sinks.postgres",
    "sources.files.source",
    "sources.kafka.source",
    "sources.postgres.source",
    "sources.query.source",
)


def serve(connection: socket.socket) -> dict[str, Any]:
    """Forks a process for each order that comes, and returns, in that process, with its order. Ends when nobody can order any more."""
    while True:
        head, streams, _, _ = socket.recv_fds(connection, LENGTH.size, 3, socket.MSG_WAITALL)
        if len(head) < LENGTH.size:
            os._exit(0)
        message = connection.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            between = os.getpid()
            own = os.fork()
            if own:
                os.write(writing, LENGTH.pack(own))
                os._exit(0)
            os.close(reading)
            os.close(writing)
            while os.getppid() == between:  # it ends this instant, and whoever ordered becomes the parent
                os.sched_yield()
            return _begin(json.loads(message), streams, connection)
        os.waitpid(between, 0)
        connection.sendall(os.read(reading, LENGTH.size))
        for descriptor in (reading, writing, *streams):
            os.close(descriptor)


def _begin(order: dict[str, Any], streams: Sequence[int], connection: socket.socket) -> dict[str, Any]:
    """Gives a process that was forked everything that it would have, had it been started. Returns the order that it is to follow."""
    if _starts_others(order["words"]):
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            os.setsid()
            for descriptor in streams:
                os.close(descriptor)
            connection.close()
            ours.close()
            return serve(theirs)
        theirs.close()
        nursery.adopt(ours)
        subprocess.Popen = nursery.Born  # type: ignore[misc]
    connection.close()
    if order["session"]:
        os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(order["environment"])
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [folder for folder in own if folder and folder not in sys.path]
    time.tzset()
    os.chdir(order["folder"])
    _be_seen_as([sys.executable, "-m", *order["words"]])
    return order


def _starts_others(words: Sequence[str]) -> bool:
    return (words[0] == "cli" and "--only" not in words) or "--workers" in words


def _be_seen_as(command: Sequence[str]) -> None:
    """Writes a command over that of this process: it is what /proc/PID/cmdline shows."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc_pid_stat(5)
    shown = b"".join(word.encode() + b"\0" for word in command)
    assert len(shown) <= end - begin, f"there are {end - begin} bytes for a command of {len(shown)}"
    ctypes.memmove(begin, shown.ljust(end - begin, b"\0"), end - begin)


def main() -> None:
    """Loads, and serves."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # its other threads were libraries' pools
    forgo_pandas()
    gc.disable()
    for module in _LOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is loaded stays shared between all that are forked: nobody looks for garbage in it
    gc.enable()
    order = serve(connection)
    module, *arguments = order["words"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
