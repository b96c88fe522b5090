"""Several workers that share a sink: what one process would bring, however many they are and whoever dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from journal.state import State
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database
from tests.scale_place import FILE, Shop
from tests.waiting import wait_for


@pytest.fixture
def shop(database18: Database, make_pipeline: MakePipeline) -> Iterator[Shop]:
    made = Shop(make_pipeline(FILE.format(sink=database18.dsn, route="")))
    yield made
    made.close()


def start(pipeline: PipelineUnderTest, workers: int) -> subprocess.Popen[bytes]:
    return pipeline.start("--only", "deliver:eu", *([] if workers == 1 else ["--workers", str(workers)]))


def pids(pipeline: PipelineUnderTest) -> list[int]:
    """Of the workers, without their supervisor."""
    found = []
    for pid in pipeline.processes("deliver:eu"):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as command:
                if b"--process" in command.read():
                    found.append(pid)
        except OSError:
            continue
    return found


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def rows(store: Database) -> list[tuple[object, ...]]:
    if not store.rows("SELECT 1 FROM pg_tables WHERE tablename = 'orders'"):
        return []
    columns = [
        name
        for (name,) in store.rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        if not name.startswith("_sluice")
    ]
    return store.rows(f"SELECT {', '.join(columns)} FROM orders ORDER BY id")


def check(shop: Shop, store: Database) -> None:
    """Waits until the target is as the truth; then everything was told once, and is counted."""
    last = shop.journal.commit("portal", f'{{"lsn": {shop.lsn}}}')
    with closing(State.open(shop.pipeline.state)) as state:

        def there() -> bool:
            progress = state.sinks().get("eu")
            return progress is not None and progress.seq == last and rows(store) == shop.wanted()

        wait_for(there, 60, lambda: f"entry {last}, and {len(shop.wanted())} rows; {state.sinks().get('eu')}\n{shop.pipeline.log[-4000:]}")
    told = store.rows("SELECT _sluice_position, _op, id::text FROM moves ORDER BY 1")
    assert told == [(n, op, key) for n, (op, key) in sorted(shop.told.items())]
    delivered = shop.pipeline.status()["sinks"]["eu"]["datasets"]
    assert delivered["moves"]["delivered"] == len(shop.told)
    assert delivered["orders"]["delivered"] == len(shop.told)


def live(shop: Shop, rounds: int, between: Callable[[int], None] = lambda _: None) -> None:
    """Everything that can happen to a table."""
    for round_ in range(rounds):
        shop.work(shop.random.choice([1, 3, 50, 400]))
        if round_ % 11 == 7:
            shop.alter()
        if round_ % 13 == 9:
            shop.truncate()
        between(round_)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_bring_what_one_process_would(shop: Shop, database18: Database, workers: int) -> None:
    live(shop, 20)
    process = start(shop.pipeline, workers)
    live(shop, 20)
    check(shop, database18)
    live(shop, 20)
    check(shop, database18)
    status = shop.pipeline.status()["sinks"]["eu"]
    assert status["state"] == "running"
    assert [worker["state"] for worker in status["workers"]] == ["running"] * workers
    assert shop.pipeline.stop(process) == 0
    assert "panic" not in shop.pipeline.log
    assert not pids(shop.pipeline)
