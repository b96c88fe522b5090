"""Topics on a real broker into a DuckDB warehouse, through the commands that people use."""

from __future__ import annotations

import io
import json
import struct
import threading
from typing import Any

import fastavro
import pytest

from tests.fix_kafka import LaunchKafka, Registry
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database
from tests.kafka_place import Kafka, Message
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(240)

_FILE = """
pipeline: shop
state: .sluice
sources:
  aws:
    type: kafka
    bootstrap_servers: {servers}
    topic: {topic}
    format: json
    schema: {{id: bigint, name: text, amount: "numeric(10,2)"}}
datasets:
  orders: {{from: aws, key: [id]}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""


def _order(n: int, amount: str = "1.50") -> Message:
    return Message(f'{{"id": {n}, "name": "order {n}", "amount": {amount}}}', key=str(n))


def _rows(pipeline: PipelineUnderTest) -> list[tuple[Any, ...]]:
    return pipeline.duckdb("SELECT id, name, amount::text FROM orders ORDER BY id")


def _expected(ids: range) -> list[tuple[Any, ...]]:
    return [(n, f"order {n}", "1.50") for n in ids]


def test_one_bad_message_among_ten_thousand_is_held_back_alone_and_tombstones_delete(kafka: Kafka, make_pipeline: MakePipeline) -> None:
    topic = kafka.make_topic(3)
    messages = [_order(n) for n in range(10_000)]
    bad = Message(b'{"id": 5000, "name": "\xff"}', key="5000", headers=[("trace", b"abc")])
    kafka.produce(topic, [*messages[:5000], bad, *messages[5001:], Message(None, key="7"), _order(8, "2.25")])
    pipeline = make_pipeline(_FILE.format(servers=kafka.bootstrap_servers, topic=topic))
    pipeline.sync()
    wanted = [(n, name, "2.25" if n == 8 else amount) for n, name, amount in _expected(range(10_000)) if n not in (7, 5000)]
    assert _rows(pipeline) == wanted
    (held,) = pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json
    assert held["position"].keys() == {"topic", "partition", "offset"}
    assert "UTF-8" in held["reasons"][0]["message"]
    shown = pipeline.sluice("quarantine", "show", str(pipeline.file), held["id"], "--json").json
    assert shown["raw"]["key"] == "NTAwMA=="
    assert shown["raw"]["headers"] == [["trace", "YWJj"]]
    status = pipeline.status()
    assert status["datasets"]["orders"] == {"in": 10_002, "quarantined": 1, "dropped": 0, "warned": 0, "open_quarantine": 1, "incidents": 0}
    assert status["sources"]["aws"]["lag_messages"] == 0
    answer = pipeline.verify()
    assert answer["conserved"] is True
    found = answer["datasets"]["orders"]["warehouse"]
    assert (found["compared"], found["source_rows"], found["sink_rows"], found["quarantined"]) == (False, 10_002, 9_998, 1)
    refused = pipeline.sluice("snapshot", str(pipeline.file), "--table", "orders")
    assert refused.code == 2
    assert "resync" in refused.err


_FORMATS = """
pipeline: shop
state: .sluice
sources:
  a: {{type: kafka, bootstrap_servers: "{servers}", topic: {a}, format: cloudevents, schema: {{id: bigint, at: timestamptz}}}}
  b:
    type: kafka
    bootstrap_servers: "{servers}"
    topic: {b}
    format: avro
    schema_registry: {{url: "{registry}"}}
    schema: {{id: bigint, name: text}}
  c: {{type: kafka, bootstrap_servers: "{servers}", topic: {c}, format: debezium, schema: {{id: bigint, name: text}}}}
  d: {{type: kafka, bootstrap_servers: "{servers}", topic: {d}, format: csv, schema: {{id: bigint, name: text}}}}
