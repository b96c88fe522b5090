"""A state folder that may be looked at, not written: whoever only reads gets answers, whoever has to write is refused."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from journal.state import State
from pipeline.errors import TerminalError
from sinks.base import Counts
from tests.invoking import sluice
from tests.journal_cases import opened
from tests.test_cli_check import CONTRACT, PIPELINE
from tests.test_cli_quarantine import Shop

_NOBODY = 65534


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder as somebody sees it who may not write there.

    That somebody may not be able to read the interpreter's modules: see `loaded`.
    """
    for path in (folder, *folder.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can come to; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "state").mkdir()
        yield Path(name) / "state"


@pytest.fixture(autouse=True)
def loaded(tmp_path: Path) -> None:
    """Every module that the commands need, by letting them meet a state folder that cannot even be made."""
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE.replace("pipeline: shop", "pipeline: shop\nstate: pipeline.yaml/state"))
    (tmp_path / "orders.odcs.yaml").write_text(CONTRACT)
    for command in (["run"], ["sync"], ["report"]):
        assert sluice(*command, file).code == 1
    for command in (["status"], ["quarantine", "list"]):
        assert sluice(*command, file).code == 0


@pytest.fixture(params=["stopped", "killed", "running"])
def shop(request: pytest.FixtureRequest, open_folder: Path) -> Iterator[Shop]:
    """A pipeline with a record in quarantine, whose processes have ended, were killed, or are at work."""
    shop = Shop(open_folder)
    last = shop.arrive(10, [shop.record(1, "-1.00")])
    shop.refuse("eu", shop.record(5, "5.00", sink="eu", rule="sink"), last)
    shop.holds("eu", last, Counts(delivered=8, quarantined=1))
    left = {path: path.read_bytes() for path in shop.state_folder.glob("*.db*")} if request.param == "killed" else {}
    if request.param != "running":
        shop.journal.close()
        shop.state.close()
    for path, content in left.items():
        path.write_bytes(content)
    yield shop
    if request.param == "running":
        shop.journal.close()
        shop.state.close()


def test_who_only_reads_gets_answers(shop: Shop, open_folder: Path) -> None:
    out = open_folder.parent / "reports"
    out.mkdir()
    out.chmod(0o777)
    commands = (["status", shop.file, "--json"], ["quarantine", "list", shop.file, "--json"], ["report", shop.file, "--out", out])
    wanted = [sluice(*command) for command in commands]
    for path in out.iterdir():
        path.unlink()
    with read_only(shop.state_folder):
        found = [sluice(*command) for command in commands]
    assert [(done.code, done.err) for done in found] == [(0, "")] * 3
    assert found[0].json["datasets"] == wanted[0].json["datasets"]
    assert found[0].json["running"] is wanted[0].json["running"]
    assert len(found[1].json) == 2
    assert [done.out for done in found[1:]] == [done.out for done in wanted[1:]]
    assert (out / "orders.html").exists()


@pytest.mark.parametrize("shop", ["stopped"], indirect=True)
def test_reports_that_would_go_into_the_folder_are_refused_with_the_reason(shop: Shop) -> None:
    with read_only(shop.state_folder):
        done = sluice("report", shop.file)
    assert done.code == 1
    assert f"{shop.state_folder / 'reports'} cannot be written" in done.err
    assert "--out" in done.err


@pytest.mark.parametrize("command", ["run", "sync"])
def test_who_has_to_write_is_refused_before_anything_begins(shop: Shop, command: str) -> None:
    with read_only(shop.state_folder):
        done = sluice(command, shop.file)
    assert done.code == 1
    assert f"the state folder {shop.state_folder} cannot be written" in done.err
    assert "writable" in done.err


@pytest.mark.parametrize("shop", ["killed"], indirect=True)
def test_a_log_without_its_index_cannot_be_read_without_writing_and_it_says_so(shop: Shop) -> None:
    (shop.state_folder / "journal.db-shm").unlink()
    with read_only(shop.state_folder):
        done = sluice("status", shop.file)
    assert done.code == 1
    assert "journal.db" in done.err
    assert "writable" in done.err


def test_a_folder_that_cannot_be_written(open_folder: Path) -> None:
    with read_only(open_folder):
        for way in (opened, lambda folder: State.open(folder).request_copies("eu", ["orders"])):
            with pytest.raises(TerminalError, match=str(open_folder)) as raised:
                way(open_folder)
            assert "writable" in str(raised.value.hint)


def test_a_journal_that_cannot_be_written(open_folder: Path) -> None:
    opened(open_folder).close()
    state = State.open(open_folder)
    state.request_copies("eu", ["orders"])
    state.close()
    (open_folder / "journal.lock").unlink()
    with read_only(open_folder), pytest.raises(TerminalError, match=str(open_folder)):
        opened(open_folder)
    state = State.open(open_folder)
    with read_only(open_folder), pytest.raises(TerminalError, match=r"state\.db"):
        state.request_copies("us", ["orders"])
    state.close()
