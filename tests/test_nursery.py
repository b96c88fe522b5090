from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import nursery
from tests.nursery import ROOT, Born
from tests.waiting import wait_for

PIPE = subprocess.PIPE


def told(*arguments: str, **options: Any) -> dict[str, Any]:
    """What a process says of itself."""
    process = Born([sys.executable, "-m", "tests.born", *arguments], stdout=PIPE, **{"cwd": ROOT, **options})
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    answer: dict[str, Any] = json.loads(out)
    assert answer["pid"] == process.pid
    return answer


def test_a_process_is_what_it_would_be_if_it_had_been_started(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "TZ": "Asia/Tokyo", "ONLY": "here", "PYTHONPATH": "/somewhere"}
    said = told("one", "ž two", cwd=tmp_path, env=environment, start_new_session=True)
    assert said["arguments"] == ["one", "ž two"]
    assert said["parent"] == os.getpid()
    assert said["session"] == said["pid"]
    assert said["folder"] == str(tmp_path)
    assert said["environment"] == environment
    assert said["zone"] == 9 * 3600
    assert said["seen"] == [sys.executable, "-m", "tests.born", "one", "ž two"]
    assert said["open"] == [0, 1, 2]
    assert not said["pandas"]
    assert "/somewhere" in said["path"]


def test_standard_streams_and_exit_codes_are_its_own() -> None:
    process = Born([sys.executable, "-m", "cli", "status", "/nowhere.yaml"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=PIPE, stderr=PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, b"")
    assert b"/nowhere.yaml" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_end_it(number: signal.Signals) -> None:
    with Born([sys.executable, "-m", "tests.born", "--wait"], cwd=ROOT, stdout=PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(60) == -number


def test_what_it_starts_are_its_children_and_outlive_it() -> None:
    with Born([sys.executable, "-m", "tests.born", "--child", "--workers"], cwd=ROOT, stdout=PIPE) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["parent"] == process.pid
        process.kill()
        process.wait(60)
    wait_for(lambda: parent(said["pid"]) not in (process.pid, os.getpid()), message="somebody else to take the child")
    os.kill(said["pid"], signal.SIGKILL)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_first_process_may_be_one_that_a_command_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery, "_own", None)
    monkeypatch.setattr(subprocess, "Popen", Born)
    done = subprocess.run([sys.executable, "-m", "cli", "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "quarantine" in done.stdout


def test_any_other_command_is_started_as_ever() -> None:
    with Born(["sh", "-c", "echo $0"], stdout=PIPE, text=True) as process:
        assert process.communicate()[0] == "sh\n"
