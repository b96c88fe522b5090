"""One record followed from Postgres and from Kafka to every sink, through the commands that people use."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dataflows.holding import Holding, holdings
from dataflows.tracing import Tracer
from journal.trace_context import parent_of
from pipeline.load import load_pipeline
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database
from tests.invoking import Ended, sluice
from tests.kafka_place import Kafka, Message
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(240)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"

_POSTGRES = """
pipeline: shop
state: .sluice
journal: {{retention: {retention}}}
sources:
  portal: {{type: postgres, dsn: "{dsn}", tables: [public.stock]}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
  scarce:
    type: duckdb
    path: scarce.duckdb
    datasets:
      stock: {{where: "amount < 10"}}
  events: {{type: duckdb, path: other.duckdb, datasets: [other]}}
"""


def _trace(pipeline: PipelineUnderTest, dataset: str, *key: str, last: int | None = None) -> Ended:
    options = [part for one in key for part in ("--key", one)] + ([] if last is None else ["--last", str(last)])
    return sluice("trace", pipeline.file, "--dataset", dataset, *options, "--json")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
def stock(database18: Database, make_pipeline: MakePipeline) -> PipelineUnderTest:
    database18.execute(
        "CREATE TABLE stock (region text, id int, amount int, PRIMARY KEY (region, id))",
        "INSERT INTO stock VALUES ('eu', 7, 100), ('us', 7, 5)",
    )
    text = _POSTGRES.format(dsn=database18.dsn, retention="1h").replace(
        "  events: {type: duckdb, path: other.duckdb, datasets: [other]}\n", ""
    )
    return make_pipeline(text)


def test_a_row_of_postgres_is_followed_through_copy_updates_a_move_and_its_end(stock: PipelineUnderTest, database18: Database) -> None:
    began = datetime.now(UTC)
    stock.sync()
    for statement in (
        "UPDATE stock SET amount = 3 WHERE region = 'eu'",
        "UPDATE stock SET amount = 30 WHERE region = 'eu'",
        "UPDATE stock SET id = 8 WHERE region = 'eu'",
        "DELETE FROM stock WHERE region = 'eu'",
    ):
        database18.execute(statement)
    stock.sync()
    ended = datetime.now(UTC)
    done = _trace(stock, "stock", "region=eu", "id=7")
    assert done.code == 0, done.err
    answer = done.json
    assert answer["key"] == {"region": "eu", "id": "7"}
    assert [one["operation"] for one in answer["changes"]] == ["read", "update", "update", "update"]
    assert [one["row"]["amount"] for one in answer["changes"]] == ["100", "3", "30", "30"]
    moved = answer["changes"][-1]
    assert (moved["key"]["id"], moved["old_key"]["id"]) == ("8", "7")
    assert [one["sinks"]["scarce"]["status"] for one in answer["changes"]] == ["filtered", "delivered", "left", "left"]
    assert {one["sinks"]["warehouse"]["status"] for one in answer["changes"]} == {"delivered"}
    ordinals = [one["ordinal"] for one in answer["changes"]]
    assert ordinals == sorted(ordinals)
    assert len({one["trace_id"] for one in answer["changes"]}) == 4
    for one in answer["changes"]:
        assert one["source"].keys() == {"name", "table", "position", "committed_at"}
        assert (one["source"]["name"], one["source"]["table"]) == ("portal", "public.stock")
        assert "/" in one["source"]["position"]
        assert (one["traceparent"], one["judged"]["contract"], one["state"]) == (None, None, "passed")
        held = one["sinks"]["warehouse"]["by"]
        steps = [_moment(moment) for moment in (one["source"]["committed_at"], one["received_at"], held)]
        assert began - timedelta(seconds=60) < steps[0] <= ended
        assert steps[1] <= steps[2] <= ended
    after = _trace(stock, "stock", "id=8", "region=eu", last=1).json["changes"]
    assert [one["operation"] for one in after] == ["delete"]
    assert after[0]["row"] is None
    other = _trace(stock, "stock", "region=us", "id=7").json["changes"]
    assert [(one["operation"], one["sinks"]["scarce"]["status"]) for one in other] == [("read", "delivered")]
    shown = sluice("trace", stock.file, "--dataset", "stock", "--key", "region=eu", "--key", "id=7")
    assert shown.code == 0
    assert shown.out.index("read region=eu, id=7") < shown.out.index("update region=eu, id=8")
    assert "it does not match where: amount < 10" in shown.out


def test_what_is_not_there_is_said(stock: PipelineUnderTest) -> None:
    early = _trace(stock, "stock", "region=eu", "id=7")
    assert (early.code, early.json["known"]) == (1, False)
    assert _trace(stock, "stok", "7").code == 2
    stock.sync()
    unknown = _trace(stock, "stock", "region=eu", "id=99")
    assert (unknown.code, unknown.json["known"], unknown.json["changes"]) == (1, False, [])
    wrong = _trace(stock, "stok", "7")
    assert wrong.code == 2
    assert "stock" in wrong.err
    for key in (["7"], ["id=7"], ["id=7", "regio=eu"], ["id=7", "id=8"]):
        refused = _trace(stock, "stock", *key)
        assert refused.code == 2
        assert "--key region=VALUE --key id=VALUE" in refused.err


def test_changes_that_are_gone_from_the_journal_are_said_to_be_and_the_sinks_tell_what_they_hold(
    stock: PipelineUnderTest, database18: Database
) -> None:
    stock.write(stock.file.read_text("utf-8").replace("retention: 1h", "retention: 0s"))
    stock.sync()
    service = stock.start()

    def pruned() -> Any:
        answer = _trace(stock, "stock", "region=us", "id=7").json
        return answer if not answer["changes"] else None

    answer = wait_for(pruned, message="a journal that has forgotten the copy")
    assert answer["known"], answer["gone"]
    gone = answer["gone"]
    assert gone["entries"] > 0
    for sink in ("warehouse", "scarce"):
        found = gone["sinks"][sink]
        assert (found["status"], found["row"]) == ("delivered", True), found
        assert 0 < found["position"] < gone["before"]
        assert found["by"] is not None
        assert found["counted"]["source"] == "portal"
    elsewhere = _trace(stock, "stock", "region=eu", "id=7").json["gone"]["sinks"]
    assert [elsewhere[sink]["row"] for sink in ("warehouse", "scarce")] == [True, False]
    unknown = _trace(stock, "stock", "region=eu", "id=99")
    assert (unknown.code, unknown.json["known"]) == (1, False)
    assert [one["row"] for one in unknown.json["gone"]["sinks"].values()] == [False, False]
    assert stock.stop(service) == 0
    shown = sluice("trace", stock.file, "--dataset", "stock", "--key", "region=us", "--key", "id=7")
    assert shown.code == 0
    assert "its changes are gone from the journal" in shown.out


_KAFKA = """
pipeline: {prefix}
state: .sluice
journal: {journal}
sources:
  aws:
    type: kafka
    bootstrap_servers: "{servers}"
    topic: {topic}
    format: json
    schema: {{orderNo: bigint, buyer: text, cents: bigint}}
datasets:
  orders:
    from: [{{source: aws, map: maps/aws.sql}}]
    contract: orders.odcs.yaml
sinks:
  events: {{type: kafka, bootstrap_servers: "{servers}", datasets: {{orders: {{topic: {topic}.out}}}}}}
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""

_CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: orders-contract
version: {version}
status: active
schema:
  - name: orders
    properties:
      - {{name: order_id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}}
      - {{name: email, logicalType: string, physicalType: text, classification: restricted}}
      - name: amount
        logicalType: number
        physicalType: "numeric(10,2)"
        quality:
          - {{id: {rule}, type: sql, query: "amount > 0", mustBe: true}}
"""

_MAP = "SELECT orderNo AS order_id, buyer AS email, (cents / 100)::decimal(10,2) AS amount FROM input"


def _order(number: int, cents: int, *headers: tuple[str, bytes]) -> Message:
    value = json.dumps({"orderNo": number, "buyer": f"secret{number}@example.com", "cents": cents})
    return Message(value, key=str(number), headers=headers)


@pytest.mark.parametrize("kind", ["local", "kafka"])
def test_a_message_of_kafka_keeps_its_trace_through_the_gate_and_out_into_kafka(
    kafka: Kafka, make_pipeline: MakePipeline, tmp_path: Path, kind: str
) -> None:
    topic = kafka.make_topic(1)
    context = [("traceparent", PARENT.encode()), ("tracestate", b"congo=t61rcWkgMzE")]
    invalid = ("traceparent", PARENT.replace("00-", "ff-", 1).encode())
    kafka.produce(topic, [_order(1, 100, *context), _order(2, -5, *context), _order(3, 300), _order(4, 400, invalid), _order(5, -1)])
    topics = f', bootstrap_servers: "{kafka.bootstrap_servers}", prefix: {kafka.prefix}' if kind == "kafka" else ""
    journal = f"{{type: {kind}, retention: 1h{topics}}}"
    pipeline = make_pipeline(_KAFKA.format(servers=kafka.bootstrap_servers, topic=topic, journal=journal, prefix=kafka.prefix))
    pipeline.write(_CONTRACT.format(version="1.0.0", rule="amount-positive"), "orders.odcs.yaml")
    pipeline.write(_MAP, "maps/aws.sql")
    pipeline.sync()
    pipeline.write(_CONTRACT.format(version="1.1.0", rule="amount-above-zero"), "orders.odcs.yaml")
    kafka.produce(topic, [_order(1, 150, ("traceparent", PARENT.replace(SPAN, SPAN[::-1]).encode()))])
    pipeline.sync()

    first, second = _trace(pipeline, "orders", "1").json["changes"]
    assert (first["trace_id"], first["traceparent"], first["tracestate"]) == (TRACE, PARENT, "congo=t61rcWkgMzE")
    assert (second["trace_id"], second["tracestate"]) == (TRACE, None)
    assert first["source"]["position"] == {"topic": topic, "partition": 0, "offset": 0}
    assert second["source"]["position"]["offset"] == 5
    assert [one["judged"]["version"] for one in (first, second)] == ["1.0.0", "1.1.0"]
    assert [one["judged"]["noted"] for one in (first, second)] == [True, True]
    assert (first["judged"]["contract"], first["judged"]["map"]) == ("orders-contract", "maps/aws.sql")
    assert first["judged"]["rules"] is None, "the contract has other rules now"
    assert "amount-above-zero" in second["judged"]["rules"]
    assert first["row"] == {"order_id": "1", "email": "***", "amount": "1.00"}
    assert {name: one["status"] for name, one in first["sinks"].items()} == {"events": "delivered", "warehouse": "delivered"}

    (bad,) = _trace(pipeline, "orders", "2").json["changes"]
    assert (bad["state"], bad["trace_id"], bad["sinks"]) == ("quarantined", TRACE, {})
    assert bad["judged"]["quarantine"]["status"] == "rule-changed"
    assert [reason["rule"] for reason in bad["judged"]["quarantine"]["reasons"]] == ["amount-positive"]
    assert (bad["judged"]["version"], bad["row"]["email"]) == ("1.0.0", "***")

    told = {int(dict(one.headers)["sluice-position"]): dict(one.headers) for one in kafka.consume(f"{topic}.out")}
    traces = {number: _trace(pipeline, "orders", str(number)).json["changes"][0] for number in (1, 3, 4)}
    for number, change in traces.items():
        headers = told[change["ordinal"]]
        assert headers["traceparent"][3:35].decode() == change["trace_id"]
        assert headers["traceparent"][36:52].decode() != SPAN
        assert headers.get("tracestate") == (b"congo=t61rcWkgMzE" if number == 1 else None)
        assert parent_of(headers["traceparent"]) == headers["traceparent"].decode()
    assert len({change["trace_id"] for change in traces.values()}) == 3

    records = sluice("quarantine", "list", pipeline.file, "--json").json
    shown = [sluice("quarantine", "show", pipeline.file, one["id"], "--json").json for one in records]
    alone = _trace(pipeline, "orders", "5").json["changes"][0]["trace_id"]
    assert [one["trace_id"] for one in shown] == [TRACE, alone]
    out = tmp_path / "records.jsonl"
    assert sluice("quarantine", "export", pipeline.file, "--out", out).code == 0
    assert [json.loads(line)["trace_id"] for line in out.read_text().splitlines()] == [TRACE, alone]
    loaded = load_pipeline(pipeline.file)
    with closing(Tracer(loaded)) as tracer:
        schema = tracer.following.schema("orders")
    assert schema is not None
    assert holdings(loaded, schema, {"order_id": "1"}) == {"events": Holding(True), "warehouse": Holding(True, second["ordinal"])}
    assert holdings(loaded, schema, {"order_id": "2"}) == {"events": Holding(False), "warehouse": Holding(False)}
    everything = [_trace(pipeline, "orders", str(number)).out for number in range(1, 6)]
    everything += [sluice("trace", pipeline.file, "--dataset", "orders", "--key", number).out for number in range(1, 6)]
    assert not any("@example.com" in text or base64.b64encode(b"secret").decode()[:8] in text for text in everything)
