"""A dataset of which nothing has come yet has its tables nevertheless: a topic that is empty, or holds nothing that can be taken."""

from __future__ import annotations

import pytest

from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database
from tests.kafka_place import Kafka, Message

pytestmark = pytest.mark.timeout(120)

_FILE = """
pipeline: shop
state: .sluice
sources:
  empty: {{type: kafka, bootstrap_servers: "{servers}", topic: {empty}, format: json, schema: {{id: bigint, name: text}}}}
  bad: {{type: kafka, bootstrap_servers: "{servers}", topic: {bad}, format: json, schema: {{id: bigint, name: text}}}}
  mapped: {{type: kafka, bootstrap_servers: "{servers}", topic: {mapped}, format: json, schema: {{no: bigint}}}}
datasets:
  nothing: {{from: empty, key: [id]}}
  spoiled: {{from: bad, key: [id]}}
  canonical: {{from: [{{source: mapped, map: map.sql}}], key: [id]}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
  eu: {{type: postgres, dsn: "{dsn}"}}
"""


def test_sinks_have_the_tables_of_topics_of_which_nothing_can_be_taken(
    kafka: Kafka, database18: Database, make_pipeline: MakePipeline
) -> None:
    topics = {name: kafka.make_topic(2) for name in ("empty", "bad", "mapped")}
    kafka.produce(topics["bad"], [Message("no json", key="1"), Message(None, key="neither")])
    pipeline = make_pipeline(_FILE.format(servers=kafka.bootstrap_servers, dsn=database18.dsn, **topics))
    pipeline.write("SELECT no AS id, 'x' AS name FROM input", "map.sql")
    pipeline.sync()
    for table in ("nothing", "spoiled", "canonical"):
        assert pipeline.duckdb(f"SELECT id, name FROM {table}") == []
        assert database18.rows(f"SELECT id, name FROM {table}") == []
    planned = pipeline.sluice("plan", str(pipeline.file)).out
    assert "CREATE" not in planned
    kafka.produce(topics["mapped"], ['{"no": 7}'])
    kafka.produce(topics["empty"], [Message('{"id": 1, "name": "a"}', key="1")])
    pipeline.sync()
    assert pipeline.duckdb("SELECT id, name FROM canonical") == [(7, "x")]
    assert pipeline.duckdb("SELECT id, name FROM nothing") == [(1, "a")]
    assert pipeline.verify()["conserved"] is True
