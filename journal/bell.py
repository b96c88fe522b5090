"""How ingest tells the deliver processes that there is something new: a FIFO for each, rung with one byte.

A ring can be missed (nobody listening, or full): it only saves waiting, whoever listens looks for himself from time to time.
FIFOs, not sockets: their paths may be as long as any.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import select
from pathlib import Path


def _path(folder: Path, listener: str) -> Path:
    return folder / f"bell-{hashlib.sha256(listener.encode()).hexdigest()[:16]}"


class Listener:
    """The end of a deliver process."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = _path(folder, name)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._path, 0o600)
        # open for both ways, so that it neither blocks now nor reports the end when ingest goes away
        self._pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, seconds: float) -> bool:
        """Waits for a ring; whether there was one."""
        rung, _, _ = select.select([self._pipe], [], [], seconds)
        if rung:
            with contextlib.suppress(BlockingIOError):
                os.read(self._pipe, 65536)
        return bool(rung)

    def close(self) -> None:
        """Leaves no FIFO behind, over which tools that copy the folder would stumble. Before another may listen under this name."""
        with contextlib.suppress(OSError):  # the folder may have become read-only, or be gone
            self._path.unlink()
        os.close(self._pipe)


class Ringer:
    """The end of ingest."""

    def __init__(self, folder: Path, listeners: list[str]) -> None:
        self._paths = [_path(folder, name) for name in listeners]
        self._pipes: dict[Path, int] = {}

    def ring(self) -> None:
        """Wakes everybody who listens. Never blocks."""
        for path in self._paths:
            pipe = self._pipes.get(path)
            try:
                if pipe is None:
                    pipe = self._pipes[path] = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.write(pipe, b"!")
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    continue  # rung often enough already
                if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EPIPE):
                    raise
                if pipe is not None:
                    os.close(pipe)
                    del self._pipes[path]

    def close(self) -> None:
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()
