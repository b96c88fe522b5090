"""Processes of `sluice` that are forked from one which has loaded the libraries: they begin at once, others load for most of a second.

They are processes like any other: a child of whoever starts them, with its own arguments (in /proc as well), environment, folder, session
and standard streams, to be waited for, terminated and killed. What begins in the ordinary way is tested elsewhere: in test_cli.py,
test_packaging.py and test_third_marketplace.py.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ROOM = 4_096  # bytes for the arguments of a process, as others see them
LENGTH = struct.Struct("!I")

_libc = ctypes.CDLL(None, use_errno=True)
_SET_CHILD_SUBREAPER = 36  # of prctl(2)
_Popen = subprocess.Popen  # as it is without what is below, which takes its place while a command runs in a test's process


class Nursery:
    """The process that forks others for this one, over a connection to it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._one_at_a_time = threading.Lock()

    @classmethod
    def open(cls) -> Nursery:
        """Starts one, which ends with this process."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.nursery_process", str(theirs.fileno()), "." * ROOM]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # a process of many threads cannot be forked
        with theirs:
            process = _Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        process.returncode = 0  # it ends when this process does, which therefore cannot wait for it
        return cls(ours)

    def bear(self, words: Sequence[str], environment: Mapping[str, str], folder: str, session: bool, streams: Sequence[int]) -> int:
        """Starts `python -m WORDS` as a child of this process, with three file descriptors as its standard streams. Returns its pid."""
        order = {"words": [*words], "environment": {**environment}, "folder": folder, "session": session}
        message = json.dumps(order).encode()
        with self._one_at_a_time:
            # The fork's parent ends at once, and its child becomes that of the nearest process which says that it wants such orphans.
            _libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._connection, [LENGTH.pack(len(message))], streams)
                self._connection.sendall(message)
                answer = self._connection.recv(LENGTH.size, socket.MSG_WAITALL)
            finally:
                _libc.prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        assert len(answer) == LENGTH.size, "the process that forks others has died"
        return int(LENGTH.unpack(answer)[0])


_own: Nursery | None = None
_first = threading.Lock()


def nursery() -> Nursery:
    """The one of this process."""
    global _own
    with _first:
        if _own is None:
            _own = Nursery.open()
        return _own


def adopt(connection: socket.socket) -> None:
    """Makes what is at the other end of a connection the one of this process."""
    global _own
    _own = Nursery(connection)


class Born(subprocess.Popen[Any]):
    """A process that comes from the nursery if it runs a module of this house, and is started as ever if not."""

    def _execute_child(self, *given: Any) -> None:
        # CPython's own seam: all that Popen does around it, and afterwards with the pid, stays as it is.
        command, preexec, folder, environment, streams, session = given[0], given[2], given[5], given[6], given[10:16], given[20]
        words = _words(command)
        if words is None or preexec is not None:
            super()._execute_child(*given)  # type: ignore[misc]
            return
        theirs = [mine if given_one == -1 else given_one for mine, given_one in enumerate((streams[0], streams[3], streams[5]))]
        try:
            self.pid = nursery().bear(words, environment or os.environ, os.fspath(folder or Path.cwd()), bool(session), theirs)
            self._child_created = True
        finally:
            self._close_pipe_fds(*streams)  # type: ignore[attr-defined]


def _words(command: Any) -> list[str] | None:
    """The module and its arguments if a command runs one of this house; None when it is another one."""
    match [str(word) for word in command] if isinstance(command, list | tuple) else []:
        case [sys.executable, "-m", *words] | [sys.executable, "-P", "-m", *words] if words and words[0].partition(".")[0] in (
            "cli",
            "tests",
        ):
            return words
    return None
