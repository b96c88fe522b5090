"""The answer of a query as a source and as a lookup: asked again, copied whole, through a server that goes away."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database, Launch
from tests.invoking import sluice
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(240)

_FILE = """
pipeline: shop
state: .sluice
sources:
  orders: {{type: files, path: drops, format: json, settle_seconds: 0, schema: {{id: bigint, currency: text, amount: "numeric(10,2)"}}}}
  rates:
    type: query
    dsn: "{dsn}"
    query: |
      SELECT currency, rate::numeric(10,4) AS rate, now() - now() AS nothing
      FROM fx WHERE rate > 0;
    refresh_seconds: {every}
datasets:
  orders: {{from: orders, key: [id], enrich: orders.sql}}
lookups:
  rates: {{source: rates, key: [currency], on_missing: {missing}}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""
_ENRICH = "SELECT input.*, r.rate, r.rate * amount AS euros FROM input LEFT JOIN rates AS r ON r.currency = input.currency"


@dataclass
class Place:
    pipeline: PipelineUnderTest
    files: int = 0

    def drop(self, *orders: tuple[int, str]) -> None:
        self.files += 1
        rows = "".join(json.dumps({"id": number, "currency": currency, "amount": 10}) + "\n" for number, currency in orders)
        self.pipeline.write(rows, f"drops/{self.files}.json")

    def held(self, columns: str = "id, rate::text") -> list[tuple[Any, ...]]:
        return self.pipeline.duckdb(f"SELECT {columns} FROM orders ORDER BY id")


def _make(make_pipeline: MakePipeline, database: Database, every: str = "1h", missing: str = "quarantine") -> Place:
    database.execute("CREATE TABLE fx (currency text, rate double precision)", "INSERT INTO fx VALUES ('USD', 0.9), ('GBP', 1.2), ('X', 0)")
    pipeline = make_pipeline(_FILE.format(dsn=database.dsn, every=every, missing=missing))
    pipeline.write(_ENRICH, "orders.sql")
    return Place(pipeline)


def test_a_query_is_a_lookup_that_is_asked_again(database18: Database, make_pipeline: MakePipeline) -> None:
    place = _make(make_pipeline, database18)
    pipeline = place.pipeline
    assert pipeline.sluice("check", str(pipeline.file)).code == 0
    place.drop((1, "USD"), (2, "GBP"), (3, "X"))
    planned = pipeline.sluice("plan", str(pipeline.file))
    assert planned.code == 0, planned.out + planned.err
    assert "every 3600 s" in planned.out
    pipeline.sync()
    assert place.held("id, rate::text, euros::text") == [(1, "0.9000", "9.000000"), (2, "1.2000", "12.000000")]
    assert pipeline.duckdb("SELECT table_name FROM duckdb_tables() WHERE NOT starts_with(table_name, '_sluice')") == [("orders",)]
    database18.execute("UPDATE fx SET rate = 0.5 WHERE currency = 'USD'", "DELETE FROM fx WHERE currency = 'GBP'")
    pipeline.sync()  # files may be read before the query is asked again
    place.drop((5, "USD"), (6, "GBP"))
    pipeline.sync()
    assert place.held() == [(1, "0.9000"), (2, "1.2000"), (5, "0.5000")]
    listed = pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json
    assert sorted((one["key"]["id"], one["reasons"][0]["rule"]) for one in listed) == [(n, "lookup:rates") for n in (3, 6)]
    # what was answered as before came into the journal once
    assert pipeline.status()["datasets"]["rates"]["in"] == 2 + 1
    assert pipeline.verify()["conserved"]


def test_what_was_answered_last_stays_while_the_server_is_away(launch_postgres: Launch, make_pipeline: MakePipeline) -> None:
    server = launch_postgres()
    database = Database(server, "postgres")
    place = _make(make_pipeline, database, every="0.2s", missing="wait")
    pipeline = place.pipeline
    place.drop((1, "USD"))
    service = pipeline.start()
    wait_for(
        lambda: (pipeline.folder / "warehouse.duckdb").exists() and place.held() == [(1, "0.9000")], message=lambda: pipeline.log[-3000:]
    )
    server.stop()
    wait_for(lambda: pipeline.status()["sources"]["rates"]["state"] == "retrying", message=lambda: str(pipeline.status()))
    place.drop((2, "GBP"), (3, "CHF"))
    wait_for(lambda: place.held() == [(1, "0.9000"), (2, "1.2000")], message=lambda: pipeline.log[-3000:])
    pipeline.kill("ingest")
    wait_for(lambda: pipeline.status()["sources"]["rates"]["state"] == "retrying", message=lambda: str(pipeline.status()))
    place.drop((4, "USD"))
    wait_for(lambda: len(place.held()) == 3, message=lambda: pipeline.log[-3000:])
    server.start()
    database.execute("INSERT INTO fx VALUES ('CHF', 1.1)")
    wait_for(lambda: len(place.held()) == 4, message=lambda: pipeline.log[-3000:])
    assert place.held() == [(1, "0.9000"), (2, "1.2000"), (3, "1.1000"), (4, "0.9000")]
    assert pipeline.stop(service) == 0


_DATASET = """
pipeline: shop
state: .sluice
sources:
  rates: {{type: query, dsn: "{dsn}", query: "SELECT n, 'name ' || n AS name FROM numbers -- all of them"}}
datasets:
  rates: {{from: rates, key: [n]}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""


def test_a_query_is_a_dataset_that_loses_what_its_answer_loses(database18: Database, make_pipeline: MakePipeline) -> None:
    database18.execute("CREATE TABLE numbers AS SELECT n FROM generate_series(1, 300000) n", "INSERT INTO numbers VALUES (NULL)")
    pipeline = make_pipeline(_DATASET.format(dsn=database18.dsn))
    pipeline.sync()
    whole = "SELECT count(*), min(n), max(n), min(name) FROM rates"
    assert pipeline.duckdb(whole) == [(300_000, 1, 300_000, "name 1")]
    (listed,) = pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json
    assert set(listed["position"]) == {"answer", "row"}
    database18.execute("DELETE FROM numbers WHERE n < 299000 OR n IS NULL")
    pipeline.write(pipeline.file.read_text("utf-8") + "  late: {type: duckdb, path: late.duckdb}\n")
    pipeline.sync()
    assert pipeline.duckdb(whole) == [(1001, 299_000, 300_000, "name 299000")]
    assert pipeline.duckdb(whole, "late.duckdb") == [(1001, 299_000, 300_000, "name 299000")]
    database18.execute("DELETE FROM numbers WHERE n < 299999")
    assert pipeline.sluice("resync", str(pipeline.file), "--yes").code == 0
    pipeline.sync()
    assert pipeline.duckdb(whole) == [(2, 299_999, 300_000, "name 299999")]


@pytest.mark.parametrize(
    "query, said",
    [
        ("SELECT n FROM nowhere", "nowhere"),
        ("SELECT 1 AS n, 2 AS n", "two columns `n`"),
        ("SELECT 1 AS m", "n, of the key of rates, is not in the answer"),
        ("DELETE FROM numbers", "syntax error"),
        ("SELECT 1 AS n; DROP TABLE numbers", "syntax error"),
    ],
)
def test_a_query_that_cannot_be_is_refused(database18: Database, make_pipeline: MakePipeline, query: str, said: str) -> None:
    database18.execute("CREATE TABLE numbers (n int)")
    text = _DATASET.format(dsn=database18.dsn)
    pipeline = make_pipeline(text.replace("SELECT n, 'name ' || n AS name FROM numbers -- all of them", query))
    done = sluice("plan", pipeline.file)
    assert done.code == 2
    assert said in done.out + done.err


def test_check_needs_no_server(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(_DATASET.format(dsn="host=localhost port=1 password=secret"))
    assert sluice("check", pipeline.file).code == 0
    for old, new, line in [
        ("query: ", "querry: ", 5),
        ("query: \"SELECT n, 'name ' || n AS name FROM numbers -- all of them\"", 'query: " ;"', 5),
        ("type: query", "type: query, refresh_seconds: 0", 5),
        ("from: rates", "from: rates.public.x", 7),
    ]:
        text = pipeline.file.read_text("utf-8")
        assert old in text
        bad = pipeline.write(text.replace(old, new), "bad.yaml")
        done = sluice("check", bad)
        assert done.code == 1
        assert f"bad.yaml:{line}:" in done.out
        assert "secret" not in done.out