datasets:
  events: {{from: a, key: [id]}}
  items: {{from: b, key: [id]}}
  customers: {{from: c, key: [id]}}
  lines: {{from: d}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""


def test_every_format_arrives(kafka: Kafka, registry: Registry, make_pipeline: MakePipeline) -> None:
    topics = {name: kafka.make_topic(1) for name in "abcd"}
    structured = {"specversion": "1.0", "id": "1", "source": "/x", "type": "t", "data": {"id": 1, "at": "2026-01-01T10:00:00Z"}}
    kafka.produce(
        topics["a"],
        [
            Message(json.dumps(structured), headers=[("content-type", b"application/cloudevents+json")]),
            Message(
                '{"id": 2, "at": "2026-01-01T11:00:00+01:00"}',
                headers=[
                    ("ce_specversion", b"1.0"),
                    ("ce_id", b"2"),
                    ("ce_source", b"/x"),
                    ("ce_type", b"t"),
                    ("content-type", b"application/json"),
                ],
            ),
        ],
    )
    schema = {"type": "record", "name": "Item", "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}]}
    number = registry.register(f"{registry.prefix}-value", json.dumps(schema))
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, {"id": 5, "name": "five"})
    kafka.produce(topics["b"], [b"\0" + struct.pack(">I", number) + body.getvalue(), b"\1not avro"])
    changes = [
        ("c", None, {"id": 1, "name": "a"}),
        ("c", None, {"id": 2, "name": "b"}),
        ("u", {"id": 1, "name": "a"}, {"id": 1, "name": "z"}),
        ("d", {"id": 2, "name": "b"}, None),
    ]
    kafka.produce(topics["c"], [Message(json.dumps({"op": op, "before": old, "after": new})) for op, old, new in changes])
    kafka.produce(topics["d"], ['1,"a ""quoted"", name"', "2,", "x,y,z"])
    pipeline = make_pipeline(_FORMATS.format(servers=kafka.bootstrap_servers, registry=registry.url, **topics))
    pipeline.sync()
    assert pipeline.duckdb('SELECT id, epoch("at")::bigint FROM events ORDER BY id') == [(1, 1767261600), (2, 1767261600)]
    assert pipeline.duckdb("SELECT id, name FROM items") == [(5, "five")]
    assert pipeline.duckdb("SELECT id, name FROM customers") == [(1, "z")]
    assert pipeline.duckdb("SELECT id, name FROM lines ORDER BY id") == [(1, 'a "quoted", name'), (2, None)]
    held = pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json
    assert sorted(one["dataset"] for one in held) == ["items", "lines"]


def test_nothing_is_lost_or_doubled_when_ingest_is_killed_under_load(kafka: Kafka, make_pipeline: MakePipeline) -> None:
    topic = kafka.make_topic(4)
    text = _FILE.format(servers=kafka.bootstrap_servers, topic=topic).replace(", key: [id]", "")  # without a key doubles would show
    pipeline = make_pipeline(text)
    service = pipeline.start()
    over = threading.Event()
    written = [0]

    def load() -> None:
        while not over.is_set():
            first = written[0]
            kafka.produce(topic, [_order(n) for n in range(first, first + 200)])
            written[0] = first + 200

    writer = threading.Thread(target=load)
    writer.start()
    try:
        for pause in (0.5, 1.1, 0.2):
            pipeline.kill("ingest")
            over.wait(pause)
    finally:
        over.set()
        writer.join()
    assert service.poll() is None, pipeline.log
    assert pipeline.stop(service) == 0
    pipeline.sync()
    assert _rows(pipeline) == _expected(range(written[0]))
    assert pipeline.verify()["conserved"] is True


def test_a_topic_that_was_made_again_stops_its_source_alone_until_resync(
    kafka: Kafka, database18: Database, make_pipeline: MakePipeline
) -> None:
    database = database18
    database.execute("CREATE TABLE notes (id int PRIMARY KEY)", "INSERT INTO notes VALUES (1)")
    topic = kafka.make_topic(1)
    kafka.produce(topic, [_order(n) for n in range(10)])
    text = _FILE.format(servers=kafka.bootstrap_servers, topic=topic)
    portal = f'sources:\n  portal: {{type: postgres, dsn: "{database.dsn}", tables: [public.notes]}}\n'
    pipeline = make_pipeline(text.replace("sources:\n", portal))
    pipeline.sync()
    kafka.delete_topic(topic)
    kafka.make_topic(1, name=topic)
    kafka.produce(topic, [_order(n) for n in range(100, 150)])
    database.execute("INSERT INTO notes VALUES (2)")
    done = pipeline.sync(code=1)
    said = done.err + done.out
    assert topic in said
    assert "made again" in said
    assert "resync" in said
    assert pipeline.duckdb("SELECT count(*) FROM notes") == [(2,)], "its neighbour goes on"
    assert len(_rows(pipeline)) == 10
    assert "earliest" in pipeline.sluice("resync", str(pipeline.file), "--yes").out
    pipeline.sync()
    assert _rows(pipeline) == _expected(range(10)) + _expected(range(100, 150))


def test_a_sink_that_is_added_gets_what_the_topic_holds(kafka: Kafka, make_pipeline: MakePipeline) -> None:
    topic = kafka.make_topic(2)
    text = _FILE.format(servers=kafka.bootstrap_servers, topic=topic)
    pipeline = make_pipeline(text)
    kafka.produce(topic, [_order(n) for n in range(100)])
    pipeline.sync()
    kafka.produce(topic, [_order(n) for n in range(100, 110)])
    pipeline.sync()
    pipeline.write(text + "  late: {type: duckdb, path: late.duckdb}\n")
    pipeline.sync()
    assert pipeline.duckdb("SELECT id, name, amount::text FROM orders ORDER BY id", "late.duckdb") == _expected(range(110))
    assert pipeline.status()["datasets"]["orders"]["in"] == 110


def test_sync_waits_for_a_broker_that_is_started_late_and_a_missing_topic_stops_nobody_else(
    launch_kafka: LaunchKafka, kafka: Kafka, make_pipeline: MakePipeline
) -> None:
    own = launch_kafka()
    topic, there = own.make_topic(1), kafka.make_topic(1)
    own.produce(topic, [_order(n) for n in range(5)])
    kafka.produce(there, [_order(n) for n in range(5)])
    own.server.stop()
    late = make_pipeline(_FILE.format(servers=own.bootstrap_servers, topic=topic))
    starting = threading.Timer(1.0, own.server.start)
    starting.start()
    late.sync()
    starting.join()
    assert _rows(late) == _expected(range(5))

    wrong = "datasets:\n  gone: {from: gone}\n"
    block = f"{{type: kafka, bootstrap_servers: '{kafka.bootstrap_servers}', topic: {there}.not, format: json, schema: {{a: text}}}}"
    gone = f"sources:\n  gone: {block}\n"
    text = _FILE.format(servers=kafka.bootstrap_servers, topic=there)
    pipeline = make_pipeline(text.replace("sources:\n", gone).replace("datasets:\n", wrong))
    done = pipeline.sync(code=2)
    assert f"{there}.not" in done.err + done.out
    assert _rows(pipeline) == _expected(range(5))


def test_a_service_lives_through_a_restart_of_its_broker(launch_kafka: LaunchKafka, make_pipeline: MakePipeline) -> None:
    kafka = launch_kafka()
    topic = kafka.make_topic(2)
    pipeline = make_pipeline(_FILE.format(servers=kafka.bootstrap_servers, topic=topic))
    service = pipeline.start()
    kafka.produce(topic, [_order(n) for n in range(100)])
    wait_for(lambda: pipeline.duckdb("SELECT count(*) FROM orders") == [(100,)], message=lambda: pipeline.log[-3000:])
    kafka.server.kill()
    wait_for(lambda: pipeline.status()["sources"]["aws"]["state"] == "retrying", message=lambda: pipeline.log[-3000:])
    kafka.server.start()
    kafka.produce(topic, [_order(n) for n in range(100, 200)])
    wait_for(lambda: pipeline.duckdb("SELECT count(*) FROM orders") == [(200,)], message=lambda: pipeline.log[-3000:])
    assert pipeline.stop(service) == 0
    assert _rows(pipeline) == _expected(range(200))
