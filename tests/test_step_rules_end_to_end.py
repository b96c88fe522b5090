"""Rules about changes through whole pipelines: what passed before a restart is what changes after it are compared with."""

from __future__ import annotations

import json

import pytest

from tests.contract_text import contract_of
from tests.file_taking import put
from tests.fix_pipeline import MakePipeline
from tests.invoking import sluice

pytestmark = pytest.mark.timeout(120)

_FILE = """
pipeline: shop
state: .sluice
sources:
  shop: {type: files, path: shop, format: json, settle_seconds: 0, schema: {id: bigint, status: text, customer: bigint}}
  people: {type: files, path: people, format: json, settle_seconds: 0, schema: {id: bigint, name: text}}
datasets:
  orders: {from: shop, contract: orders.odcs.yaml, key: [id]}
lookups:
  customers: {source: people, key: [id]}
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""
_CONTRACT = contract_of("""\
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true}
      - {name: status, logicalType: string}
      - {name: customer, logicalType: integer, physicalType: bigint}
    quality:
      - id: steps
        type: custom
        engine: sluice
        implementation: {type: transition, column: status, allowed: [{from: trial, to: [active, ended]}, {from: active, to: ended}]}
      - {id: known, type: custom, engine: sluice, implementation: {type: references, column: customer, lookup: customers}}
""")


def test_a_step_that_is_not_allowed_waits_in_quarantine_after_a_restart_too(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(_FILE)
    pipeline.write(_CONTRACT, "orders.odcs.yaml")
    ages = iter(range(90, 0, -1))

    def shop(name: str, *orders: tuple[int, str, int]) -> None:
        rows = [{"id": number, "status": status, "customer": customer} for number, status, customer in orders]
        put(pipeline.folder / "shop", name, "".join(json.dumps(row) + "\n" for row in rows), age=next(ages))

    put(pipeline.folder / "people", "1.json", '{"id": 7, "name": "Ann"}\n', age=next(ages))
    shop("1.json", (1, "trial", 7), (2, "active", 7), (3, "trial", 8), (1, "active", 7))
    pipeline.sync()
    shop("2.json", (1, "trial", 7), (2, "ended", 7), (1, "ended", 7))
    pipeline.sync()
    assert pipeline.duckdb("SELECT id, status FROM orders ORDER BY id") == [(1, "ended"), (2, "ended")]
    listed = sluice("quarantine", "list", pipeline.file, "--json").json
    assert sorted((one["position"]["file"], one["position"]["line"]) for one in listed) == [("1.json", 3), ("2.json", 1)]
    reasons = {reason["rule"]: reason["message"] for one in listed for reason in one["reasons"]}
    assert reasons == {
        "known": "the value is in the lookup customers",
        "steps": "the value stays, or goes trial → active, trial → ended, active → ended (it was active)",
    }
    answer = pipeline.verify()
    assert answer["conserved"], answer["unbalanced"]

    pipeline.write(_CONTRACT.replace("lookup: customers", "lookup: customer"), "orders.odcs.yaml")
    done = sluice("check", pipeline.file)
    assert done.code == 1
    assert "there is no lookup 'customer'" in done.out + done.err
    assert "did you mean customers" in done.out + done.err
