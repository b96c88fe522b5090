"""A pipeline of a test's own, driven as a person drives it: by its file and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cli.standing import standing
from pipeline.load import load_pipeline
from tests.calling import called
from tests.nursery import Born
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class PipelineUnderTest:
    """A folder with a pipeline file in it; every process it starts is ended with the test."""

    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "pipeline.yaml"

    @property
    def state(self) -> Path:
        return self.folder / ".sluice"

    def write(self, text: str, name: str = "pipeline.yaml") -> Path:
        """Writes a file of the pipeline's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def sluice(self, *arguments: str, timeout: float = 90.0, **environment: str) -> Done:
        """Runs `sluice COMMAND …` to its end: in this process, which has loaded all of it, but from another thread than the main one."""
        if threading.current_thread() is threading.main_thread():
            return Done(*called(arguments, environment))
        pipe, everything = subprocess.PIPE, {**os.environ, **environment}
        with Born(self._command(*arguments), cwd=ROOT, env=everything, stdout=pipe, stderr=pipe) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Done(process.returncode, out.decode(), err.decode())

    def sync(self, *options: str, code: int = 0) -> Done:
        """`sluice sync`; fails the test with what it said if it ends otherwise than with `code`."""
        done = self.sluice("sync", str(self.file), *options)
        assert done.code == code, f"sync ended with {done.code}\n{done.out}\n{done.err}"
        return done

    def start(self, *options: str, file: Path | None = None, ordinarily: bool = False) -> subprocess.Popen[bytes]:
        """`sluice run` in the background, of another file where one is given; its log goes to run.log in the folder."""
        with (self.folder / "run.log").open("ab") as log:
            begin = subprocess.Popen if ordinarily else Born
            process = begin(self._command("run", str(file or self.file), *options), cwd=ROOT, stdout=log, stderr=log)
        self.running.append(process)
        return process

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli", *arguments]

    @property
    def log(self) -> str:
        path = self.folder / "run.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def status(self) -> Any:
        """What `sluice status --json` answers, without a process for each time that it is asked."""
        return json.loads(json.dumps(standing(load_pipeline(self.file))))

    def verify(self) -> Any:
        """The answer of `sluice verify --json`, whatever it is."""
        done = self.sluice("verify", str(self.file), "--json")
        assert done.code in (0, 1), done.err
        return done.json

    def processes(self, only: str) -> list[int]:
        """Pids of this pipeline's processes of one kind: `ingest`, `deliver:SINK`."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            if str(self.file) in words and "--only" in words and only in words:
                found.append(int(entry.name))
        return found

    def kill(self, only: str) -> None:
        """SIGKILL for a process of this pipeline that runs; it is gone afterwards, so that the next one does not hit it while it dies."""

        def killed() -> list[int]:
            found = self.processes(only)
            for pid in found:
                with suppress(ProcessLookupError):  # it has ended by itself since
                    os.kill(pid, signal.SIGKILL)
            return found

        pids = wait_for(killed, message=lambda: f"a process {only}\n{self.log[-3000:]}")
        wait_for(lambda: not {*pids} & {*self.processes(only)}, message=f"the end of {only}")

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """SIGTERM, and the exit code."""
        process.terminate()
        return process.wait(60)

    def duckdb(self, query: str, path: str = "warehouse.duckdb") -> list[tuple[Any, ...]]:
        """All rows of a query on the warehouse, once its writer lets the file go."""

        def attempt() -> list[list[tuple[Any, ...]]]:
            try:
                with duckdb.connect(str(self.folder / path), read_only=True) as connection:
                    return [connection.execute(query).fetchall()]
            except (duckdb.IOException, duckdb.CatalogException):
                return []

        return wait_for(attempt, message=lambda: f"an answer of the warehouse to {query}")[0]

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        for only in ("ingest", *(f"deliver:{name}" for name in ("warehouse", "eu", "us", "mirror", "history"))):
            for pid in self.processes(only):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


MakePipeline = Callable[[str], PipelineUnderTest]


@pytest.fixture
def make_pipeline(tmp_path: Path) -> Iterator[MakePipeline]:
    """Makes a pipeline from the text of its file."""
    made: list[PipelineUnderTest] = []

    def make(text: str) -> PipelineUnderTest:
        folder = tmp_path / f"pipeline{len(made)}"
        folder.mkdir()
        pipeline = PipelineUnderTest(folder)
        pipeline.write(text)
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.close()
