"""One pipeline on two machines, which are two state folders here: what runs on one is known on the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from cli.standing import standing
from journal.store import FILE
from pipeline.load import load_pipeline
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database, MakeDatabase
from tests.kafka_place import Kafka
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: shop
state: {state}
journal: {{type: kafka, bootstrap_servers: "{servers}", prefix: "{prefix}", partitions: 2, retention: 0s}}
sources:
  portal: {{type: postgres, dsn: "{source}", tables: [public.orders], slot: shop_slot}}
sinks:
  warehouse: {{type: duckdb, path: {state}/warehouse.duckdb}}
"""
_EU = """
  eu: {{type: postgres, dsn: "{sink}", schema: sales}}
"""
_ORDERS = "SELECT id, amount::text FROM {} ORDER BY id"


class Shop:
    """A pipeline with a sink here and one there, as both machines have its file."""

    def __init__(self, kafka: Kafka, source: Database, store: Database, make_pipeline: MakePipeline) -> None:
        self.source = source
        self.store = store
        self._names = {"servers": kafka.bootstrap_servers, "prefix": kafka.prefix, "source": source.dsn, "sink": store.dsn}
        source.execute("CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(12,2))")
        self.pipeline = make_pipeline("")
        self.write(_FILE + _EU)

    def write(self, text: str) -> None:
        self.pipeline.write(text.format(state=".sluice", **self._names))
        self.there = self.pipeline.write(text.format(state=".there", **self._names), "there.yaml")

    def fill(self, first: int, last: int) -> None:
        self.source.execute(f"INSERT INTO orders SELECT n, n * 1.5 FROM generate_series({first}, {last}) n")

    def fed(self) -> bool:
        if self.store.rows("SELECT to_regclass('sales.orders')::text")[0][0] is None:
            return False
        return self.store.rows(_ORDERS.format("sales.orders")) == self.source.rows(_ORDERS.format("orders"))

    def entries(self) -> int:
        """How many entries the copy of the journal here has."""
        with closing(sqlite3.connect(self.pipeline.state / FILE)) as db:
            found: int = db.execute("select count(*) from entry").fetchone()[0]
            return found

    def status(self) -> Any:
        """What `sluice status --json` says here."""
        return standing(load_pipeline(self.pipeline.file))

    def states(self) -> list[dict[str, Any]]:
        """What both machines say of all, but for what changes from moment to moment."""
        return [
            {
                "sinks": {name: (sink["state"], sink["datasets"], sink["machines"]) for name, sink in answer["sinks"].items()},
                "source": answer["sources"]["portal"]["state"],
                "running": answer["running"],
                "datasets": answer["datasets"],
            }
            for answer in (self.status(), standing(load_pipeline(self.there)))
        ]

    def agreed(self, wanted: Callable[[dict[str, Any]], bool]) -> Callable[[], bool]:
        def agree() -> bool:
            here, there = self.states()
            return here == there and wanted(here)

        return agree


@pytest.fixture
def shop(kafka: Kafka, database18: Database, make_database: MakeDatabase, make_pipeline: MakePipeline) -> Shop:
    return Shop(kafka, database18, make_database(database18.server), make_pipeline)


def test_a_sink_of_another_machine_is_known_here_whoever_is_killed(shop: Shop) -> None:
    pipeline = shop.pipeline
    shop.fill(1, 300)
    ingest = pipeline.start("--only", "ingest")
    warehouse = pipeline.start("--only", "deliver:warehouse")
    eu = pipeline.start("--only", "deliver:eu", file=shop.there)
    wait_for(shop.fed, message="the other machine to deliver the copy")
    wait_for(lambda: shop.entries() == 0, message="ingest to forget what all sinks have")
    wait_for(shop.agreed(lambda here: bool(here["sinks"]["eu"][0] == "running" and here["source"] == "streaming")), message="both to agree")
    assert shop.states()[0]["sinks"]["eu"][1]["orders"]["delivered"] == 300

    shop.store.execute("ALTER TABLE sales.orders ADD CHECK (amount < 1000000)")
    shop.source.execute("INSERT INTO orders VALUES (1000, 5000000)")

    wait_for(lambda: shop.status()["datasets"]["orders"]["open_quarantine"] == 1, message="what the other machine's sink refused")
    listed = pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json
    assert [(record["sink"], str(record["key"]["id"])) for record in listed] == [("eu", "1000")]
    shop.source.execute("DELETE FROM orders WHERE id = 1000")

    eu.kill()
    eu.wait()
    ingest.kill()
    ingest.wait()
    shop.fill(301, 600)
    ingest = pipeline.start("--only", "ingest")
    eu = pipeline.start("--only", "deliver:eu", file=shop.there)
    wait_for(shop.fed, message="both to go on")
    wait_for(lambda: shop.entries() == 0, message="ingest to forget again")
    wait_for(shop.agreed(lambda here: bool(here["sinks"]["eu"][0] == "running")), message="both to agree again")

    assert [pipeline.stop(process) for process in (eu, warehouse, ingest)] == [0, 0, 0]
    here, there = shop.states()
    assert here == there
    assert here["running"] is False
    assert pipeline.status()["sinks"]["eu"]["datasets"] == here["sinks"]["eu"][1]
    for path in pipeline.state.glob("state.db*"):
        path.unlink()
    assert shop.states()[0] == there
    assert pipeline.verify()["conserved"] is True


def test_a_late_sink_on_another_machine_gets_its_copy(shop: Shop) -> None:
    pipeline = shop.pipeline
    shop.write(_FILE)
    shop.fill(1, 300)
    first = pipeline.start()
    wait_for(lambda: (pipeline.state / FILE).exists() and shop.status()["sources"]["portal"]["state"] == "streaming", message="the copy")
    wait_for(lambda: shop.status()["datasets"].get("orders", {}).get("in") == 300 and shop.entries() == 0, message="it to be forgotten")
    assert pipeline.stop(first) == 0
    shop.write(_FILE + _EU)
    running = [pipeline.start("--only", "ingest"), pipeline.start("--only", "deliver:warehouse")]
    eu = pipeline.start("--only", "deliver:eu", file=shop.there)
    wait_for(shop.fed, message="the late sink to get its copy")
    shop.fill(301, 310)
    wait_for(shop.fed, message="the late sink to get what is new")
    asked = pipeline.sluice("snapshot", str(shop.there), "--table", "public.orders", "--sink", "eu")
    assert asked.code == 0, asked.err
    wait_for(lambda: shop.status()["sinks"]["eu"]["waiting_for_copy"] == [], message="the copy that was asked for there")
    wait_for(shop.fed, message="the sink to hold it")
    assert [pipeline.stop(process) for process in (eu, *running)] == [0, 0, 0]
