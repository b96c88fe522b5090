"""The process that looks after quality from beside a pipeline: it does each thing in its time, and costs next to nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from dataflows.stopping import Stop
from dataflows.watch import MakeTick, Tick, watch
from examples.free_ports import free_port
from journal.watching import Watching
from pipeline.errors import TransientError
from pipeline.load import load_pipeline
from pipeline.model import Pipeline
from tests.contract_text import contract_of
from tests.fix_pipeline import MakePipeline
from tests.invoking import sluice
from tests.waiting import wait_for

_FILE = """
pipeline: shop
state: .sluice
monitoring: {port: 9640}
sources:
  portal: {type: postgres, dsn: "host=127.0.0.1 port=1 dbname=nowhere", tables: [public.orders]}
datasets:
  orders: {from: portal.public.orders, contract: orders.yaml}
sinks:
  lake: {type: duckdb, path: lake.duckdb}
"""
_CONTRACT = contract_of("    properties:\n      - {name: id, logicalType: integer, primaryKey: true}\n")


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    (tmp_path / "orders.yaml").write_text(_CONTRACT)
    (tmp_path / "pipeline.yaml").write_text(_FILE.replace("monitoring: {port: 9640}\n", ""))
    return load_pipeline(tmp_path / "pipeline.yaml")


class Counting:
    """Counts its times, and does something each time."""

    period = 0.01

    def __init__(self, name: str, does: Callable[[int], None] = lambda times: None) -> None:
        self.name = name
        self.times = 0
        self._does = does

    def tick(self, now: float) -> None:
        self.times += 1
        self._does(self.times)

    def over(self, deadline: float) -> bool:
        return True


def _made(tick: Tick) -> MakeTick:
    return lambda watched: tick


def _watching(pipeline: Pipeline, *ticks: Tick) -> tuple[Stop, threading.Thread]:
    stop = Stop()

    def run() -> None:
        with ExitStack() as held:
            watch(pipeline, stop, [_made(tick) for tick in ticks], held)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return stop, thread


def test_a_tick_that_fails_is_told_of_and_tried_again_and_the_others_go_on(pipeline: Pipeline) -> None:
    def fails_at_first(times: int) -> None:
        if times < 3:
            raise TransientError("the post office is closed", hint="wait")

    def breaks(times: int) -> None:
        raise ValueError("ann@example.com")

    good, ill, broken = Counting("good"), Counting("ill", fails_at_first), Counting("broken", breaks)
    with closing(Watching.open(pipeline.state)) as told:
        stop, thread = _watching(pipeline, good, ill, broken)
        wait_for(lambda: ill.times > 4 and good.times > 4 and broken.times > 1, message="all of them to be done again")
        wait_for(lambda: told.ticks()["ill"].state == "waiting", message="it to be well")
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
        error = told.ticks()["broken"].error
        assert error is not None
        assert error.startswith("ValueError in ")
        assert "ann@example.com" not in error
        assert told.ticks()["ill"].error is None
        assert told.ticks()["good"].seconds is not None


def test_a_tick_that_hangs_does_not_keep_the_process_from_ending(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflows.watch._GRACE", 0.05)
    inside, never = threading.Event(), threading.Event()

    def hangs(times: int) -> None:
        inside.set()
        never.wait(120)

    stop, thread = _watching(pipeline, Counting("hanging", hangs))
    assert inside.wait(60)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    never.set()


def test_what_a_tick_has_begun_elsewhere_may_come_to_its_end(pipeline: Pipeline) -> None:
    begun, ended = Counting("begun"), threading.Event()
    begun.over = lambda deadline: ended.wait(deadline - time.monotonic())  # type: ignore[method-assign]
    stop, thread = _watching(pipeline, begun)
    wait_for(lambda: begun.times, message="it to be done")
    threading.Timer(0.1, ended.set).start()
    stop.set()
    thread.join(60)
    assert ended.is_set()


def test_a_first_tick_comes_after_its_period(pipeline: Pipeline) -> None:
    slow, quick = Counting("slow"), Counting("quick")
    slow.period = 3600.0
    stop, thread = _watching(pipeline, slow, quick)
    wait_for(lambda: quick.times > 2, message="the quick one")
    assert slow.times == 0
    stop.set()
    thread.join(60)


def test_status_tells_how_the_process_does(pipeline: Pipeline) -> None:
    assert sluice("status", pipeline.file, "--json").json["watch"] == {"state": "starting", "error": None, "ticks": {}, "machines": []}
    with closing(Watching.open(pipeline.state)) as told:
        told.told("audit", "failing", "the disk is full", ran_at=1.0, seconds=0.5)
        found = sluice("status", pipeline.file, "--json").json["watch"]
    assert found["ticks"]["audit"] == {"state": "failing", "error": "the disk is full", "ran_at": 1.0, "seconds": 0.5}
    assert "watch: the disk is full" in sluice("status", pipeline.file).out


def test_a_pipeline_without_a_contract_has_nothing_to_watch(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(_FILE.replace(", contract: orders.yaml", ""))
    assert sluice("status", file, "--json").json["watch"] is None
    assert set(load_pipeline(file).monitoring) == {"ingest", "deliver:lake"}


def test_the_process_has_the_port_after_the_sinks(tmp_path: Path) -> None:
    (tmp_path / "orders.yaml").write_text(_CONTRACT)
    file = tmp_path / "pipeline.yaml"
    file.write_text(_FILE)
    assert load_pipeline(file).monitoring["watch"] == ("127.0.0.1", 9642)
    file.write_text(_FILE.replace("9640", "65534"))
    assert "the 3 processes need the ports up to 65536" in sluice("check", file).out


def test_the_process_is_small_and_ends_at_once_when_it_is_told_to(make_pipeline: MakePipeline) -> None:
    port = free_port()
    pipeline = make_pipeline(_FILE.replace("9640", str(port - 2)))
    pipeline.write(_CONTRACT, "orders.yaml")
    process = pipeline.start("--only", "watch", ordinarily=True)
    wait_for(lambda: "watching" in pipeline.log, message=lambda: f"it to watch\n{pipeline.log}")
    assert httpx.get(f"http://127.0.0.1:{port}/health/ready").json() == {"live": True, "ready": True, "state": "running", "error": None}
    assert "sluice_incidents" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    modules = Path(f"/proc/{process.pid}/maps")
    if modules.exists():  # what is loaded as code; where it is seen, what is not is as good as not imported
        loaded = modules.read_text()
        assert "sqlalchemy" in loaded
        assert not [name for name in ("bytewax", "duckdb", "pandas", "scipy") if f"/{name}" in loaded]
    assert pipeline.stop(process) == 0


@pytest.mark.parametrize("more", [["--workers", "2"], ["--addresses", "a:1,b:2", "--process", "0"]])
def test_there_is_one_of_it(pipeline: Pipeline, more: list[str]) -> None:
    done = sluice("run", pipeline.file, "--only", "watch", *more)
    assert done.code == 2
    assert "there is one of it" in done.err
