"""`sync` as a person or a scheduler meets it: what it answers, how it ends, and that it ends soon where it can't begin."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract_text import contract_of
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import PASSWORD, Database
from tests.invoking import Ended, sluice

pytestmark = pytest.mark.timeout(180)

_FILE = """
pipeline: shop
state: .sluice
sources:
  portal: {{type: postgres, dsn: "{dsn}", tables: [{tables}]}}
datasets:
  orders: {{from: portal.public.orders, contract: orders.odcs.yaml}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""
_CONTRACT = contract_of("""\
    properties:
      - {name: id, logicalType: integer, primaryKey: true, required: true}
      - {name: amount, logicalType: number}
    quality:
      - {id: amount-positive, type: sql, query: amount > 0, mustBe: true}
""")

Shop = Callable[..., PipelineUnderTest]


@pytest.fixture
def make_shop(database15: Database, make_pipeline: MakePipeline) -> Shop:
    """Makes pipelines of the test's database; a keyword replaces a part of the file."""
    database15.execute("CREATE TABLE orders (id int PRIMARY KEY, amount numeric)", "INSERT INTO orders VALUES (1, 1), (2, -1), (3, 3)")

    def make(dsn: str = database15.dsn, tables: str = "public.orders") -> PipelineUnderTest:
        pipeline = make_pipeline(_FILE.format(dsn=dsn, tables=tables))
        pipeline.write(_CONTRACT, "orders.odcs.yaml")
        return pipeline

    return make


def _sync(pipeline: PipelineUnderTest) -> Ended:
    """In this process: for what is refused before another is started."""
    done = sluice("sync", pipeline.file)
    assert PASSWORD not in done.out + done.err
    assert done.out == ""
    return done


def test_sync_tells_what_is_in_quarantine_and_fails_for_it_when_asked(make_shop: Shop) -> None:
    pipeline = make_shop()
    done = pipeline.sync()
    assert "1 in quarantine" in done.out
    assert "every sink holds what the sources had" in done.out
    assert pipeline.duckdb("SELECT id FROM orders ORDER BY id") == [(1,), (3,)]
    again = pipeline.sync("--fail-on-quarantine", "--json", code=3)
    assert again.json == {"pipeline": "shop", "code": 3, "failed": {}, "quarantined": 1}
    (bad,) = sluice("quarantine", "list", pipeline.file, "--json").json
    assert (bad["key"], bad["operation"], bad["reasons"][0]["rule"]) == ({"id": 2}, "read", "amount-positive")
    assert sluice("verify", pipeline.file).code == 0


def test_a_server_that_refuses_or_is_away_ends_it_with_2(make_shop: Shop, database15: Database) -> None:
    away = _sync(make_shop(dsn="host=127.0.0.1 port=1 dbname=shop user=me connect_timeout=2"))
    assert away.code == 2
    assert "127.0.0.1" in away.err
    wrong = _sync(make_shop(dsn=database15.dsn.replace(PASSWORD, "wrong")))
    assert wrong.code == 2
    assert "password" in wrong.err
    nowhere = _sync(make_shop(dsn=database15.dsn.replace(database15.name, "no_such_database")))
    assert nowhere.code == 2
    assert "no_such_database" in nowhere.err


def test_a_table_that_is_not_there_ends_it_with_2(make_shop: Shop) -> None:
    done = _sync(make_shop(tables="public.orders, public.ordres"))
    assert done.code == 2
    assert "public.ordres" in done.err


def test_a_rule_on_a_column_that_is_not_there_ends_it_with_the_line_of_the_contract(make_shop: Shop) -> None:
    pipeline = make_shop()
    pipeline.write(_CONTRACT.replace("amount", "amuont"), "orders.odcs.yaml")
    done = pipeline.sluice("sync", str(pipeline.file), "--timeout", "5")
    assert done.code in (1, 2), done.err
    assert "amuont" in done.err
    assert "orders.odcs.yaml:" in done.err


def test_a_second_sync_at_the_same_time_ends_with_1(make_shop: Shop) -> None:
    from journal.locks import ProcessLock

    pipeline = make_shop()
    with ProcessLock(pipeline.state, "run", "the pipeline shop"):
        done = _sync(pipeline)
    assert done.code == 1
    assert "already running" in done.err
