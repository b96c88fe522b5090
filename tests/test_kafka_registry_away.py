"""A schema registry that is away: its source waits and says so, `sync` only for so long, and nobody else waits with it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import structlog

from journal.schema_registry import SchemaRegistry
from pipeline.errors import TransientError
from sources.records.base import DecodeOptions, Field, Payload, RecordSchema, RegistryOptions, make_decoder
from tests.fake_registry import FakeRegistry, fake_registry
from tests.fix_pipeline import MakePipeline
from tests.kafka_following import following
from tests.kafka_place import Kafka
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(120)

_SCHEMA = {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]}

_FILE = """
pipeline: shop
state: .sluice
sources:
  a:
    type: kafka
    bootstrap_servers: "{servers}"
    topic: {a}
    format: avro
    schema_registry: {{url: "{url}"}}
    schema: {{id: bigint, name: text}}
  b: {{type: kafka, bootstrap_servers: "{servers}", topic: {b}, format: json, schema: {{id: bigint}}}}
datasets:
  orders: {{from: a, key: [id]}}
  items: {{from: b, key: [id]}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""


def _orders(registry: FakeRegistry) -> list[bytes]:
    registry.add(7, _SCHEMA)
    return [registry.message(7, {"id": n, "name": f"order {n}"}) for n in range(3)]


def test_that_brokers_answer_is_no_news_for_who_waits_for_a_registry(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    with fake_registry() as registry, structlog.testing.capture_logs() as logs:
        kafka.produce(topic, _orders(registry))
        registry.away = True
        with following(kafka.plain, topic, tmp_path, format="avro", schema_registry={"url": registry.options.url}) as read:
            status = read.source.status
            wait_for(lambda: not read.step(0.05) and status().state == "retrying", message="the registry to be missed")
            seen, until = set(), time.monotonic() + 5  # in which the brokers are asked more than once
            while time.monotonic() < until:
                read.step(0.1)
                seen.add((status().state, registry.options.url in (status().error or "")))
            assert seen == {("retrying", True)}
            registry.away = False
            assert len(read.until(3).rows) == 3
            assert status().state == "streaming"
            assert status().error is None
    assert not [line for line in logs if "stamina" in line["event"]]
    assert "brokers are back" not in {line["event"] for line in logs}


def test_a_password_in_the_address_of_a_registry_is_in_no_error_and_in_no_reason() -> None:
    with fake_registry() as registry:
        url = registry.options.url.replace("//", "//me:hunter2@") + "/?token=hunter2"
        options = RegistryOptions(url, password="hunter2")
        decoder = make_decoder("avro", RecordSchema((Field("id", "bigint"),)), DecodeOptions(registry=options))
        (defect,) = decoder.decode([Payload(None, b"\0\0\0\0\7\2", ())]).defects
        assert "has no schema with the id 7" in defect.message
        assert registry.options.url in defect.message
        asked = SchemaRegistry(options)
        registry.away = True
        with pytest.raises(TransientError, match="cannot be reached") as found:
            asked.described(8)
    assert "hunter2" not in defect.message + str(found.value) + repr(options) + repr(decoder.options)


def test_sync_gives_up_waiting_for_a_registry_and_its_neighbours_arrive(kafka: Kafka, make_pipeline: MakePipeline) -> None:
    topics = {name: kafka.make_topic(1) for name in "ab"}
    with fake_registry() as registry:
        kafka.produce(topics["a"], _orders(registry))
        kafka.produce(topics["b"], ['{"id": 1}'])
        registry.away = True
        pipeline = make_pipeline(_FILE.format(servers=kafka.bootstrap_servers, url=registry.options.url, **topics))
        done = pipeline.sync("--timeout", "5", code=1)
        assert "the schema registry" in done.out + done.err
        assert pipeline.duckdb("SELECT id FROM items") == [(1,)]
        registry.away = False
        pipeline.sync()
    assert pipeline.duckdb("SELECT count(*) FROM orders") == [(3,)]
    assert pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json == []
