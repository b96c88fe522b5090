"""Several workers that share a sink: what one process would bring, however many they are and whoever dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial

import pytest

from journal.batch import Op
from journal.quarantine import Wanted
from journal.state import State
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database, Launch
from tests.invoking import sluice
from tests.scale_place import FILE, Change, Shop
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


def has_begun(shop: Shop, processes: int) -> bool:
    return shop.pipeline.log.count("event=delivering") == processes


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


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

        wait_for(
            there, message=lambda: f"entry {last}, and {len(shop.wanted())} rows; {state.sinks().get('eu')}\n{shop.pipeline.log[-4000:]}"
        )
        cursor = state.sinks()["eu"].cursor or ""
    told = store.rows("SELECT _sluice_position, _op, id::text FROM moves ORDER BY 1")
    assert told == [(n, op, key) for n, (op, key) in sorted(shop.told.items())]
    assert json.loads(cursor)["counts"] == {dataset: [len(shop.told), 0, shop.refused] for dataset in ("orders", "moves")}


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
    live(shop, 14)
    process = start(shop.pipeline, workers)
    live(shop, 14)
    check(shop, database18)
    live(shop, 10)
    check(shop, database18)
    status = shop.pipeline.status()["sinks"]["eu"]
    assert status["state"] == "running"
    assert [worker["state"] for worker in status["workers"]] == ["running"] * workers
    assert shop.pipeline.stop(process) == 0
    assert "panic" not in shop.pipeline.log
    assert not pids(shop.pipeline)


def test_the_number_of_workers_can_change_and_one_process_take_over(shop: Shop, database18: Database) -> None:
    live(shop, 8)
    begun = 0
    for workers in (2, 1, 3, 2, 1):
        process = start(shop.pipeline, workers)
        begun += workers
        wait_for(partial(has_begun, shop, begun), message=lambda: shop.pipeline.log[-3000:])
        live(shop, 6)
        if workers == 3:
            process.kill()  # its workers drain, or are fenced off by those that come next
            process.wait()
        else:
            assert shop.pipeline.stop(process) == 0, shop.pipeline.log[-3000:]
    process = start(shop.pipeline, 1)
    check(shop, database18)
    assert shop.pipeline.stop(process) == 0


def test_whoever_is_killed_everything_is_told_once_and_in_order(shop: Shop, database18: Database) -> None:
    shop.work(20)
    first = start(shop.pipeline, 1)
    wait_for(lambda: rows(database18) == shop.wanted(), message="the first rows")
    assert shop.pipeline.stop(first) == 0
    database18.execute("CREATE TABLE applied (n bigserial, id bigint, position bigint)")
    database18.execute(
        "CREATE FUNCTION apply() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO applied (id, position) VALUES (NEW.id, NEW._sluice_position); RETURN NULL; END'"
    )
    database18.execute("CREATE TRIGGER apply AFTER INSERT ON moves FOR EACH ROW EXECUTE FUNCTION apply()")
    running = [start(shop.pipeline, 2)]

    def harm(round_: int) -> None:
        alive = pids(shop.pipeline)
        if round_ % 6 == 2 and alive:
            kill(shop.random.choice(alive))
        if round_ == 10:
            for pid in alive:
                kill(pid)
        if round_ == 13:
            running[0].kill()
            running[0].wait()
            running[0] = start(shop.pipeline, 2)
        wait_for(lambda: len(pids(shop.pipeline)) == 2, message=lambda: f"two workers\n{shop.pipeline.log[-3000:]}")

    live(shop, 16, harm)
    check(shop, database18)
    wrong = database18.rows(
        "SELECT id FROM (SELECT id, n, lag(n) OVER (PARTITION BY id ORDER BY position) AS before FROM applied) a WHERE n < before"
    )
    assert wrong == []
    assert shop.pipeline.stop(running[0]) == 0


def test_a_copy_for_the_sink_comes_through_workers_and_what_is_gone_goes(shop: Shop, database18: Database) -> None:
    live(shop, 6)
    process = start(shop.pipeline, 2)
    check(shop, database18)
    assert shop.pipeline.stop(process) == 0
    shop.pipeline.write(FILE.format(sink=database18.dsn, route="columns: {region: drop}"))
    process = start(shop.pipeline, 3)
    with closing(State.open(shop.pipeline.state)) as asked:
        wait_for(lambda: asked.copy_requests() == {"eu": frozenset({"orders"})}, message=lambda: f"the request\n{shop.pipeline.log}")
        database18.execute("INSERT INTO orders (id, _sluice_position) VALUES (1000000, 1)")  # what a copy must sweep
        shop.work(50)  # of orders, it is in the copy
        wait_for(lambda: asked.sinks()["eu"].state == "copying", message="a sink that waits for its copy")
        shop.copy("orders", "eu")
        shop.work(50)
        last = shop.journal.commit("portal", f'{{"lsn": {shop.lsn}}}')
        wanted = [(row[0], *row[2:]) for row in shop.wanted()]
        wait_for(lambda: asked.sinks()["eu"].seq == last and rows(database18) == wanted, message=lambda: shop.pipeline.log[-3000:])
        wait_for(lambda: asked.sinks()["eu"].state == "running", message="the end of the copy to be told")
    assert shop.pipeline.stop(process) == 0


def test_workers_wait_for_a_target_that_is_away_and_refused_rows_are_told(launch_postgres: Launch, make_pipeline: MakePipeline) -> None:
    server = launch_postgres()
    store = Database(server, "postgres")
    shop = Shop(make_pipeline(FILE.format(sink=store.dsn, route="")))
    process = start(shop.pipeline, 2)
    live(shop, 4)
    check(shop, store)
    server.kill()
    shop.work(30)
    with closing(State.open(shop.pipeline.state)) as state:
        wait_for(lambda: state.sinks()["eu"].state == "retrying", message="somebody who says so")
    shop.truncate()
    shop.work(30)
    server.start()
    check(shop, store)
    shop.next += 1
    shop.put([Change(Op.INSERT, (str(shop.next), "EU", "99999999999"))])  # more than an integer holds
    del shop.told[max(shop.told)]
    shop.refused += 1
    last = shop.journal.next_ordinal - 1
    with closing(State.open(shop.pipeline.state)) as state:
        refused = wait_for(lambda: state.refused(Wanted()), message=lambda: shop.pipeline.log[-3000:])
    assert sorted((record.dataset, record.ordinal) for record in refused) == [("moves", last), ("orders", last - 1)]
    shop.work(30)
    check(shop, store)
    shop.close()
    assert shop.pipeline.stop(process) == 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--workers", "2"], "--only deliver:SINK"),
        (["--only", "ingest", "--workers", "2"], "none of the sources can be read by several processes"),
        (["--only", "deliver:eu", "--workers", "9"], "9 workers cannot share 8 partitions"),
        (["--only", "deliver:warehouse", "--workers", "2"], "a duckdb sink takes one process"),
        (["--only", "deliver:eu", "--process", "0"], "--addresses names all workers"),
        (["--only", "deliver:eu", "--addresses", "a:1,b:2", "--process", "2"], "--process says which of them"),
        (["--only", "deliver:eu", "--addresses", "a:1,b", "--process", "0"], "so many HOST:PORT"),
        (["--only", "deliver:eu", "--workers", "3", "--addresses", "a:1,b:2", "--process", "0"], "so many HOST:PORT"),
    ],
)
def test_what_workers_cannot_share_is_refused(make_pipeline: MakePipeline, arguments: list[str], said: str) -> None:
    pipeline = make_pipeline(FILE.format(sink="host=nowhere.invalid", route="") + "  warehouse: {type: duckdb, path: w.duckdb}\n")
    done = sluice("run", str(pipeline.file), *arguments)
    assert done.code == 2
    assert said in done.err


def test_a_journal_in_a_file_is_of_one_process(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(re.sub("journal:.*", "", FILE.format(sink="host=nowhere.invalid", route="")))
    done = sluice("run", str(pipeline.file), "--only", "deliver:eu", "--workers", "2")
    assert done.code == 2
    assert "journal: {type: kafka" in done.err
