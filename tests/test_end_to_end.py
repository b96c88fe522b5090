"""The main job on real servers: Postgres into a DuckDB warehouse and a regional Postgres, through the commands that people use."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database, MakeDatabase
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: shop
state: .sluice
sources:
  portal: {{type: postgres, dsn: "{source}", tables: [public.orders, public.notes]}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
  eu:
    type: postgres
    dsn: "{sink}"
    schema: sales
    datasets:
      orders: {{where: "region = 'EU'"}}
      notes: {{}}
"""

_TABLES = (
    "CREATE TABLE orders (id bigint PRIMARY KEY, region text, amount numeric(10,2), document text, placed timestamptz DEFAULT now())",
    "CREATE TABLE notes (author int, n int, text text, PRIMARY KEY (author, n))",
    "ALTER TABLE orders ALTER document SET STORAGE EXTERNAL",
)


Shop = tuple[PipelineUnderTest, Database, Database]


def _shop(source: Database, make_database: MakeDatabase, make_pipeline: MakePipeline) -> Shop:
    source.execute(*_TABLES)
    store = make_database(source.server)
    return make_pipeline(_FILE.format(source=source.dsn, sink=store.dsn)), source, store


@pytest.fixture
def shop(database18: Database, make_database: MakeDatabase, make_pipeline: MakePipeline) -> Shop:
    """A pipeline, its source, and the regional store."""
    return _shop(database18, make_database, make_pipeline)


def _fill(source: Database, first: int, last: int) -> None:
    source.execute(
        "INSERT INTO orders SELECT n, (ARRAY['EU','US'])[1 + n % 2], n * 1.5, "
        "repeat(md5(n::text), CASE WHEN n % 10 = 0 THEN 200 ELSE 1 END) "
        f"FROM generate_series({first}, {last}) n",
        f"INSERT INTO notes SELECT n % 7, n, 'note ' || n FROM generate_series({first}, {last}) n",
    )


def _same(pipeline: PipelineUnderTest, source: Database, store: Database) -> None:
    """Row by row, without the program's own `verify`."""
    of_source = "SELECT id, region, amount::text, md5(document), (extract(epoch FROM placed) * 1000000)::bigint FROM orders {} ORDER BY id"
    wanted = source.rows(of_source.format(""))
    here = pipeline.duckdb("SELECT id, region, amount::text, md5(document), epoch_us(placed) FROM orders ORDER BY id")
    assert here == wanted
    query = of_source.replace("FROM orders", "FROM sales.orders")
    assert store.rows(query.format("")) == source.rows(of_source.format("WHERE region = 'EU'"))
    notes = "SELECT author, n, text FROM {}notes ORDER BY 1, 2"
    assert store.rows(notes.format("sales.")) == source.rows(notes.format("")) == pipeline.duckdb(notes.format(""))


def test_sync_copies_then_streams_every_kind_of_change(
    database: Database, make_database: MakeDatabase, make_pipeline: MakePipeline
) -> None:
    pipeline, source, store = _shop(database, make_database, make_pipeline)
    _fill(source, 1, 2000)
    pipeline.sync()
    _same(pipeline, source, store)

    _fill(source, 2001, 2500)
    source.execute(
        "UPDATE orders SET amount = amount + 1 WHERE id % 10 = 0",  # documents out of line do not change
        "UPDATE orders SET region = CASE region WHEN 'EU' THEN 'US' ELSE 'EU' END WHERE id % 50 < 2",  # rows leave and enter the filter
        "UPDATE orders SET id = id + 100000 WHERE id % 97 = 0",
        "DELETE FROM orders WHERE id % 13 = 0",
        "UPDATE notes SET text = NULL WHERE n % 5 = 0",
        "DELETE FROM notes WHERE author = 3",
    )
    pipeline.sync()
    _same(pipeline, source, store)

    source.execute("TRUNCATE notes", "INSERT INTO notes VALUES (1, 1, 'after')")
    pipeline.sync()
    _same(pipeline, source, store)
    answer = pipeline.verify()
    assert answer["conserved"] is True
    for sinks in answer["datasets"].values():
        for found in sinks.values():
            assert (found["missing"], found["extra"], found["different"]) == (0, 0, 0), answer


def test_verify_says_what_differs(shop: Shop) -> None:
    pipeline, source, store = shop
    _fill(source, 1, 100)
    pipeline.sync()
    store.execute(
        "DELETE FROM sales.orders WHERE id = 4",
        "UPDATE sales.orders SET amount = 0 WHERE id = 6",
        "INSERT INTO sales.notes VALUES (99, 1, 'x', 0)",
    )
    done = pipeline.sluice("verify", str(pipeline.file), "--json")
    assert done.code == 1
    orders, notes = done.json["datasets"]["orders"]["eu"], done.json["datasets"]["notes"]["eu"]
    assert (orders["missing"], orders["extra"], orders["different"]) == (1, 0, 1)
    assert (notes["missing"], notes["extra"], notes["different"]) == (0, 1, 0)
    assert done.json["datasets"]["orders"]["warehouse"]["missing"] == 0


