"""How ingest wakes the sinks: nobody waits for a ring that is missed, and nothing of it stays behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from journal.bell import Listener, Ringer

_SOON = 5.0  # seconds


def test_a_ring_wakes_who_listens(tmp_path: Path) -> None:
    listener, ringer = Listener(tmp_path, "eu"), Ringer(tmp_path, ["eu", "nobody"])
    assert not listener.wait(0)
    ringer.ring()
    assert listener.wait(_SOON)
    assert not listener.wait(0)
    ringer.close()
    listener.close()


def test_a_listener_that_comes_back_is_rung_again(tmp_path: Path) -> None:
    ringer = Ringer(tmp_path, ["eu"])
    for _ in range(2):
        listener = Listener(tmp_path, "eu")
        ringer.ring()  # may find that the one before has gone
        ringer.ring()
        assert listener.wait(_SOON)
        listener.close()
        ringer.ring()
    ringer.close()


def test_a_listener_that_was_killed_leaves_a_bell_that_the_next_one_takes(tmp_path: Path) -> None:
    killed = f"import os, pathlib; from journal.bell import Listener; Listener(pathlib.Path({str(tmp_path)!r}), 'eu'); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", killed], cwd=Path(__file__).parent.parent).returncode == 9
    assert any(tmp_path.iterdir())
    listener, ringer = Listener(tmp_path, "eu"), Ringer(tmp_path, ["eu"])
    ringer.ring()
    assert listener.wait(_SOON)
    ringer.close()
    listener.close()


def test_a_folder_whose_listeners_have_ended_can_be_copied(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    listener, ringer = Listener(folder, "eu"), Ringer(folder, ["eu"])
    ringer.ring()
    listener.close()
    ringer.ring()
    ringer.close()
    shutil.copytree(folder, tmp_path / "copy")
    assert not any(folder.iterdir())
