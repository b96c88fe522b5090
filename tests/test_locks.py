"""One process at a time, and a lock that goes with its holder."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from journal.locks import ProcessLock, held_locks, is_held, is_wanted, wanting
from pipeline.errors import AlreadyRunningError
from tests.waiting import wait_for

_ROOT = Path(__file__).parent.parent
_HOLDER = """
import sys, time
from pathlib import Path
from journal.locks import ProcessLock
lock = ProcessLock(Path(sys.argv[1]), "ingest", "ingest of commerce")
print("held", flush=True)
time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(folder)], cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    assert not is_held(tmp_path, "ingest")
    with ProcessLock(tmp_path, "ingest", "ingest of commerce"):
        assert is_held(tmp_path, "ingest")
        with pytest.raises(AlreadyRunningError, match=rf"ingest of commerce is already running \(pid {os.getpid()}\)"):
            ProcessLock(tmp_path, "ingest", "ingest of commerce")
        ProcessLock(tmp_path, "deliver-eu", "deliver:eu of commerce").close()
    assert not is_held(tmp_path, "ingest")


def test_a_lock_goes_with_its_holder_whatever_ends_it(tmp_path: Path) -> None:
    process = holder(tmp_path)
    assert is_held(tmp_path, "ingest")
    with pytest.raises(AlreadyRunningError, match=f"pid {process.pid}"):
        ProcessLock(tmp_path, "ingest", "ingest of commerce")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not is_held(tmp_path, "ingest")
    ProcessLock(tmp_path, "ingest", "ingest of commerce").close()


def test_a_holder_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    process = holder(tmp_path)
    timer = threading.Timer(0.3, process.kill)
    timer.start()
    with ProcessLock(tmp_path, "ingest", "ingest of commerce", patience=30.0):
        assert process.wait(60) == -signal.SIGKILL
    process.communicate()


def test_asking_whether_a_lock_is_held_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    over = threading.Event()
    asked = 0

    def ask() -> None:
        nonlocal asked
        while not over.is_set():
            is_held(tmp_path, "ingest")
            asked += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(100):
            ProcessLock(tmp_path, "ingest", "ingest of commerce").close()
        wait_for(lambda: asked > 100, message="questions beside the locks")
    finally:
        over.set()
        thread.join()


def test_who_asks_for_a_lock_is_not_taken_for_its_holder(tmp_path: Path) -> None:
    ProcessLock(tmp_path, "ingest", "ingest of commerce").close()
    with (tmp_path / "ingest.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # somebody else who asks, at this very moment
        assert not is_held(tmp_path, "ingest")


def test_who_holds_a_lock_for_a_while_sees_that_others_wait_for_it(tmp_path: Path) -> None:
    assert not is_wanted(tmp_path, "ingest")
    with wanting(tmp_path, "ingest"), wanting(tmp_path, "ingest"):
        assert is_wanted(tmp_path, "ingest")
        assert not is_held(tmp_path, "ingest")
        assert held_locks(tmp_path) == {}
    assert not is_wanted(tmp_path, "ingest")
