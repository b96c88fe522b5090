"""A table and a topic of different shapes come to one canonical dataset."""

from __future__ import annotations

import json

import pytest

from tests.contract_text import contract_of
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database
from tests.kafka_place import Kafka, Message

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: channels
state: .sluice
sources:
  portal: {{type: postgres, dsn: "{dsn}", tables: [public.orders]}}
  aws:
    type: kafka
    bootstrap_servers: "{servers}"
    topic: {topic}
    format: json
    schema: {{orderNo: text, buyer: jsonb, cents: bigint, placed: timestamptz}}
datasets:
  orders:
    from:
      - {{source: portal.public.orders, map: portal.sql}}
      - {{source: aws, map: aws_maps.orders}}
    contract: orders.odcs.yaml
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""
_CONTRACT = contract_of("""\
    properties:
      - {name: order_id, logicalType: string, physicalType: text, primaryKey: true, required: true}
      - {name: email, logicalType: string, physicalType: text}
      - {name: total, logicalType: number, physicalType: "numeric(10,2)"}
""")
_PORTAL = "SELECT 'portal-' || id AS order_id, email, total FROM input"
_AWS = """
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc


def orders(rows):
    return pa.table(
        {
            "order_id": pc.binary_join_element_wise("aws", rows["orderNo"], "-"),
            "email": pc.struct_field(pc.extract_regex(rows["buyer"], '"email":"(?P<email>[^"]*)"'), "email"),
            "total": pc.multiply(rows["cents"].cast(pa.decimal128(19, 0)), pa.scalar(Decimal("0.01"))),
        }
    )
"""


def _message(number: int, cents: object, email: str) -> Message:
    value = {"orderNo": f"{number}", "buyer": {"email": email}, "cents": cents, "placed": "2026-01-01T10:00:00Z"}
    return Message(json.dumps(value), key=f"aws-{number}")


def test_a_table_and_a_topic_become_one_dataset(database18: Database, kafka: Kafka, make_pipeline: MakePipeline) -> None:
    database18.execute("CREATE TABLE orders (id int PRIMARY KEY, email text, total numeric)", "INSERT INTO orders VALUES (1, 'p1', 5.5)")
    topic = kafka.make_topic()
    kafka.produce(topic, [_message(1, 150, "a1"), _message(2, "x", "a2"), _message(3, 10**12, "a3"), _message(4, 400, "a4")])
    pipeline = make_pipeline(_FILE.format(dsn=database18.dsn, servers=kafka.bootstrap_servers, topic=topic))
    pipeline.write(_CONTRACT, "orders.odcs.yaml")
    pipeline.write(_PORTAL, "portal.sql")
    pipeline.write(_AWS, "aws_maps.py")
    pipeline.sync()
    rows = "SELECT order_id, email, total::text FROM orders ORDER BY order_id"
    assert pipeline.duckdb(rows) == [("aws-1", "a1", "1.50"), ("aws-4", "a4", "4.00"), ("portal-1", "p1", "5.50")]
    rules = {
        one["position"]["offset"]: one["reasons"][0]["rule"]
        for one in pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json
    }
    assert rules == {1: "undecodable", 2: "map"}

    kafka.produce(topic, [Message(None, key="aws-4"), _message(1, 151, "again"), Message(None, key="portal-1"), _message(5, 1, "late")])
    database18.execute("INSERT INTO orders VALUES (2, 'p2', 7)")
    pipeline.sync()
    # the key says which row a message deletes, whoever wrote it
    assert pipeline.duckdb(rows) == [("aws-1", "again", "1.51"), ("aws-5", "late", "0.01"), ("portal-2", "p2", "7.00")]
    counts = pipeline.status()["datasets"]["orders"]
    assert (counts["in"], counts["quarantined"], counts["open_quarantine"]) == (10, 2, 2)