@pytest.mark.parametrize("seed", [1])
def test_nothing_is_lost_or_doubled_when_processes_are_killed_under_load(shop: Shop, seed: int) -> None:
    pipeline, source, store = shop
    _fill(source, 1, 5000)
    chance = random.Random(seed)
    over = threading.Event()

    def load() -> None:
        with source.connect() as connection:
            n = 10_000
            while not over.is_set():
                with connection.transaction():
                    connection.execute("INSERT INTO orders SELECT g, 'EU', g, 'd' FROM generate_series(%s::int, %s::int) g", [n, n + 40])
                    connection.execute(
                        "UPDATE orders SET amount = amount + 1, region = (ARRAY['EU','US'])[1 + (random() * 1)::int] WHERE id %% 199 = %s",
                        [n % 199],
                    )
                    connection.execute("DELETE FROM orders WHERE id = %s", [n - 20])
                    connection.execute("UPDATE notes SET text = text || '.' WHERE n = %s", [n % 5000])
                n += 41

    service = pipeline.start()
    writer = threading.Thread(target=load)
    writer.start()
    try:
        for _ in range(8):
            over.wait(chance.uniform(0.3, 2.0))
            pipeline.kill(chance.choice(["ingest", "deliver:warehouse", "deliver:eu"]))
    finally:
        over.set()
        writer.join()
    assert service.poll() is None, pipeline.log
    end = source.rows("SELECT count(*) FROM orders")[0][0]

    def caught_up() -> bool:
        status = pipeline.status()
        there = store.rows("SELECT to_regclass('sales.orders') IS NOT NULL")[0][0]
        return all(sink["state"] == "running" and sink["lag_batches"] == 0 for sink in status["sinks"].values()) and (
            there
            and store.rows("SELECT count(*) FROM sales.orders")[0][0]
            == source.rows("SELECT count(*) FROM orders WHERE region = 'EU'")[0][0]
        )

    wait_for(caught_up, message=lambda: f"the sinks to catch up with {end} orders\n{pipeline.status()}\n{pipeline.log[-3000:]}")
    assert pipeline.stop(service) == 0
    pipeline.sync()
    _same(pipeline, source, store)
    assert pipeline.verify()["conserved"] is True


def test_a_sink_that_is_away_delays_nobody_and_catches_up(shop: Shop, launch_postgres: object) -> None:
    pipeline, source, _ = shop
    assert callable(launch_postgres)
    away = launch_postgres(18)
    pipeline.write(_FILE.format(source=source.dsn, sink=away.dsn))
    _fill(source, 1, 100)
    pipeline.sync()
    away.stop("fast")
    service = pipeline.start()
    _fill(source, 101, 300)
    wait_for(lambda: pipeline.duckdb("SELECT count(*) FROM orders") == [(300,)], message=lambda: f"the warehouse\n{pipeline.log[-3000:]}")
    wait_for(lambda: pipeline.status()["sinks"]["eu"]["state"] == "retrying", message="the sink that is away to be named")
    away.start()

    def back() -> bool:
        with away.connect() as connection:
            counted: list[tuple[int]] = connection.execute("SELECT count(*) FROM sales.notes").fetchall()
            return counted == [(300,)]

    wait_for(back, message=lambda: f"the store to catch up\n{pipeline.log[-3000:]}")
    assert pipeline.stop(service) == 0


def test_two_runs_of_one_pipeline_are_refused(shop: Shop) -> None:
    pipeline, source, _ = shop
    _fill(source, 1, 10)
    service = pipeline.start()
    wait_for(lambda: pipeline.processes("ingest"), message="the service")
    second = pipeline.sluice("run", str(pipeline.file))
    assert second.code == 1
    assert "already" in second.err
    assert pipeline.stop(service) == 0


def test_no_password_is_ever_shown(shop: Shop, tmp_path: Path) -> None:
    from tests.fix_postgres import PASSWORD

    pipeline, source, _ = shop
    _fill(source, 1, 10)
    done = pipeline.sluice("sync", str(pipeline.file), "-v")
    wrong = pipeline.write(pipeline.file.read_text().replace(PASSWORD, "not-the-" + PASSWORD), "wrong.yaml")
    refused = pipeline.sluice("sync", str(wrong), "-v")
    assert done.code == 0, done.err
    assert refused.code == 2, refused.err
    assert PASSWORD not in done.out + done.err + refused.out + refused.err
    state = b"".join(path.read_bytes() for path in pipeline.state.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in state
