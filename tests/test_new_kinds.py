"""`new sink` and `new source`: the packages that they write are installed as anybody would, and work as they are."""

from __future__ import annotations

import importlib
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hatchling import build

from journal.schema import Column, TableSchema
from pipeline.errors import TransientError
from pipeline.kinds import kinds
from sinks.base import Sink
from tests.fix_pipeline import MakePipeline
from tests.invoking import sluice
from tests.sink_batches import ORDERS, delete, insert, update
from tests.sink_conformance import SinkConformance
from tests.sink_place import Hand, mirror

ROOT = Path(__file__).parents[1]
PIPELINE = """
pipeline: desk
sources:
  events: {type: tick-ets, path: events.jsonl, schema: {id: bigint, name: text}}
datasets:
  events: {from: events, key: [id]}
sinks:
  out: {type: my_crm, path: out.db}
"""


@dataclass(frozen=True)
class Installed:
    """A new sink and a new source, and the folder in which both are installed."""

    sink: Path
    source: Path
    site: Path


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("kinds")
    site = folder / "site"
    for what, name in (("sink", "my_crm"), ("source", "tick-ets")):
        done = sluice("new", what, name, "--dir", folder)
        assert done.code == 0, done.err
        with _in(folder / name):
            wheel = build.build_wheel(str(folder))
        with zipfile.ZipFile(folder / wheel) as packed:
            packed.extractall(site)
    sys.path.append(str(site))
    kinds.cache_clear()
    yield Installed(folder / "my_crm", folder / "tick-ets", site)
    sys.path.remove(str(site))
    kinds.cache_clear()


@pytest.mark.parametrize("what", ["sink", "source"])
def test_the_tests_of_a_new_package_pass_at_once(installed: Installed, what: str) -> None:
    folder: Path = getattr(installed, what)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    tested = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout
    assert int(tested.stdout.rsplit("\n", 2)[-2].split()[0]) >= 10


@pytest.mark.parametrize("what", ["sink", "source"])
def test_a_new_package_can_be_installed_where_it_is(installed: Installed, tmp_path: Path, what: str) -> None:
    folder: Path = getattr(installed, what)
    with _in(folder):
        wheel = build.build_editable(str(tmp_path))
    with zipfile.ZipFile(tmp_path / wheel) as packed:
        (path,) = [packed.read(name).decode().strip() for name in packed.namelist() if name.endswith(".pth")]
    assert Path(path) == folder


