"""One process at a time: advisory locks in the state folder, which the kernel lets go of when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from pipeline.errors import AlreadyRunningError, TerminalError


class ProcessLock:
    """Holds `folder/NAME.lock` until closed. Raises AlreadyRunningError, with the pid of the holder, when it isn't free in time.

    `patience` is how long to wait, in seconds, for a holder that is about to end (the child of a supervisor that was killed).
    """

    _LEAST = 0.2  # seconds: whoever asks `is_held` has the lock for an instant

    def __init__(self, folder: Path, name: str, what: str, patience: float = 0.0) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise TerminalError(
                f"the state folder {folder} cannot be written: {error.strerror}", hint="make it writable, or name another with `state:`"
            ) from error
        deadline = time.monotonic() + max(patience, self._LEAST)
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = _told(self._file)[0]
                    os.close(self._file)
                    raise AlreadyRunningError(
                        f"{what} is already running (pid {holder})", hint="stop it first, or wait until it has ended"
                    ) from None
                time.sleep(0.01)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()} {time.time()}\n".encode("ascii"), 0)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> ProcessLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@contextmanager
def wanting(folder: Path, name: str) -> Iterator[None]:
    """Says, while a lock is waited for, that whoever holds it only for a while may let go of it; any number of processes may."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / f"{name}.wanted", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:  # which the lock itself tells
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
    finally:
        os.close(file)


def is_wanted(folder: Path, name: str) -> bool:
    """Whether a process that is alive waits for a lock."""
    try:
        file = os.open(folder / f"{name}.wanted", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def is_held(folder: Path, name: str) -> bool:
    """Whether a process that is alive holds the lock."""
    return held_since(folder, name) is not None


def held_since(folder: Path, name: str) -> float | None:
    """When a process that is alive took the lock, in seconds since 1970; None where no process holds it."""
    try:
        file = os.open(folder / f"{name}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask at once are no holders to each other
    except BlockingIOError:
        return _told(file)[1]
    finally:
        os.close(file)
    return None


def held_locks(folder: Path) -> dict[str, float]:
    """Every lock that a process which is alive holds, with the time at which it took it."""
    found = {path.stem: held_since(folder, path.stem) for path in folder.glob("*.lock")}
    return {name: since for name, since in found.items() if since is not None}


def _told(file: int) -> tuple[str, float]:
    """The holder's pid, and when it took the lock: the file's own date lags behind the clock."""
    pid, _, since = os.pread(file, 64, 0).decode("ascii", "replace").partition(" ")
    try:
        return pid, float(since)
    except ValueError:  # taken this instant, or by a release that told the pid alone
        return pid.strip() or "unknown", os.fstat(file).st_mtime
