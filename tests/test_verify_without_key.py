"""Rows of a table without a key: what is in quarantine is accounted for, and nothing is shown that nobody is to see."""

from __future__ import annotations

import duckdb
import pytest

from tests.contract_text import contract_of
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database
from tests.invoking import sluice

pytestmark = pytest.mark.timeout(120)

CONTRACT = contract_of("""\
    properties:
      - {name: email, logicalType: string, classification: confidential}
      - name: amount
        logicalType: integer
        quality: [{id: positive, type: sql, query: amount > 0, mustBe: true}]
""")


def test_what_a_row_was_before_a_change_that_is_held_back_is_still_in_the_sink(database18: Database, make_pipeline: MakePipeline) -> None:
    database18.execute("CREATE TABLE orders (email text, amount int)", "ALTER TABLE orders REPLICA IDENTITY FULL")
    pipeline = make_pipeline(f"""
pipeline: shop
sources:
  portal: {{type: postgres, dsn: "{database18.dsn}", tables: [public.orders]}}
datasets:
  orders: {{from: portal.public.orders, contract: orders.odcs.yaml}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb, datasets: {{orders: {{columns: {{amount: cast(text)}}}}}}}}
""")
    pipeline.write(CONTRACT, "orders.odcs.yaml")
    database18.execute("INSERT INTO orders VALUES ('ann@example.com', 1), ('ann@example.com', 1)")
    database18.execute("INSERT INTO orders VALUES ('bo@example.com', 2), ('cy@example.com', 3)")
    pipeline.sync()
    database18.execute(
        "UPDATE orders SET amount = -amount WHERE amount > 1",  # both are held back
        "DELETE FROM orders WHERE amount = -3",
    )
    pipeline.sync()
    bo, cy = (one["id"] for one in sluice("quarantine", "list", pipeline.file, "--json").json)
    done = sluice("quarantine", "discard", pipeline.file, cy, "--why", "gone", "--by", "ann@example.com")
    assert done.code == 0, done.err
    found = pipeline.verify()["datasets"]["orders"]["warehouse"]
    assert (found["missing"], found["extra"], found["different"], found["examples"]) == (0, 0, 0, [])
    for command in ("fix", "approve", "replay"):
        more = {"fix": ["--expr", "amount=abs(amount)", "--by", "ann"], "approve": ["--by", "bo"], "replay": ["--wait"]}[command]
        done = sluice("quarantine", command, pipeline.file, bo, *more)
        assert done.code == 0, done.err
    found = pipeline.verify()["datasets"]["orders"]["warehouse"]
    assert (found["missing"], found["extra"], found["different"]) == (0, 0, 0)

    with duckdb.connect(str(pipeline.folder / "warehouse.duckdb")) as warehouse:
        warehouse.execute("DELETE FROM orders WHERE email = 'ann@example.com'")
    found = pipeline.verify()["datasets"]["orders"]["warehouse"]
    assert (found["missing"], found["extra"]) == (2, 0)
    assert found["examples"] == [{"key": {"email": "***", "amount": "1"}, "kind": "missing"}]
