"""The life of bad records where the journal is in Kafka: owners act from any machine, whoever runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database
from tests.kafka_place import Kafka
from tests.waiting import wait_for

_CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true}
      - {name: email, logicalType: string, classification: restricted}
      - {name: amount, logicalType: number, physicalType: "numeric(12,2)", logicalTypeOptions: {minimum: 0}}
"""
_PIPELINE = """
pipeline: shop
state: {state}
journal: {{type: kafka, bootstrap_servers: "{servers}", prefix: {prefix}}}
sources:
  portal: {{type: postgres, dsn: "{dsn}", tables: [public.orders]}}
datasets:
  orders: {{from: portal.public.orders, contract: orders.odcs.yaml}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""
_KEY = "a key that both machines know"


class Owners:
    """One pipeline seen from two machines that share nothing but the brokers and a key."""

    def __init__(self, pipeline: PipelineUnderTest, source: Database) -> None:
        self.pipeline = pipeline
        self.source = source

    def ask(self, *words: str, elsewhere: bool = False, code: int = 0) -> Any:
        group, step, *rest = words
        file = self.pipeline.folder / ("twin.yaml" if elsewhere else "pipeline.yaml")
        done = self.pipeline.sluice(group, step, str(file), *rest, "--json", SLUICE_ENCRYPTION_KEY=_KEY)
        assert done.code == code, f"{done.out}\n{done.err}"
        return done.json

    def statuses(self, *, elsewhere: bool = False) -> list[str]:
        return [record["status"] for record in self.ask("quarantine", "list", elsewhere=elsewhere)]

    def held(self) -> list[tuple[Any, ...]]:
        return self.pipeline.duckdb("SELECT id, amount::text FROM orders ORDER BY id")


@pytest.fixture
def owners(make_pipeline: MakePipeline, database18: Database, kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> Owners:
    monkeypatch.setenv("SLUICE_ENCRYPTION_KEY", _KEY)
    source = database18
    source.execute("CREATE TABLE orders (id bigint PRIMARY KEY, email text, amount numeric(12,2))")
    source.execute("INSERT INTO orders VALUES (1, 'ann@example.com', 1), (2, 'bo@example.com', -2), (3, 'cy@example.com', -3)")
    told = {"servers": kafka.bootstrap_servers, "prefix": kafka.prefix, "dsn": source.dsn}
    pipeline = make_pipeline(_PIPELINE.format(state="here", **told))
    pipeline.write(_PIPELINE.format(state="there", **told), "twin.yaml")
    pipeline.write(_CONTRACT, "orders.odcs.yaml")
    return Owners(pipeline, source)


def test_records_are_mended_from_a_machine_where_nothing_runs(owners: Owners) -> None:
    owners.pipeline.sync()
    assert owners.statuses(elsewhere=True) == ["open", "open"]
    second, third = (record["id"] for record in owners.ask("quarantine", "list"))
    running = owners.pipeline.start()
    wait_for(lambda: owners.pipeline.status()["sources"]["portal"]["state"] == "streaming", message="ingest to stream")
    assert owners.ask("quarantine", "fix", second, "--set", "amount=2", "--by", "ann", elsewhere=True)["fixed"] == 1
    owners.ask("quarantine", "approve", second, "--by", "ann", elsewhere=True, code=1)
    owners.ask("quarantine", "approve", second, "--by", "bo", elsewhere=True)
    assert owners.ask("quarantine", "replay", second, "--wait", elsewhere=True)["resolved"] == 1
    assert owners.pipeline.stop(running) == 0
    assert "died" not in owners.pipeline.log

    owners.ask("quarantine", "fix", third, "--expr", "amount=-amount", "--by", "bo")
    owners.ask("quarantine", "approve", third, "--by", "ann", elsewhere=True)
    assert owners.ask("quarantine", "replay", third, "--wait")["resolved"] == 1
    assert owners.held() == [(1, "1.00"), (2, "2.00"), (3, "3.00")]
    for elsewhere in (False, True):
        assert owners.statuses(elsewhere=elsewhere) == ["resolved", "resolved"]
        assert owners.ask("audit", "verify", elsewhere=elsewhere)["sound"] is True
    owners.pipeline.sync()
    assert owners.pipeline.verify()["conserved"] is True
    assert owners.held() == [(1, "1.00"), (2, "2.00"), (3, "3.00")]
