"""What a contract calls confidential shows nowhere that people look, also of messages that cannot be read."""

from __future__ import annotations

import base64

import pytest

from journal.batch import Defect
from tests.fix_pipeline import MakePipeline
from tests.kafka_place import Kafka, Message

pytestmark = pytest.mark.timeout(120)

_SECRET = "ada@hidden.example"

_CONTRACT = """
apiVersion: v3.0.2
kind: DataContract
id: {name}
status: active
version: 1.0.0
schema:
  - name: {name}
    properties:
      - {{name: id, physicalType: bigint, logicalType: integer, required: true, primaryKey: true}}
      - {{name: email, physicalType: text, logicalType: string, classification: confidential}}
      - {{name: salary, physicalType: "numeric(10,2)", logicalType: number, classification: restricted}}
"""

_FILE = """
pipeline: shop
state: .sluice
sources:
  a: {{type: kafka, bootstrap_servers: "{servers}", topic: {a}, format: json}}
  b: {{type: kafka, bootstrap_servers: "{servers}", topic: {b}, format: json, schema: {{id: bigint, email: text, salary: "numeric(10,2)"}}}}
datasets:
  plain: {{from: a, key: [id], contract: plain.yaml}}
  mapped: {{from: [{{source: b, map: map.sql}}], key: [id], contract: mapped.yaml}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""

_BAD: list[Message | str] = [
    f'{{"id": 1, "salary": "{_SECRET}"}}',
    f'{{"id": 2, "email": "{_SECRET}"',
    f'"{_SECRET}"',
    f'{{"id": 3, "email": {{"x": "{_SECRET}"}}}}',
    Message(f'{{"id": 4, "email": "{_SECRET}", "z": NaN}}', key=_SECRET, headers=[("who", _SECRET.encode())]),
    Message(None, key=_SECRET),
]


def test_what_a_contract_hides_is_in_no_answer_and_no_report(kafka: Kafka, make_pipeline: MakePipeline) -> None:
    topics = {name: kafka.make_topic(1) for name in "ab"}
    for topic in topics.values():
        kafka.produce(topic, _BAD)
    pipeline = make_pipeline(_FILE.format(servers=kafka.bootstrap_servers, **topics))
    for name in ("plain", "mapped"):
        pipeline.write(_CONTRACT.format(name=name), f"{name}.yaml")
    pipeline.write("SELECT id, email, salary FROM input", "map.sql")
    done = pipeline.sync()
    file = str(pipeline.file)
    listed = pipeline.sluice("quarantine", "list", file, "--json")
    said = {"sync": done.out + done.err, "list --json": listed.out, "list": pipeline.sluice("quarantine", "list", file).out}
    assert len(listed.json) == 2 * len(_BAD)
    for held in listed.json[:1] + listed.json[-2:]:
        said["show " + held["id"]] = pipeline.sluice("quarantine", "show", file, held["id"], "--json").out
    pipeline.sluice("quarantine", "export", file, "--out", str(pipeline.folder / "bad.jsonl"))
    said["export"] = (pipeline.folder / "bad.jsonl").read_text()
    assert pipeline.sluice("report", file, "--out", str(pipeline.folder / "reports")).code == 0
    said |= {path.name: path.read_text() for path in (pipeline.folder / "reports").iterdir()}
    assert [where for where, text in said.items() if _SECRET in text] == []
    reasons = [reason for held in listed.json for reason in held["reasons"]]
    assert {"expected numeric(10,2), got ***", "is not JSON: Input data was truncated"} <= {one["message"] for one in reasons}
    whole = pipeline.sluice("quarantine", "show", file, listed.json[0]["id"], "--json", "--unmasked").json
    assert _SECRET in base64.b64decode(whole["raw"]["value"]).decode()


@pytest.mark.parametrize(
    "message, unquoted",
    [
        ("expected bigint, got '5.0'", "expected bigint, got ***"),
        ("'5.0' is out of range for bigint", "*** is out of range for bigint"),
        ('"it\'s" has no time zone', "*** has no time zone"),
        ("'it\\'s \"so\"' has no time zone", "*** has no time zone"),
        ('expected bigint, got a string ("a\\"b)', "expected bigint, got a string"),
        ("the key's id: expected bigint, got 'x'", "the key's id: expected bigint, got ***"),
        ("the key: 'x' is out of range", "the key: ***"),
        ("is not UTF-8 (invalid start byte at byte 3)", "is not UTF-8 (invalid start byte at byte 3)"),
        ("'", "***"),
        ("", ""),
    ],
)
def test_a_message_without_what_it_quotes(message: str, unquoted: str) -> None:
    assert Defect(0, None, message, b"").unquoted == unquoted


def test_a_large_value_is_shown_by_its_beginning() -> None:
    assert Defect(0, None, "", b"x" * 10_000_000).shown == "x" * 1000 + "… (10000000 bytes)"
    assert Defect(0, None, "", "é".encode() * 500).shown == "é" * 500
    assert Defect(0, None, "", b"\xff").shown == "\\xff"
