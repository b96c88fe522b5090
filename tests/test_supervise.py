from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dataflows import supervise
from dataflows.supervise import Supervisor
from tests.waiting import wait_for

_DRAINS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print({name!r}, flush=True), sys.exit(0))); time.sleep(300)"


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor(["ingest", "deliver:a", "deliver:b"], [])
    yield made
    for child in made.children:
        if child.process is not None and child.process.poll() is None:
            child.process.kill()
            child.process.wait()


def _script(supervisor: Supervisor, place: int, code: str) -> None:
    supervisor.children[place].command = [sys.executable, "-c", code]


def _all_drain(supervisor: Supervisor) -> None:
    for place, child in enumerate(supervisor.children):
        _script(supervisor, place, _DRAINS.format(name=child.name))


def _tended(supervisor: Supervisor, place: int, condition: str) -> bool:
    supervisor.tend()
    return bool(getattr(supervisor.children[place], condition))


def test_a_process_that_is_killed_is_started_again_and_its_neighbours_go_on(supervisor: Supervisor) -> None:
    _all_drain(supervisor)
    supervisor.start()
    before = [child.process.pid for child in supervisor.children if child.process]
    os.kill(before[1], signal.SIGKILL)
    wait_for(lambda: _tended(supervisor, 1, "restarts") and supervisor.children[1].alive, message="the killed process to be back")
    after = [child.process.pid for child in supervisor.children if child.process]
    assert (before[0], before[2]) == (after[0], after[2])
    assert before[1] != after[1]


@pytest.mark.parametrize("code, ends", [(1, True), (2, True), (0, True), (70, False), (75, False)])
def test_an_error_that_somebody_has_to_mend_is_not_tried_again(supervisor: Supervisor, code: int, ends: bool) -> None:
    _all_drain(supervisor)
    _script(supervisor, 2, f"raise SystemExit({code})")
    supervisor.start()

    def over() -> bool:
        supervisor.tend()
        return supervisor.children[2].ended is not None or supervisor.children[2].restarts > 0

    wait_for(over, message="the end, or another beginning")
    assert (supervisor.children[2].ended is not None) == ends
    if ends:
        assert supervisor.children[2].ended == code
    assert supervisor.children[0].alive
    assert supervisor.children[1].alive


def test_a_process_that_keeps_dying_is_started_again_later_and_later(supervisor: Supervisor) -> None:
    _all_drain(supervisor)
    _script(supervisor, 1, "raise SystemExit(70)")
    supervisor.start()
    with capture_logs() as logs:

        def died_again() -> bool:
            supervisor.tend()
            return len(logs) == 4

        wait_for(died_again, message="four deaths")
    delays = [line["seconds"] for line in logs]
    assert delays[3] > delays[0]


def test_ingest_ends_before_the_sinks_are_told_to(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for grace in ("_INGEST_GRACE", "_GRACE"):
        monkeypatch.setattr(supervise, grace, 60.0)  # it is about the order, not the time that they get
    order = tmp_path / "order"
    for place, child in enumerate(supervisor.children):
        said = f"open({str(order)!r}, 'a').write({child.name!r} + chr(10))"
        ready = f"open({str(tmp_path / str(place))!r}, 'w').close()"
        _script(
            supervisor,
            place,
            f"import signal, sys, time\ndef end(*_):\n {said}\n sys.exit(0)\nsignal.signal(signal.SIGTERM, end)\n{ready}\ntime.sleep(300)",
        )
    supervisor.start()
    wait_for(lambda: all((tmp_path / str(place)).exists() for place in range(3)), message="all of them to listen")
    supervisor.stop()
    assert order.read_text().splitlines()[0] == "ingest"
    assert sorted(order.read_text().split()) == ["deliver:a", "deliver:b", "ingest"]
    assert [child.ended for child in supervisor.children] == [0, 0, 0]


def test_a_folder_of_ones_own_packages_is_not_taken_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pipeline", "cli"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(99)")
    monkeypatch.chdir(tmp_path)
    supervisor = Supervisor(["ingest"], ["schema"])
    supervisor.children[0].command = supervisor.children[0].command[:-2]  # without --only
    supervisor.start()
    process = supervisor.children[0].process
    assert process is not None
    assert process.wait(60) == 0


def test_a_process_that_has_time_begins_after_the_others_and_that_is_no_restart() -> None:
    supervisor = Supervisor(["ingest", "watch"], [], late={"watch": 0.2})
    _all_drain(supervisor)
    supervisor.start()
    ingest, watch = supervisor.children
    assert (ingest.alive, watch.alive) == (True, False)
    wait_for(lambda: _tended(supervisor, 1, "alive"), message="the late one")
    assert watch.restarts == 0
    supervisor.stop()
    assert None not in (ingest.ended, watch.ended)
