"""One server for all test processes of a run: started by the first that asks, ended when the last one that uses it is gone.

A keeper process owns the server. Whoever uses it holds a shared lock on a file, which the system takes back even from a
process that is killed; the keeper waits for the exclusive one, and ends when it gets it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from examples.embedded_kafka import EmbeddedKafka
from examples.embedded_registry import EmbeddedRegistry
from examples.file_lock import exclusive

ROOT = Path(__file__).parents[1]
# Not a secret, but a word that tests can look for where no password may ever appear.
PASSWORD = "s3cret-of-the-kafka-tests"
_START = 100.0


@contextlib.contextmanager
def shared(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """What the keeper of the server `kind` (kafka or registry) says about it; the server stays for the length of the block.

    `folder` is the same for all processes of the run. Raises AssertionError with the keeper's log when it does not start.
    """
    with (folder / f"{kind}.users").open("ab") as users:
        with exclusive(folder / f"{kind}.start"):
            fcntl.flock(users, fcntl.LOCK_SH)
            answer = _running(kind, folder) or _start(kind, folder)
        yield answer


def _running(kind: str, folder: Path) -> dict[str, Any] | None:
    """What a keeper that lives says; None when there is none, or one that was killed."""
    said = folder / f"{kind}.json"
    with (folder / f"{kind}.keeper").open("ab") as keeper:
        try:
            fcntl.flock(keeper, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            answer: dict[str, Any] | None = json.loads(said.read_text()) if said.exists() else None
            return answer
    said.unlink(missing_ok=True)
    return None


def _start(kind: str, folder: Path) -> dict[str, Any]:
    log = folder / f"{kind}.log"
    with log.open("ab") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.shared_server", kind, str(folder)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START
    while (answer := _running(kind, folder) if (folder / f"{kind}.json").exists() else None) is None:
        if keeper.poll() is not None or time.monotonic() > deadline:
            keeper.kill()
            keeper.wait()
            raise AssertionError(f"the shared {kind} did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)
    # The keeper ends by itself, after this process may have: that it has not been waited for is no leak.
    keeper.returncode = 0
    return answer


def _keep(kind: str, folder: Path) -> None:
    """The keeper's whole life."""
    with contextlib.ExitStack() as stack:
        keeper = stack.enter_context((folder / f"{kind}.keeper").open("ab"))
        fcntl.flock(keeper, fcntl.LOCK_EX)
        users = stack.enter_context((folder / f"{kind}.users").open("ab"))
        said = folder / f"{kind}.json"
        said.unlink(missing_ok=True)
        _write(said, stack.enter_context(contextlib.closing(_Server(kind))).about)
        _wait_for_the_last(users)
        said.unlink(missing_ok=True)


class _Server:
    """A running server, and what its users need to know of it."""

    def __init__(self, kind: str) -> None:
        self._stack = contextlib.ExitStack()
        if kind == "kafka":
            # A busy machine makes every process late: only servers that are to be killed are given up after a second.
            broker = self._stack.enter_context(EmbeddedKafka(password=PASSWORD, settings={"broker.session.timeout.ms": 9000}))
            self.about: dict[str, Any] = {"pid": broker.pid, **vars(broker.listeners)}
        elif kind == "registry":
            registry = self._stack.enter_context(EmbeddedRegistry())
            self.about = {"pid": registry.pid, "url": registry.url}
        else:
            raise ValueError(kind)

    def close(self) -> None:
        """Ends the server."""
        self._stack.close()


def _write(path: Path, about: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(about))
    partial.rename(path)


def _wait_for_the_last(users: IO[bytes]) -> None:
    fcntl.flock(users, fcntl.LOCK_EX)


if __name__ == "__main__":
    os.umask(0o077)
    _keep(sys.argv[1], Path(sys.argv[2]))
