"""A contract that breaks others, in a service that runs: the former one judges until somebody approves."""

from __future__ import annotations

import pytest

from tests.contract_text import contract_of
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(180)

_CONTRACT = contract_of("""\
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true}
      - name: amount
        logicalType: integer
        physicalType: integer
        quality: [{id: positive, type: sql, query: amount > 0, mustBe: true}]
""")
_NEXT = _CONTRACT.replace("version: 1.0.0", "version: 2.0.0").replace("amount > 0, mustBe: true}", "amount > -9, mustBe: true}") + (
    "    customProperties: [{property: approval, value: self}]\n"
)


def test_a_service_judges_by_the_contract_in_force_and_takes_an_approval_without_being_stopped(
    database18: Database, make_pipeline: MakePipeline
) -> None:
    database18.execute("CREATE TABLE orders (id bigint PRIMARY KEY, amount int)", "INSERT INTO orders VALUES (1, 10), (2, -5)")
    pipeline = make_pipeline(f"""
pipeline: shop
state: .sluice
sources:
  portal: {{type: postgres, dsn: "{database18.dsn}", tables: [public.orders]}}
datasets:
  orders: {{from: portal.public.orders, contract: orders.yaml}}
sinks:
  out: {{type: duckdb, path: out.duckdb}}
""")
    file = str(pipeline.file)
    pipeline.write(_CONTRACT, "orders.yaml")
    pipeline.sync()
    pipeline.write("", "orders.yaml")
    database18.execute("INSERT INTO orders VALUES (3, -5)")
    pipeline.sync()
    pipeline.write(_NEXT, "orders.yaml")
    process = pipeline.start()
    database18.execute("INSERT INTO orders VALUES (4, -5)")

    def records() -> list[tuple[int, str]]:
        listed = pipeline.sluice("quarantine", "list", file, "--json").json
        return [
            (one["key"]["id"], pipeline.sluice("quarantine", "show", file, one["id"], "--json").json["contract_version"]) for one in listed
        ]

    wait_for(lambda: len(records()) == 3, message="the former contract holds it back")
    assert records() == [(2, "1.0.0"), (3, "1.0.0"), (4, "1.0.0")], "also while the file was empty"
    approved = pipeline.sluice("contract", "approve", file, "orders", "--by", "bo@example.com", "--json")
    assert (approved.code, approved.json["version"]) == (0, "2.0.0")
    database18.execute("INSERT INTO orders VALUES (5, -5), (6, -50)")
    wait_for(lambda: len(records()) == 4, message="the new one judges")
    assert records()[-1] == (6, "2.0.0")
    assert process.poll() is None, "the service goes on"
    status = pipeline.sluice("status", file, "--json").json
    assert status["datasets"]["orders"]["contract"]["in_force"]["by"] == "bo@example.com"
    wait_for(lambda: pipeline.sluice("status", file, "--json").json["sources"]["portal"]["state"] == "streaming", message="ingest is back")
    traced = pipeline.sluice("verify", file, "--json").json
    assert traced["conserved"], traced
