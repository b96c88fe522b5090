"""Signals: the first drains, the second ends at once, and none spoils an end that has come already."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

_BEGIN = """
import os, signal, sys
from dataflows.stopping import Stop
stop = Stop()
stop.on_signals()
def signalled(kill=os.kill, pid=os.getpid(), number=int(sys.argv[1])):
    kill(pid, number)
"""
_WHILE_MODULES_GO = "class Last:\n    def __del__(self, signalled=signalled):\n        signalled()\nlast = Last()\n"


def _exit_code(code: str, number: int) -> int:
    command = [sys.executable, "-c", _BEGIN + code, str(number)]
    return subprocess.run(command, cwd=Path(__file__).parent.parent, timeout=60).returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("code", [0, 1])
def test_a_signal_that_comes_when_the_interpreter_goes_away_does_not_change_the_exit_code(number: int, code: int) -> None:
    assert _exit_code(f"{_WHILE_MODULES_GO}sys.exit({code})", number) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_the_process_ends_by_itself_does_not_change_the_exit_code(number: int) -> None:
    assert _exit_code("import atexit\natexit.register(signalled)\nsys.exit(1)", number) == 1


_SOON = "import dataflows.stopping as s\ns._LONGEST, s._LAST_WORDS = 0.2, 30\n"
_BUSY_FOR_EVER = """
import sqlite3, threading
threading.Timer(0.1, signalled).start()
sqlite3.connect(":memory:").execute("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c").fetchone()
"""


def test_a_process_that_does_not_drain_in_time_is_ended_even_where_no_python_runs() -> None:
    assert _exit_code(_SOON + "signalled()\nimport time\ntime.sleep(600)", signal.SIGTERM) == 128 + signal.SIGTERM
    assert _exit_code(_SOON + _BUSY_FOR_EVER, signal.SIGTERM) == 128 + signal.SIGTERM


def test_a_second_signal_ends_a_process_at_once_even_where_no_python_runs() -> None:
    twice = _BUSY_FOR_EVER.replace("signalled)", "lambda: (signalled(), os.kill(os.getpid(), signal.SIGINT)))")
    code = _exit_code(_SOON.replace("0.2", "600") + twice, signal.SIGTERM)
    assert code in (128 + signal.SIGTERM, 128 + signal.SIGINT)  # the system may deliver them in any order


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_that_drains(number: int) -> None:
    assert _exit_code("signalled()\nassert stop.wait(60)\nsignalled()\nos.abort()", number) == 128 + number