@pytest.mark.parametrize("what", ["sink", "source"])
def test_what_is_written_is_whole_and_well_formed(installed: Installed, what: str) -> None:
    folder: Path = getattr(installed, what)
    module = f"sluice_{what}_{folder.name.replace('-', '_')}"
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert there == {"pyproject.toml", "README.md", ".gitignore", f"{module}.py", f"tests/test_{module}.py"}
    for path in there:
        text = (folder / path).read_text("utf-8")
        assert not [word for word in ("KIND", "MODULE", "CLASS", "TODO") if word in text], path
    (program,) = [str(file.locate()) for file in distribution("ruff").files or () if file.name == "ruff"]
    rules = ["--select", "B,E,F,PERF,PIE,RUF,SIM,UP,W", "--ignore", "RUF002"]
    for words in (["check", "--no-cache", *rules], ["format", "--check", "--no-cache"]):
        found = subprocess.run([program, *words, str(folder)], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout


def test_a_pipeline_of_both_brings_every_line_exactly_once(installed: Installed, make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(PIPELINE)
    lines = pipeline.folder / "events.jsonl"
    lines.write_text('{"id": 1, "name": "a"}\n{"id": "x"}\n{"id": 2, "name": "b"}\n')
    assert sluice("check", pipeline.file).code == 0
    for more in ("", '{"id": 3, "name": "c"}\n{"id": 1, "name": "A"}\n'):
        with lines.open("a") as file:
            file.write(more)
        done = pipeline.sluice("sync", str(pipeline.file), PYTHONPATH=str(installed.site))
        assert done.code == 0, done.err
    with closing(sqlite3.connect(pipeline.folder / "out.db")) as connection:
        assert connection.execute("SELECT id, name FROM events ORDER BY id").fetchall() == [("1", "A"), ("2", "b"), ("3", "c")]
    (listed,) = sluice("quarantine", "list", pipeline.file, "--json").json
    assert listed["position"] == {"line": 2}
    status = sluice("status", pipeline.file, "--json").json
    assert (status["datasets"]["events"]["in"], status["sinks"]["out"]["datasets"]["events"]["delivered"]) == (5, 4)


def test_what_the_new_kinds_cannot_do_is_said_by_check(installed: Installed, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        PIPELINE.replace("path: out.db", "path: out.db, datasets: {events: {mode: history}}").replace("path: events", "paht: events")
    )
    said = sluice("check", file, "--json").json
    assert not said["ok"]
    assert [word for problem in said["problems"] for word in ("mode", "paht") if word in problem["message"]] == ["paht", "mode"]


@pytest.mark.parametrize("what", ["sink", "source"])
def test_a_name_that_cannot_be_a_kind_is_refused_and_nothing_written(tmp_path: Path, what: str) -> None:
    taken = {"sink": "duckdb", "source": "postgres"}[what]
    for name in ("../up", "/abs", "a b", "", "ö", "Crm", "9lives", "-x", "x-", "a.b", "a\nb", "x" * 41, "null", "no", taken):
        done = sluice("new", what, "--dir", tmp_path, "--", name)
        assert done.code == 2, name
        assert "hint" in done.err, name
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("what", ["sink", "source"])
def test_nothing_is_overwritten(tmp_path: Path, what: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    (tmp_path / "file").touch()
    for name in ("mine", "file"):
        done = sluice("new", what, name, "--dir", tmp_path)
        assert (done.code, "is there already" in done.err) == (2, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]
    done = sluice("new", what, "below", "--dir", tmp_path / "file")
    assert (done.code, "cannot be made" in done.err) == (2, True)


@dataclass
class SqlitePlace:
    """A SQLite file of a test's own."""

    path: Path
    Config: Any
    Made: Any

    def sink(self, name: str = "out", pipeline: str = "test") -> Sink:
        made: Sink = self.Made(name, self.Config(path=self.path), pipeline)
        return made

    def table(self, name: str) -> Sequence[Mapping[str, str | None]]:
        with closing(sqlite3.connect(self.path)) as connection:
            found = connection.execute(f'SELECT * FROM "{name}"')
            names = [column[0] for column in found.description]
            return [dict(zip(names, (None if value is None else str(value) for value in row), strict=True)) for row in found]

    def make_foreign_table(self, name: str) -> None:
        self._do(f'CREATE TABLE "{name}" (id)')

    def drop_table(self, name: str) -> None:
        self._do(f'DROP TABLE "{name}"')

    def _do(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(statement)
            connection.commit()

    def crash(self, sink: Any) -> None:
        sink.close()

    def away(self) -> AbstractContextManager[None]:
        raise AssertionError("a file is not away")

    def powerless(self) -> Sink:
        # root may write everywhere but there
        made: Sink = self.Made("out", self.Config(path=Path("/sys/out.db")), "test")
        return made


class TestNewSink(SinkConformance):
    """The new sink keeps what every sink must keep."""

    lacks: ClassVar[Mapping[str, str]] = {
        "away": "a file is not away",
        "history": "it keeps mirrors",
        "soft_delete": "it keeps what is",
        "keyless": "it finds rows by their key",
    }

    @pytest.fixture
    def place(self, installed: Installed, tmp_path: Path) -> SqlitePlace:
        module = importlib.import_module("sluice_sink_my_crm")
        return SqlitePlace(tmp_path / "out.db", module.MyCrmConfig, module.MyCrmSink)

    # what it does not do: a table without a key, and a look at texts that are held as they are
    test_rows_with_a_single_value_which_is_null_are_rows = None  # type: ignore[assignment]
    test_a_value_that_does_not_fit_is_refused_and_its_neighbours_go_in = None  # type: ignore[assignment]
    test_values_are_held_as_they_are_or_refused = None  # type: ignore[assignment]
    test_many_rows_go_in_are_changed_and_go = None  # type: ignore[assignment]

    @pytest.mark.parametrize("name", ['a "quoted" name', "it's; --", "select", "naïve 漢字 🙂"])
    def test_hostile_names_are_only_names(self, hand: Hand, name: str) -> None:
        schema = TableSchema(name, (Column(name, "text", 1), Column(f"{name}2", "text", 2)), (name,))
        hand.write(mirror(schema), insert(**{name: "k", f"{name}2": "d"}), insert(**{name: "l"}))
        hand.write(mirror(schema), update({name: "k"}, absent=[f"{name}2"]), delete(**{name: "l"}))
        assert hand.live(mirror(schema)) == [{name: "k", f"{name}2": "d"}]

    def test_another_file_in_its_place_is_noticed(self, place: SqlitePlace, hand: Hand) -> None:
        hand.write(mirror(ORDERS), insert(id="1", name="a"))
        place.path.unlink()
        with pytest.raises(TransientError, match="another file"):
            hand.sink.begin()
        assert hand.sink.open("journal-of-the-tests") is None
