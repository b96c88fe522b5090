"""`plan` looks at real servers, changes nothing, and says what would be made and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fix_postgres import PASSWORD, Database, MakeDatabase
from tests.invoking import Ended, sluice
from tests.test_cli_check import CONTRACT

_FILE = """\
pipeline: shop
sources:
  portal:
    type: postgres
    dsn: "{source}"
    tables: [{tables}]
{datasets}sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
  eu:
    type: postgres
    dsn: "{sink}"
    schema: sales
    datasets:
      orders: {{where: "{where}"}}
"""
_DATASETS = """\
datasets:
  orders: {from: portal.public.orders, contract: orders.odcs.yaml}
"""


class Shop:
    """A source, a regional store, and a pipeline file between them."""

    def __init__(self, folder: Path, source: Database, store: Database) -> None:
        self.folder = folder
        self.source = source
        self.store = store
        source.execute(
            "CREATE TABLE orders (order_id bigint PRIMARY KEY, region text, amount numeric(12,2))",
            "CREATE TABLE notes (id int PRIMARY KEY)",
        )
        (folder / "orders.odcs.yaml").write_text(CONTRACT)

    def plan(self, *options: str, **changed: str) -> Ended:
        given = {
            "source": self.source.dsn,
            "sink": self.store.dsn,
            "where": "region = 'EU'",
            "tables": "public.*",
            "datasets": _DATASETS,
            **changed,
        }
        file = self.folder / "pipeline.yaml"
        file.write_text(_FILE.format(**given))
        done = sluice("plan", file, *options)
        assert PASSWORD not in done.out + done.err
        return done

    def untouched(self) -> bool:
        """Whether nothing was made anywhere."""
        slots = self.source.rows(f"SELECT 1 FROM pg_replication_slots WHERE database = '{self.source.name}'")
        publications = self.source.rows("SELECT 1 FROM pg_publication")
        schemas = self.store.rows("SELECT 1 FROM pg_namespace WHERE nspname IN ('sales') OR nspname LIKE '%sluice%'")
        files = {path.name for path in self.folder.iterdir()} - {"pipeline.yaml", "orders.odcs.yaml"}
        return not (slots or publications or schemas or files)


@pytest.fixture
def shop(database: Database, make_database: MakeDatabase, tmp_path: Path) -> Shop:
    return Shop(tmp_path, database, make_database(database.server))


def test_a_plan_tells_what_would_be_made_and_makes_nothing(shop: Shop) -> None:
    done = shop.plan()
    assert (done.code, done.err) == (0, "")
    assert "public.orders -> orders: 3 columns, key order_id" in done.out
    answer = shop.plan("--json").json
    assert (answer["ok"], answer["problems"]) == (True, [])
    portal = answer["sources"]["portal"]
    made = " ".join(portal["actions"])
    assert "CREATE PUBLICATION" in made
    assert "sluice_shop_portal" in made
    assert portal["tables"]["public.orders"]["columns"][2] == {"name": "amount", "type": "numeric(12,2)", "nullable": True}
    eu = " ".join(answer["sinks"]["eu"]["statements"])
    assert "CREATE TABLE" in eu
    assert "sales" in eu
    assert "notes" not in eu
    assert answer["sinks"]["warehouse"]["statements"]
    assert shop.untouched()


def _messages(answer: Any) -> str:
    return "\n".join(problem["message"] for problem in answer["problems"])


def test_routes_and_contracts_are_checked_against_the_catalogue(shop: Shop) -> None:
    done = shop.plan("--json", where="regoin = 'EU'", datasets="")
    assert done.code == 1
    assert "regoin" in _messages(done.json)
    (shop.folder / "orders.odcs.yaml").write_text(CONTRACT.replace("name: region,", "name: country,"))
    done = shop.plan("--json", where="amount > 0")
    assert done.code == 1
    assert "country" in _messages(done.json)
    assert shop.untouched()


def test_a_table_that_is_not_there_ends_with_2(shop: Shop) -> None:
    done = shop.plan(tables="public.orders, public.ordres")
    assert done.code == 2
    assert "public.ordres" in done.out


def test_a_sink_of_a_dataset_that_no_table_is_ends_with_1(shop: Shop) -> None:
    done = shop.plan("--json", tables="public.notes, 'sales.*'", datasets="")
    assert done.code == 1
    assert "no table is" in _messages(done.json)


def test_a_server_that_is_away_or_refuses_ends_with_2_and_the_others_are_told(shop: Shop) -> None:
    done = shop.plan(sink="host=127.0.0.1 port=1 dbname=eu user=me password=hunter2 connect_timeout=2")
    assert done.code == 2
    assert "CREATE PUBLICATION" in done.out
    assert "hunter2" not in done.out + done.err
    assert done.err.startswith("error: ")
    wrong = shop.plan("--json", source=shop.source.dsn.replace(PASSWORD, "wrong"))
    assert wrong.code == 2
    assert wrong.json["sources"]["portal"]["error"]["message"]
    assert wrong.json["sinks"]["eu"]["error"] is None
    assert shop.untouched()


def test_a_source_that_is_not_ready_ends_with_1_and_says_what_to_do(shop: Shop) -> None:
    shop.source.execute("CREATE TABLE bare (n int)")
    done = shop.plan("--json")
    assert done.code in (0, 1)
    told = [*done.json["problems"], *done.json["sources"]["portal"]["advice"]]
    assert any("bare" in one["message"] and one["hint"] for one in told), told
