"""Whole pipelines whose journal is in topics: processes that are killed, brokers that go away, and processes of other machines."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fix_kafka import LaunchKafka
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database, MakeDatabase
from tests.kafka_place import Kafka
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: shop
state: {state}
journal: {{type: kafka, bootstrap_servers: "{servers}", prefix: "{prefix}", partitions: 4}}
sources:
  portal: {{type: postgres, dsn: "{source}", tables: [public.orders], slot: shop_slot}}
sinks:
  warehouse: {{type: duckdb, path: {state}/warehouse.duckdb}}
  eu: {{type: postgres, dsn: "{sink}", schema: sales, datasets: {{orders: {{where: "region = 'EU'"}}}}}}
"""
_ORDERS = "SELECT id, region, amount::text FROM {} ORDER BY id"


class Shop:
    """A pipeline, its source, its regional store; and the same pipeline as another machine has it."""

    def __init__(self, kafka: Kafka, source: Database, store: Database, make_pipeline: MakePipeline) -> None:
        self.source = source
        self.store = store
        self._make = make_pipeline
        self._names = {"servers": kafka.bootstrap_servers, "prefix": kafka.prefix, "source": source.dsn, "sink": store.dsn}
        source.execute("CREATE TABLE orders (id bigint PRIMARY KEY, region text, amount numeric(10,2))")
        self.pipeline = make_pipeline(_FILE.format(state=".sluice", **self._names))
        self.twin_file = self.pipeline.write(_FILE.format(state=".twin", **self._names), "twin.yaml")

    def secured(self, options: str) -> Path:
        """The file with `options` (YAML) for the journal."""
        text = _FILE.format(state=".secured", **self._names).replace("partitions: 4", f"partitions: 4, options: {options}")
        return self.pipeline.write(text, "secured.yaml")

    def fill(self, first: int, last: int) -> None:
        self.source.execute(
            f"INSERT INTO orders SELECT n, (ARRAY['EU','US'])[1 + n % 2], n * 1.5 FROM generate_series({first}, {last}) n",
            f"UPDATE orders SET amount = amount + 1 WHERE id % 10 = 0 AND id >= {first}",
            f"UPDATE orders SET id = id + 1000000 WHERE id % 97 = 0 AND id BETWEEN {first} AND {last}",
            f"DELETE FROM orders WHERE id % 13 = 0 AND id >= {first}",
        )

    def same(self) -> bool:
        eu = self.source.rows(_ORDERS.format("orders WHERE region = 'EU'"))
        return self.store.rows(_ORDERS.format("sales.orders")) == eu and self.warehouse() == self.source.rows(_ORDERS.format("orders"))

    def warehouse(self) -> list[tuple[object, ...]]:
        return self.pipeline.duckdb(_ORDERS.format("orders"), ".sluice/warehouse.duckdb")


@pytest.fixture
def shop(kafka: Kafka, database18: Database, make_database: MakeDatabase, make_pipeline: MakePipeline) -> Shop:
    return Shop(kafka, database18, make_database(database18.server), make_pipeline)


def test_every_command_works_as_with_a_local_journal(shop: Shop, kafka: Kafka, tmp_path: Path) -> None:
    shop.fill(1, 3000)
    shop.pipeline.sync()
    assert shop.same()
    shop.fill(3001, 3500)
    shop.source.execute("TRUNCATE orders")
    shop.fill(5000, 6000)
    shop.pipeline.sync()
    assert shop.same()
    assert shop.pipeline.verify()["conserved"] is True
    topics = kafka.topics()
    assert {f"{kafka.prefix}.shop.changes", f"{kafka.prefix}.shop.state"} <= set(topics)

    elsewhere = shop.pipeline.sluice("status", str(shop.twin_file), "--json").json
    here = shop.pipeline.status()
    assert elsewhere["datasets"] == here["datasets"]
    done = shop.pipeline.sluice("quarantine", "list", str(shop.twin_file), "--json")
    assert (done.code, done.json) == (0, [])
    assert shop.pipeline.sluice("report", str(shop.twin_file), "--out", str(tmp_path / "report")).code == 0


def test_nothing_is_lost_or_doubled_whatever_is_killed(shop: Shop) -> None:
    shop.fill(1, 500)
    running = shop.pipeline.start()
    draw = random.Random(7)
    for turn in range(8):
        shop.fill(10_000 * (turn + 1), 10_000 * (turn + 1) + 700)
        victim = draw.choice(["ingest", "ingest", "deliver:warehouse", "deliver:eu"])
        wait_for(lambda only=victim: shop.pipeline.processes(only), message=f"{victim} to run")  # type: ignore[misc]
        shop.pipeline.kill(victim)
    assert shop.pipeline.stop(running) == 0
    shop.pipeline.sync()
    assert shop.same()
    assert shop.pipeline.verify()["conserved"] is True


def test_a_twin_on_another_machine_takes_over(shop: Shop) -> None:
    shop.fill(1, 500)
    first = shop.pipeline.start("--only", "ingest")
    wait_for(lambda: shop.pipeline.status()["sources"]["portal"]["state"] == "streaming", message="the first ingest to stream")
    twin = shop.pipeline.start("--only", "ingest", file=shop.twin_file)
    shop.fill(1001, 1500)
    wait_for(lambda: first.poll() is not None or twin.poll() is not None, message="one of the two to end")
    assert 0 not in {first.poll(), twin.poll()}
    assert any(word in shop.pipeline.log for word in ("fenced", "already", "another"))
    survivor = twin if first.poll() is not None else first
    assert shop.pipeline.stop(survivor) == 0
    shop.pipeline.sync()
    assert shop.same()


