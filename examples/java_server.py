"""A server in a Java process of its own: started on free ports, stopped, killed, paused, and gone when its owner is gone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from examples.file_lock import exclusive
from examples.free_ports import free_port
from examples.kafka_artifacts import EmbeddedKafkaError, find_java

__all__ = ["JavaServer"]

_PORT_IN_USE = re.compile("address already in use|already bound", re.IGNORECASE)
# Ends the server, and deletes its temporary folder, when the other end of its standard input is closed: that is, when the
# owner ends in whatever way. PR_SET_PDEATHSIG would do it when the thread that started the server ends, and on Linux alone.
_WATCH = """
read -r _
kill -9 "$1"
tries=0
while kill -0 "$1" && [ "$tries" -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
[ -z "$2" ] || rm -rf -- "$2"
"""


class JavaServer(ABC):
    """One server below a folder of its own, on free ports of 127.0.0.1 that stay the same for the life of this object.

    As a context manager it starts on entry; on exit it ends and deletes what it made. When its owner ends without that,
    be it by SIGKILL, the server ends too and its temporary folder goes. With `directory`, it lives there and what an earlier
    one left there is used again; otherwise in a temporary folder, made below `temporary` (default: the system's).
    """

    title: ClassVar[str]

    def __init__(
        self,
        artifacts: Path,
        *,
        directory: Path | None,
        temporary: Path | None,
        prefix: str,
        java_options: Sequence[str],
        port_count: int = 1,
    ) -> None:
        self._artifacts = artifacts
        self._java = find_java()
        self._java_options = list(java_options)
        self._is_temporary = directory is None
        if directory is None:
            self.home = Path(tempfile.mkdtemp(prefix=prefix, dir=temporary))
        else:
            directory.mkdir(parents=True, exist_ok=True)
            self.home = directory.resolve()
        self.log = self.home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._ports: tuple[int, ...] = ()
        self._port_count = port_count
        self._started_before = False

    @property
    def pid(self) -> int | None:
        """The server's process id, or None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def ports(self) -> tuple[int, ...]:
        """The TCP ports on 127.0.0.1. Raises EmbeddedKafkaError before the first start."""
        if not self._ports:
            raise EmbeddedKafkaError(f"{self.title} has no port before its first start")
        return self._ports

    def start(self, timeout: float = 90.0) -> Self:
        """Starts the server, made first if it does not exist, and returns once it answers.

        Raises EmbeddedKafkaError with the end of its log when it ends instead, or takes longer than `timeout` seconds.
        """
        if self.pid is not None:
            return self
        deadline = time.monotonic() + timeout
        while not self._launch(deadline):
            if time.monotonic() > deadline:
                raise EmbeddedKafkaError(f"{self.title} did not start within {timeout:.0f} s:\n{self._said_since(0)[-4000:]}")
        self._started_before = True
        return self

    def stop(self, timeout: float = 30.0) -> None:
        """Shuts the server down in order; does nothing when it is not running.

        Raises EmbeddedKafkaError when it is still there after `timeout` seconds.
        """
        if self._process is None or self.pid is None:
            self._dismiss_watch()
            return
        self._process.terminate()
        self.resume()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedKafkaError(f"{self.title} (pid {self._process.pid}) did not stop within {timeout:.0f} s") from error
        self._dismiss_watch()

    def kill(self) -> None:
        """Ends the server with SIGKILL, as a crash would; the next start recovers."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._dismiss_watch()

    def pause(self) -> None:
        """Stops the process with SIGSTOP, and returns when all its threads stand still: connections stay open and nothing answers."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)
            _, status = os.waitpid(self._process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                self._process.returncode = os.waitstatus_to_exitcode(status)

    def resume(self) -> None:
        """Lets a paused process go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Shuts down and starts again with the same ports and data."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Ends the server and deletes its folder."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    def archive_classes(self) -> Path:
        """Prepares what halves the time to start, an archive of the classes that such a server loads, and returns its path.

        For a server that has not started yet, which starts and stops for it: about ten seconds, once for each version of
        Java. Servers find the archive by themselves, and start without where there is none.
        """
        with exclusive(self._archive.with_suffix(".lock")):
            if self._archive.exists():
                return self._archive
            partial = self._archive.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            self._java_options.append(f"-XX:ArchiveClassesAtExit={partial}")
            self.start()
            self.stop(timeout=300.0)
            if not partial.exists():
                raise EmbeddedKafkaError(f"Java {self._java.version} made no archive for {self.title}:\n{self._said_since(0)[-2000:]}")
            partial.rename(self._archive)
            return self._archive

    @property
    def _archive(self) -> Path:
        return self._artifacts / f"classes-{self._java.version}.jsa"

    @abstractmethod
    def _command(self, ports: Sequence[int]) -> list[str]:
        """Everything behind `java` and its options; writes what files the server reads."""

    @abstractmethod
    def _answers(self, ports: Sequence[int]) -> bool:
        """Whether the server serves its clients by now; waits for its answer a second at most."""

    def _served(self, ports: Sequence[int]) -> None:
        """What is to be done whenever the server has started, before `start` returns."""
        del ports  # nothing, for most

    def _launch(self, deadline: float) -> bool:
        """Starts the process and waits until it answers; False when it is worth another try."""
        ports = self._ports or tuple(free_port() for _ in range(self._port_count))
        command = [str(self._java.program), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *self._java_options]
        if self._archive.exists():
            command.append(f"-XX:SharedArchiveFile={self._archive}")
        command += self._command(ports)
        said_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in a terminal is for the caller, who stops the server when its clients are done.
            self._process = subprocess.Popen(
                command, cwd=self.home, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._watch_over(self._process.pid)
        while self._process.poll() is None:
            if self._answers(ports):
                self._ports = ports
                self._served(ports)
                return True
            if time.monotonic() > deadline:
                self.kill()
                return False
            time.sleep(0.02)
        self._dismiss_watch()
        said = self._said_since(said_before)
        if _PORT_IN_USE.search(said):
            if self._started_before:
                time.sleep(0.1)
            return False
        raise EmbeddedKafkaError(f"{self.title} ended with code {self._process.returncode} as it started:\n{said[-4000:]}")

    def _watch_over(self, pid: int) -> None:
        self._dismiss_watch()
        # A session of its own here too: what ends the owner's whole process group must not end the one who cleans up after it.
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "watch", str(pid), str(self.home) if self._is_temporary else ""],
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _dismiss_watch(self) -> None:
        if self._watch is None:
            return
        # It goes by SIGKILL first, for the end of its input would tell it to act.
        self._watch.kill()
        self._watch.communicate()
        self._watch = None

    def _said_since(self, position: int) -> str:
        if not self.log.exists():
            return "(no log)"
        with self.log.open("rb") as log:
            log.seek(position)
            return log.read().decode(errors="replace")
