"""After a gap in the stream, or the loss of what the pipeline keeps, everything is copied again; and single tables are when asked."""

from __future__ import annotations

import shutil

import pytest

from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database, MakeDatabase
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(240)

_FILE = """
pipeline: again
state: .sluice
sources:
  portal: {{type: postgres, dsn: "{source}", tables: [public.orders, public.clicks]}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
  eu:
    type: postgres
    dsn: "{sink}"
    schema: sales
    datasets:
      orders: {{where: "region = 'EU'"}}
      clicks: {{}}
  history:
    type: postgres
    dsn: "{sink}"
    schema: past
    datasets:
      orders: {{mode: history}}
"""
_TABLES = (
    "CREATE TABLE orders (id int PRIMARY KEY, region text, amount numeric(10,2))",
    "CREATE TABLE clicks (who text, n int)",
    "ALTER TABLE clicks REPLICA IDENTITY FULL",
    "INSERT INTO orders SELECT n, (ARRAY['EU','US'])[1 + n % 2], n FROM generate_series(1, 50) n",
    "INSERT INTO clicks SELECT 'somebody', n % 3 FROM generate_series(1, 9) n",
)
_CHANGES = (
    "DELETE FROM orders WHERE id <= 10",
    "UPDATE orders SET amount = amount + 100 WHERE id BETWEEN 11 AND 20",
    "UPDATE orders SET region = 'US' WHERE id BETWEEN 21 AND 30",
    "INSERT INTO orders VALUES (51, 'EU', 51)",
    "DELETE FROM clicks WHERE n = 0",
)


class Shop:
    """A pipeline with a mirror, a filtered mirror and a history, its source and the store behind the last two."""

    def __init__(self, source: Database, store: Database, make_pipeline: MakePipeline) -> None:
        self.source = source
        self.store = store
        source.execute(*_TABLES)
        self.pipeline: PipelineUnderTest = make_pipeline(_FILE.format(source=source.dsn, sink=store.dsn))

    def differing(self) -> dict[str, object]:
        """What a sink holds, where that is not what the source does; told without `verify`."""
        orders = self.source.rows("SELECT id, region, amount FROM orders ORDER BY id")
        clicks = self.source.rows("SELECT who, n FROM clicks ORDER BY 2, 1")
        newest = (
            "SELECT id, region, amount FROM (SELECT DISTINCT ON (id) * FROM past.orders ORDER BY id, _sluice_position DESC) newest"
            " WHERE _op <> 'delete' ORDER BY id"
        )
        looks = {
            "orders, warehouse": (orders, self.pipeline.duckdb("SELECT id, region, amount FROM orders ORDER BY id")),
            "clicks, warehouse": (clicks, self.pipeline.duckdb("SELECT who, n FROM clicks ORDER BY 2, 1")),
            "orders, eu": (
                [row for row in orders if row[1] == "EU"],
                self.store.rows("SELECT id, region, amount FROM sales.orders ORDER BY id"),
            ),
            "clicks, eu": (clicks, self.store.rows("SELECT who, n FROM sales.clicks ORDER BY 2, 1")),
            "orders, history": (orders, self.store.rows(newest)),
        }
        return {where: held for where, (wanted, held) in looks.items() if held != wanted}

    def same(self) -> None:
        assert self.differing() == {}

    def comes_to_be_the_same(self) -> None:
        wait_for(lambda: not self.differing(), message=lambda: f"what the source holds instead of {self.differing()}")

    def verified(self) -> bool:
        return self.pipeline.sluice("verify", str(self.pipeline.file)).code == 0


@pytest.fixture
def shop(database18: Database, make_database: MakeDatabase, make_pipeline: MakePipeline) -> Shop:
    return Shop(database18, make_database(database18.server), make_pipeline)


def _drop_slots(source: Database) -> None:
    source.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")


def test_after_a_lost_slot_resync_says_what_it_would_do_and_does_it_when_told(shop: Shop) -> None:
    shop.pipeline.sync()
    _drop_slots(shop.source)
    shop.source.execute(*_CHANGES)
    lost = shop.pipeline.sync(code=1)
    assert "sluice resync" in lost.err

    said = shop.pipeline.sluice("resync", str(shop.pipeline.file))
    assert said.code == 1
    assert "CREATE_REPLICATION_SLOT" in said.out
    assert "copy public.orders" in said.out
    assert "--yes" in said.out
    assert shop.pipeline.sync(code=1).err, "saying is not doing"

    assert shop.pipeline.sluice("resync", str(shop.pipeline.file), "--yes").code == 0
    shop.pipeline.sync()
    shop.same()
    assert shop.verified()


