"""A table that is dropped at the source, or has lost a column that a rule reads, does not keep the others from being verified."""

from __future__ import annotations

import pytest

from tests.contract_text import contract_of, one_column
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database

pytestmark = pytest.mark.timeout(120)


def test_a_table_that_is_gone_is_counted_and_the_others_are_compared(database15: Database, make_pipeline: MakePipeline) -> None:
    database15.execute(
        "CREATE TABLE stays (id int PRIMARY KEY)",
        "CREATE TABLE goes (id int PRIMARY KEY)",
        "INSERT INTO stays VALUES (1), (2)",
        "INSERT INTO goes VALUES (1)",
    )
    pipeline = make_pipeline(
        "pipeline: gone\nstate: .sluice\nsources:\n"
        f'  portal: {{type: postgres, dsn: "{database15.dsn}", tables: ["public.*"]}}\n'
        "sinks:\n  warehouse: {type: duckdb, path: warehouse.duckdb}\n"
    )
    pipeline.sync()
    database15.execute("DROP TABLE goes")
    answer = pipeline.verify()["datasets"]
    gone, there = answer["goes"]["warehouse"], answer["stays"]["warehouse"]
    assert (gone["compared"], gone["sink_rows"], gone["missing"], gone["extra"]) == (False, 1, 0, 0)
    assert (there["compared"], there["source_rows"], there["sink_rows"]) == (True, 2, 2)


def test_a_table_that_its_contract_does_not_fit_any_more_is_told_and_the_others_are_compared(
    database18: Database, make_pipeline: MakePipeline
) -> None:
    database18.execute(
        "CREATE TABLE stays (id int PRIMARY KEY)",
        "CREATE TABLE orders (id int PRIMARY KEY, amount int)",
        "INSERT INTO stays VALUES (1), (2)",
        "INSERT INTO orders VALUES (1, 10)",
    )
    pipeline = make_pipeline(
        "pipeline: gone\nstate: .sluice\nsources:\n"
        f'  portal: {{type: postgres, dsn: "{database18.dsn}", tables: ["public.*"]}}\n'
        "datasets:\n  orders: {from: portal.public.orders, contract: orders.odcs.yaml}\n"
        "sinks:\n  warehouse: {type: duckdb, path: warehouse.duckdb}\n"
    )
    pipeline.write(
        contract_of(one_column("amount", "integer", quality="{id: positive, type: sql, query: amount > 0, mustBe: true}")),
        "orders.odcs.yaml",
    )
    pipeline.sync()
    database18.execute("ALTER TABLE orders DROP COLUMN amount", "INSERT INTO orders VALUES (2)", "INSERT INTO stays VALUES (3)")
    pipeline.sync(code=1)
    done = pipeline.sluice("verify", str(pipeline.file), "--json")
    assert done.code == 1
    assert "reads the column 'amount'" in done.json["stopped"]["orders"]
    there = done.json["datasets"]["stays"]["warehouse"]
    assert (there["compared"], there["source_rows"], there["missing"]) == (True, 3, 0)
    assert "orders: counted, not compared" in pipeline.sluice("verify", str(pipeline.file)).out
