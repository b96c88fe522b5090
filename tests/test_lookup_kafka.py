"""A Kafka topic as a lookup, and messages that wait for their lookup: from the topic's beginning on, and through kills."""

from __future__ import annotations

import base64
import json

import pytest

from tests.fix_pipeline import MakePipeline
from tests.kafka_place import Kafka, Message
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: shop
state: .sluice
sources:
  orders:
    type: kafka
    bootstrap_servers: "{servers}"
    topic: {orders}
    format: json
    schema: {{id: bigint, product: text, qty: integer}}
  products:
    type: kafka
    bootstrap_servers: "{servers}"
    topic: {products}
    format: json
    schema: {{sku: text, name: text}}
datasets:
  orders: {{from: orders, key: [id], enrich: orders.sql}}
lookups:
  products: {{source: products, key: [sku], on_missing: wait, wait_seconds: {wait}}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb, datasets: [orders]}}
"""
_ENRICH = "SELECT input.*, p.name FROM input LEFT JOIN products AS p ON p.sku = product"


def _order(number: int, product: str, qty: object = 1) -> Message:
    headers = [("origin", b"shop")]
    return Message(json.dumps({"id": number, "product": product, "qty": qty}), key=str(number), headers=headers)


def _product(sku: str, name: str) -> Message:
    return Message(json.dumps({"sku": sku, "name": name}), key=sku)


def test_a_topic_is_a_lookup_of_another(kafka: Kafka, make_pipeline: MakePipeline) -> None:
    orders, products = kafka.make_topic(2), kafka.make_topic(3, cleanup_policy="compact")
    kafka.produce(products, [_product(f"p{n}", f"product {n}") for n in range(1000)])
    kafka.produce(products, [Message(None, key="p7"), _product("p8", "eight")])
    kafka.produce(orders, [_order(n, f"p{n % 1000}") for n in range(3000)])
    pipeline = make_pipeline(_FILE.format(servers=kafka.bootstrap_servers, orders=orders, products=products, wait=2))
    pipeline.write(_ENRICH, "orders.sql")
    checked = pipeline.sluice("check", str(pipeline.file))
    assert checked.code == 0, checked.out
    planned = pipeline.sluice("plan", str(pipeline.file))
    assert planned.code == 0, planned.out
    pipeline.sync()
    assert pipeline.duckdb("SELECT count(*), count(name), count(DISTINCT name) FROM orders") == [(2997, 2997, 999)]
    assert pipeline.duckdb("SELECT DISTINCT name FROM orders WHERE product = 'p8'") == [("eight",)]
    listed = pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json
    assert sorted((one["key"]["id"], one["reasons"][0]["rule"]) for one in listed) == [(n, "lookup:products") for n in (7, 1007, 2007)]
    shown = pipeline.sluice("quarantine", "show", str(pipeline.file), listed[0]["id"], "--json").json
    assert set(shown["position"]) == {"topic", "partition", "offset"}
    assert json.loads(base64.b64decode(shown["raw"]["value"]))["product"] == "p7"
    assert shown["raw"]["headers"] == [["origin", base64.b64encode(b"shop").decode()]]


def test_messages_wait_for_a_lookup_and_come_once_through_kills(kafka: Kafka, make_pipeline: MakePipeline) -> None:
    orders, products = kafka.make_topic(), kafka.make_topic()
    kafka.produce(products, [_product("a", "A")])
    pipeline = make_pipeline(_FILE.format(servers=kafka.bootstrap_servers, orders=orders, products=products, wait=60))
    pipeline.write(_ENRICH, "orders.sql")
    pipeline.sync()
    service = pipeline.start()
    kafka.produce(orders, [_order(1, "b"), _order(2, "a"), _order(1, "b", 5), _order(3, "b"), Message(None, key="3"), _order(4, "b", "x")])
    wait_for(lambda: pipeline.status()["datasets"].get("orders", {}).get("waiting") == 4, message=lambda: pipeline.log[-3000:])
    pipeline.kill("ingest")
    kafka.produce(products, [_product("b", "B")])
    wait_for(lambda: pipeline.duckdb("SELECT count(*) FROM orders") == [(2,)], message=lambda: pipeline.log[-3000:])
    pipeline.kill("ingest")
    kafka.produce(orders, [_order(5, "b")])
    wait_for(lambda: pipeline.duckdb("SELECT count(*) FROM orders") == [(3,)], message=lambda: pipeline.log[-3000:])
    assert pipeline.stop(service) == 0
    assert pipeline.duckdb("SELECT id, qty, name FROM orders ORDER BY id") == [(1, 5, "B"), (2, 1, "A"), (5, 1, "B")]
    found = pipeline.status()["datasets"]["orders"]
    assert (found["in"], found["quarantined"], found["waiting"]) == (7, 1, 0)