def test_a_lost_state_folder_is_made_anew_and_the_sinks_are_taken_over(shop: Shop) -> None:
    shop.pipeline.sync()
    shop.source.execute("INSERT INTO orders SELECT n, 'EU', n FROM generate_series(100, 200) n")
    shop.pipeline.sync()
    shutil.rmtree(shop.pipeline.state)
    shop.source.execute(*_CHANGES)
    refused = shop.pipeline.sync(code=1)
    assert "sluice resync" in refused.err

    done = shop.pipeline.sluice("resync", str(shop.pipeline.file), "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["new_journal"]
    assert sorted(done.json["adopted_sinks"]) == ["eu", "history", "warehouse"]
    shop.pipeline.sync()
    shop.same()
    shop.source.execute(
        "UPDATE orders SET amount = amount + 1", "INSERT INTO clicks VALUES ('another', 7)", "DELETE FROM orders WHERE id = 11"
    )
    shop.pipeline.sync()
    shop.same()
    assert shop.verified()


def test_a_state_folder_that_is_an_old_copy_is_noticed_and_resync_mends_it(shop: Shop) -> None:
    shop.pipeline.sync()
    kept = shop.pipeline.folder / "kept"
    shutil.copytree(shop.pipeline.state, kept)
    shop.source.execute("UPDATE orders SET amount = 0")
    shop.pipeline.sync()
    shutil.rmtree(shop.pipeline.state)
    kept.rename(shop.pipeline.state)
    shop.source.execute(*_CHANGES)
    shop.pipeline.sync(code=1)
    assert shop.pipeline.sluice("resync", str(shop.pipeline.file), "--yes").code == 0
    shop.pipeline.sync()
    shop.same()
    assert shop.verified()


def test_a_source_that_is_another_server_now_is_copied_from_anew(shop: Shop, database15: Database) -> None:
    shop.pipeline.sync()
    database15.execute(*_TABLES, *_CHANGES)
    shop.pipeline.write(_FILE.format(source=database15.dsn, sink=shop.store.dsn))
    assert "another server" in shop.pipeline.sync(code=1).err
    assert shop.pipeline.sluice("resync", str(shop.pipeline.file), "--yes").code == 0
    shop.pipeline.sync()
    shop.source = database15
    shop.same()
    assert shop.verified()


def test_resync_refuses_while_the_pipeline_runs(shop: Shop) -> None:
    service = shop.pipeline.start()
    wait_for(
        lambda: shop.pipeline.state.exists() and shop.pipeline.status()["sources"]["portal"]["state"] == "streaming", message="streaming"
    )
    refused = shop.pipeline.sluice("resync", str(shop.pipeline.file), "--yes")
    assert refused.code == 1
    assert "already running" in refused.err
    assert shop.pipeline.stop(service) == 0


def test_a_table_is_copied_again_for_one_sink_or_all_while_streaming_goes_on(shop: Shop) -> None:
    shop.pipeline.sync()
    file = str(shop.pipeline.file)
    service = shop.pipeline.start()
    wait_for(lambda: shop.pipeline.status()["sources"]["portal"]["state"] == "streaming", message="streaming")
    shop.store.execute("DELETE FROM sales.orders WHERE id < 20", "DELETE FROM sales.clicks")
    assert shop.pipeline.sluice("snapshot", file, "--table", "public.orders", "--sink", "eu").code == 0
    assert shop.pipeline.sluice("snapshot", file, "--table", "clicks", "--sink", "eu").code == 0
    shop.source.execute("INSERT INTO clicks VALUES ('meanwhile', 1)", "UPDATE orders SET amount = amount + 1")
    shop.comes_to_be_the_same()
    reads = "SELECT count(*) FROM past.orders WHERE _op = 'read'"
    assert shop.store.rows(reads) == [(50,)], "the other sinks saw nothing of it"

    shop.store.execute("DELETE FROM sales.orders")
    done = shop.pipeline.sluice("snapshot", file, "--table", "portal.public.orders", "--json")
    assert done.json == {"pipeline": "again", "dataset": "orders", "sink": None, "running": True}
    shop.comes_to_be_the_same()
    wait_for(lambda: shop.store.rows(reads) == [(100,)], message="the copy in the history too")
    assert shop.pipeline.stop(service) == 0


def test_a_copy_that_was_asked_for_while_nothing_ran_is_made_by_the_next_sync(shop: Shop) -> None:
    file = str(shop.pipeline.file)
    assert "nothing has run here yet" in shop.pipeline.sluice("snapshot", file, "--table", "public.orders").err
    shop.pipeline.sync()
    shop.store.execute("DELETE FROM sales.orders", "DELETE FROM sales.clicks")
    assert shop.pipeline.sluice("snapshot", file, "--table", "public.orders").code == 0
    assert shop.pipeline.sluice("snapshot", file, "--table", "public.clicks", "--sink", "eu").code == 0
    shop.pipeline.sync()
    shop.same()

    for arguments, said in (
        (("--table", "public.order"), "did you mean public.orders"),
        (("--table", "public.orders", "--sink", "eus"), "did you mean eu"),
        (("--table", "public.clicks", "--sink", "history"), "does not take clicks"),
    ):
        refused = shop.pipeline.sluice("snapshot", file, *arguments)
        assert refused.code == 2
        assert said in refused.err
