"""Workers with topics around them: a Kafka sink that they share, and a journal in Kafka that they read."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from examples.free_ports import free_port
from journal.state import State
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database, MakeDatabase
from tests.kafka_place import Kafka
from tests.scale_place import Shop
from tests.test_workers import live, pids
from tests.waiting import wait_for

_SINKS = """
pipeline: shop
state: .sluice
journal: {{type: kafka, bootstrap_servers: "127.0.0.1:1", partitions: 8, retention: 0s}}
sources:
  portal: {{type: postgres, dsn: "host=nowhere.invalid", tables: [public.orders, public.moves]}}
sinks:
  one:
    type: kafka
    bootstrap_servers: "{servers}"
    datasets: {{orders: {{topic: "{prefix}.one"}}, moves: {{topic: "{prefix}.two"}}}}
  eu:
    type: kafka
    bootstrap_servers: "{servers}"
    datasets: {{orders: {{topic: "{prefix}.three"}}, moves: {{topic: "{prefix}.four"}}}}
"""


@pytest.fixture
def shop(kafka: Kafka, make_pipeline: MakePipeline) -> Iterator[Shop]:
    text = _SINKS.format(servers=kafka.bootstrap_servers, prefix=kafka.prefix).replace("pipeline: shop", f"pipeline: shop-{kafka.prefix}")
    made = Shop(make_pipeline(text), name=f"shop-{kafka.prefix}")
    yield made
    made.close()


def told(kafka: Kafka, topic: str) -> dict[bytes | None, list[tuple[str, bytes | None]]]:
    """Of each key everything that was told, in its order."""
    found = defaultdict(list)
    for message in kafka.consume(f"{kafka.prefix}.{topic}"):
        found[message.key].append((str(dict(message.headers)["sluice-position"]), message.value))
    return dict(found)


def test_workers_tell_of_every_key_what_one_process_tells_though_they_are_killed(shop: Shop, kafka: Kafka) -> None:
    alone = shop.pipeline.start("--only", "deliver:one")
    together = shop.pipeline.start("--only", "deliver:eu", "--workers", "2")

    def harm(round_: int) -> None:
        if round_ % 5 == 3:
            alive = wait_for(lambda: pids(shop.pipeline), message="workers")
            with suppress(ProcessLookupError):
                os.kill(shop.random.choice(alive), signal.SIGKILL)
        seq = shop.journal.commit("portal", "x")
        with closing(State.open(shop.pipeline.state)) as state:
            wait_for(lambda: (eu := state.sinks().get("eu")) and eu.seq >= seq - 40, message=lambda: shop.pipeline.log[-3000:])

    live(shop, 12, harm)
    same(shop, kafka)
    assert shop.pipeline.stop(together) == 0
    together = shop.pipeline.start("--only", "deliver:eu")  # one process, from where they were
    live(shop, 3)
    same(shop, kafka)
    assert shop.pipeline.stop(alone) == 0
    assert shop.pipeline.stop(together) == 0


def same(shop: Shop, kafka: Kafka) -> None:
    """Waits for both sinks, and compares what they have told."""
    last = shop.journal.commit("portal", "y")
    with closing(State.open(shop.pipeline.state)) as state:
        wait_for(
            lambda: [state.sinks()[name].seq for name in ("one", "eu") if name in state.sinks()] == [last, last],
            message=lambda: f"{last}: {state.sinks()}\n{shop.pipeline.log[-5000:]}",
        )
    assert told(kafka, "three") == told(kafka, "one")
    assert told(kafka, "four") == told(kafka, "two")


_WHOLE = """
pipeline: {name}
state: {state}
journal: {{type: kafka, bootstrap_servers: "{servers}", prefix: "{name}", partitions: 4, retention: 0s}}
sources:
  portal: {{type: postgres, dsn: "{source}", tables: [public.orders, public.notes]}}
sinks:
  eu: {{type: postgres, dsn: "{sink}"}}
"""


def test_two_machines_share_a_sink_of_a_pipeline_with_its_journal_in_kafka(
    kafka: Kafka, database18: Database, make_database: MakeDatabase, make_pipeline: MakePipeline
) -> None:
    database18.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, region text)",
        "CREATE TABLE notes (author int, n int, text text, PRIMARY KEY (author, n))",
        "INSERT INTO orders SELECT n, 'EU' FROM generate_series(1, 5000) n",
    )
    store = make_database(database18.server)
    places = {"servers": kafka.bootstrap_servers, "name": kafka.prefix, "source": database18.dsn, "sink": store.dsn}
    here = make_pipeline(_WHOLE.format(state=".sluice", **places))
    there = make_pipeline(_WHOLE.format(state=".sluice", **places))
    ingest = here.start("--only", "ingest")
    both = ["--only", "deliver:eu", "--addresses", f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}", "--process"]
    workers = [here.start(*both, "0"), there.start(*both, "1")]

    def there_yet() -> bool:
        queries = ["SELECT id, region FROM orders ORDER BY 1", "SELECT author, n, text FROM notes ORDER BY 1, 2"]
        known = {name for (name,) in store.rows("SELECT tablename FROM pg_tables")}
        return {"orders", "notes"} <= known and all(store.rows(query) == database18.rows(query) for query in queries)

    def settled() -> None:
        wait_for(there_yet, message=lambda: f"the source's rows\n{here.log[-4000:]}\n{there.log[-4000:]}")

    settled()
    database18.execute("INSERT INTO notes SELECT n % 7, n, 'note ' || n FROM generate_series(1, 3000) n")
    database18.execute("UPDATE orders SET id = id + 100000 WHERE id % 3 = 0")
    database18.execute("ALTER TABLE orders ADD COLUMN more text DEFAULT 'x'", "UPDATE orders SET region = 'US' WHERE id % 5 = 0")
    database18.execute("DELETE FROM notes WHERE n % 2 = 0")
    settled()
    workers[1].kill()
    database18.execute("UPDATE orders SET region = 'none'")
    assert workers[0].wait(60) == 75  # none outlives another; whoever keeps them starts them again
    workers[1].wait()
    database18.execute("TRUNCATE notes", "INSERT INTO notes VALUES (1, 1, 'after')")
    workers = [here.start(*both, "0"), there.start(*both, "1")]
    settled()
    found = here.verify()
    assert found["conserved"], found
    assert [found["datasets"][name]["eu"][what] for name in ("orders", "notes") for what in ("missing", "extra", "different")] == [0] * 6
    status = here.status()["sinks"]["eu"]
    assert [worker["worker"] for worker in status["workers"]] == [0, 1]
    for process in (*workers, ingest):
        process.terminate()
    assert [process.wait(60) for process in (*workers, ingest)] == [0, 0, 0]
