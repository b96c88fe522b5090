"""A table that is dropped at the source does not keep the others from being verified."""

from __future__ import annotations

import pytest

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