def test_a_machine_that_was_left_behind_catches_up(shop: Shop, kafka: Kafka) -> None:
    """Its copy of the journal lacks, when it starts, what its sinks have had from elsewhere meanwhile."""
    shop.fill(1, 200)
    shop.pipeline.sync()
    shop.fill(1001, 1200)
    elsewhere = shop.pipeline.sluice("sync", str(shop.twin_file))
    assert elsewhere.code == 0, elsewhere.err
    text = shop.pipeline.file.read_text()
    shop.pipeline.file.write_text(text.replace(kafka.bootstrap_servers, "127.0.0.1:9"))
    eu = shop.pipeline.start("--only", "deliver:eu")
    wait_for(lambda: "which is to catch up" in str(shop.pipeline.status()["sinks"]["eu"]), message="the sink to wait for the copy")
    shop.pipeline.file.write_text(text)
    assert shop.pipeline.stop(eu) == 0
    shop.pipeline.sync()
    assert shop.same()


def test_a_sink_is_fed_on_another_machine(shop: Shop) -> None:
    shop.fill(1, 500)
    ingest = shop.pipeline.start("--only", "ingest")
    eu = shop.pipeline.start("--only", "deliver:eu", file=shop.twin_file)
    wanted = "SELECT count(*) FROM {}"

    def fed() -> bool:
        there = shop.store.rows("SELECT to_regclass('sales.orders')::text")[0][0] is not None
        return there and shop.store.rows(_ORDERS.format("sales.orders")) == shop.source.rows(_ORDERS.format("orders WHERE region = 'EU'"))

    wait_for(fed, message="the other machine to deliver the copy")
    shop.fill(1001, 1500)
    wait_for(fed, message="the other machine to deliver what is new")
    assert shop.source.rows(wanted.format("orders"))[0][0] > 500
    for file in (shop.pipeline.folder / ".twin").glob("journal.db*"):  # under the process that reads it
        file.unlink()
    assert eu.wait(60) == 75
    eu = shop.pipeline.start("--only", "deliver:eu", file=shop.twin_file)
    shop.fill(2001, 2500)
    wait_for(fed, message="the other machine to deliver from a new copy")
    assert shop.pipeline.stop(eu) == 0
    assert shop.pipeline.stop(ingest) == 0


def test_brokers_that_go_away_and_come_back_are_waited_for(
    launch_kafka: LaunchKafka, database18: Database, make_database: MakeDatabase, make_pipeline: MakePipeline
) -> None:
    kafka = launch_kafka()
    shop = Shop(kafka, database18, make_database(database18.server), make_pipeline)
    shop.fill(1, 100)
    kafka.server.stop()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(shop.pipeline.sync)
        kafka.server.restart()
        waiting.result()
    assert shop.same()
    running = shop.pipeline.start()
    wait_for(lambda: shop.pipeline.status()["sources"].get("portal", {}).get("state") == "streaming", message="ingest to stream")
    kafka.server.kill()
    shop.fill(1001, 1100)
    wait_for(lambda: shop.pipeline.status()["sources"]["portal"]["state"] == "retrying", message="status to say that the journal is away")
    assert "journal" in shop.pipeline.status()["sources"]["portal"]["error"]
    kafka.server.restart()
    wait_for(lambda: shop.pipeline.status()["sources"]["portal"]["state"] == "streaming", message="ingest to go on")
    assert shop.pipeline.stop(running) == 0
    shop.pipeline.sync()
    assert shop.same()


def test_a_plan_says_which_topics_would_be_made_and_makes_nothing(shop: Shop, kafka: Kafka) -> None:
    done = shop.pipeline.sluice("plan", str(shop.pipeline.file), "--json")
    assert done.json["journal"]["actions"] == [
        f"create topic {kafka.prefix}.shop.changes (4 partitions)",
        f"create topic {kafka.prefix}.shop.state (1 partition, compacted)",
        f"create topic {kafka.prefix}.shop.status (1 partition, compacted)",
    ]
    assert kafka.topics() == []
    assert not shop.pipeline.state.exists()


def test_credentials_pass_through_and_are_never_said(shop: Shop, kafka: Kafka) -> None:
    shop.fill(1, 50)
    options = {name: value for name, value in kafka.sasl.items() if name != "bootstrap.servers"}
    written = json.dumps(options)
    file = shop.secured(written)
    file.write_text(file.read_text().replace(kafka.bootstrap_servers, kafka.sasl["bootstrap.servers"]))
    done = shop.pipeline.sluice("sync", str(file))
    assert done.code == 0, done.err
    wrong = written.replace(options["sasl.password"], "not-the-password")
    file = shop.secured(wrong)
    file.write_text(file.read_text().replace(kafka.bootstrap_servers, kafka.sasl["bootstrap.servers"]).replace(".secured", ".other"))
    refused = shop.pipeline.sluice("sync", str(file), "--timeout", "20")
    assert refused.code in (1, 2)
    assert "sasl" in refused.err.lower()
    for said in (done, refused):
        assert options["sasl.password"] not in said.out + said.err
        assert "not-the-password" not in said.out + said.err
