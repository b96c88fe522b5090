"""Two tables of different shapes come to one canonical dataset, through the commands that people use."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database, MakeDatabase
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: channels
state: .sluice
sources:
  shop: {{type: postgres, dsn: "{shop}", tables: [public.orders]}}
  market: {{type: postgres, dsn: "{market}", tables: [public.sales]}}
datasets:
  all_orders:
    from:
      - {{source: shop.public.orders, map: maps/shop.sql}}
      - {{source: market.public.sales, map: maps/market.sql}}
    contract: contracts/all_orders.odcs.yaml
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
  eu:
    type: postgres
    dsn: "{sink}"
    schema: sales
    datasets:
      all_orders: {{where: "region = 'EU'"}}
"""

_CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: all-orders
version: 1.0.0
status: active
schema:
  - name: all_orders
    properties:
      - {name: order_id, logicalType: string, physicalType: text, primaryKey: true, required: true}
      - {name: channel, logicalType: string, physicalType: text, required: true}
      - {name: email, logicalType: string, physicalType: text}
      - {name: region, logicalType: string, physicalType: text}
      - name: total
        logicalType: number
        physicalType: numeric(12,2)
        quality:
          - {id: total-positive, type: sql, query: "total >= 0", mustBe: true}
      - {name: placed_at, logicalType: timestamp, physicalType: timestamptz}
      - {name: note, logicalType: string, physicalType: text}
"""

_SHOP = """
-- the shop's own orders
SELECT
    'shop-' || id AS order_id,
    'shop' AS channel,
    lower(email) AS email,
    region,
    cents / 100.0 AS total,
    placed AS placed_at,
    note
FROM input
"""

_MARKET = """
SELECT
    concat('market-', seller, '-', number) AS order_id,
    'market' AS channel,
    buyer->>'email' AS email,
    CASE WHEN country IN ('DE', 'FR') THEN 'EU' ELSE 'US' END AS region,
    amount AS total,
    CAST("at" AS TIMESTAMPTZ) AS placed_at
FROM input
"""


@dataclass
class Channels:
    pipeline: PipelineUnderTest
    shop: Database
    market: Database
    store: Database

    def expected(self, where: str = "true") -> list[tuple[object, ...]]:
        """What the canonical table has to hold, said by Postgres itself."""
        shop = self.shop.rows(
            "SELECT 'shop-' || id, 'shop', lower(email), region, (cents / 100.0)::numeric(12,2)::text, extract(epoch FROM placed)::bigint,"
            f" md5(note) FROM (SELECT * FROM orders) AS o WHERE cents >= 0 AND {where}"
        )
        market = self.market.rows(
            "SELECT * FROM (SELECT concat('market-', seller, '-', number), 'market', buyer->>'email',"
            " CASE WHEN country IN ('DE', 'FR') THEN 'EU' ELSE 'US' END AS region, amount::numeric(12,2)::text,"
            f" extract(epoch FROM at AT TIME ZONE 'UTC')::bigint, NULL FROM sales WHERE amount = round(amount, 2)) AS s WHERE {where}"
        )
        return sorted(shop + market)

    def same(self) -> None:
        columns = "order_id, channel, email, region, total::text, {}, md5(note)"
        held = self.pipeline.duckdb(f"SELECT {columns.format('epoch(placed_at)::bigint')} FROM all_orders")
        assert sorted(held) == self.expected()
        stored = self.store.rows(f"SELECT {columns.format('extract(epoch FROM placed_at)::bigint')} FROM sales.all_orders")
        assert sorted(stored) == self.expected("region = 'EU'")


@pytest.fixture
def channels(database18: Database, make_database: MakeDatabase, make_pipeline: MakePipeline) -> Channels:
    market, store = make_database(database18.server), make_database(database18.server)
    database18.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, email text, region text, cents integer, placed timestamptz, note text)",
        "ALTER TABLE orders ALTER note SET STORAGE EXTERNAL",
        "INSERT INTO orders SELECT n, 'User' || n || '@Example.com', (ARRAY['EU','US'])[1 + n % 2], n * 7,"
        " '2026-01-01 00:00:00+00'::timestamptz + n * interval '1 minute', repeat(md5(n::text), 100) FROM generate_series(1, 300) n",
    )
    market.execute(
        "CREATE TABLE sales (seller int, number int, buyer jsonb, country text, amount numeric, at timestamp,"
        " PRIMARY KEY (seller, number))",
        "INSERT INTO sales SELECT n % 5, n, jsonb_build_object('email', 'buyer' || n), (ARRAY['DE','FR','US'])[1 + n % 3], n * 1.25,"
        " '2026-02-01'::timestamp + n * interval '1 hour' FROM generate_series(1, 200) n",
    )
    pipeline = make_pipeline(_FILE.format(shop=database18.dsn, market=market.dsn, sink=store.dsn))
    pipeline.write(_CONTRACT, "contracts/all_orders.odcs.yaml")
    pipeline.write(_SHOP, "maps/shop.sql")
    pipeline.write(_MARKET, "maps/market.sql")
    return Channels(pipeline, database18, market, store)


def test_two_tables_become_one_dataset_and_stay_so(channels: Channels) -> None:
    pipeline, shop, market = channels.pipeline, channels.shop, channels.market
    assert pipeline.sluice("check", str(pipeline.file)).code == 0
    planned = pipeline.sluice("plan", str(pipeline.file), "--json")
    assert planned.code == 0, planned.out
    pipeline.sync()
    channels.same()

    shop.execute(
        "UPDATE orders SET cents = cents + 1 WHERE id % 10 = 0",  # the notes are out of line, and the log leaves them out
        "UPDATE orders SET id = id + 100000 WHERE id % 97 = 0",
        "DELETE FROM orders WHERE id % 13 = 0",
        "UPDATE orders SET region = CASE region WHEN 'EU' THEN 'US' ELSE 'EU' END WHERE id % 50 < 2",
    )
    market.execute(
        "UPDATE sales SET number = number + 1000 WHERE number % 31 = 0",
        "DELETE FROM sales WHERE number % 17 = 0",
        'UPDATE sales SET buyer = \'{"email": "other"}\' WHERE seller = 3',
        "INSERT INTO sales VALUES (9, 1, NULL, 'DE', 5, '2026-03-01')",
    )
    pipeline.sync()
    channels.same()
    answer = pipeline.verify()
    assert answer["conserved"]
    for found in answer["datasets"]["all_orders"].values():
        assert (found["missing"], found["extra"], found["different"]) == (0, 0, 0), found

    # a copy of one source again leaves the rows of the other
    assert pipeline.sluice("snapshot", str(pipeline.file), "--table", "shop.public.orders").code == 0
    shop.execute("UPDATE orders SET email = 'changed' WHERE id = 1")
    pipeline.sync()
    channels.same()


def test_rows_that_a_map_cannot_make_are_quarantined_and_their_neighbours_pass(channels: Channels) -> None:
    pipeline, market, shop = channels.pipeline, channels.market, channels.shop
    market.execute("INSERT INTO sales VALUES (7, 1, '{}', 'DE', 1.005, '2026-03-01'), (7, 2, '{}', 'DE', 1.00, '2026-03-01')")
    shop.execute("INSERT INTO orders VALUES (900, 'x', 'EU', -5, now(), NULL)")
    pipeline.sync()
    channels.same()
    records = {tuple(sorted(one["key"].items())): one for one in pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json}
    cut, negative = records[("order_id", "market-7-1"),], records[("order_id", "shop-900"),]
    assert cut["reasons"][0]["rule"] == "map"
    assert cut["reasons"][0]["column"] == "total"
    assert cut["source"] == "market"
    shown = pipeline.sluice("quarantine", "show", str(pipeline.file), cut["id"], "--json").json
    assert "1.005" in str(shown)
    assert negative["reasons"][0]["rule"] == "total-positive"
    answer = pipeline.verify()
    assert answer["conserved"]
    assert all(not found["extra"] and not found["different"] for found in answer["datasets"]["all_orders"].values()), answer


def test_a_sink_that_comes_later_gets_a_copy_of_every_source(channels: Channels) -> None:
    pipeline, shop, market = channels.pipeline, channels.shop, channels.market
    pipeline.sync()
    shop.execute("UPDATE orders SET email = 'changed' WHERE id % 7 = 0")
    pipeline.sync()  # what the first commands brought is gone from the journal
    text = pipeline.file.read_text("utf-8")
    pipeline.write(text.replace("  warehouse:", "  late: {type: duckdb, path: late.duckdb}\n  warehouse:"))
    shop.execute("DELETE FROM orders WHERE id % 11 = 0")
    market.execute("UPDATE sales SET country = 'US' WHERE number % 7 = 0")
    pipeline.sync()
    channels.same()
    everything = "SELECT CAST(COLUMNS(* EXCLUDE (_sluice_position)) AS VARCHAR) FROM all_orders ORDER BY order_id"
    assert pipeline.duckdb(everything, "late.duckdb") == pipeline.duckdb(everything)


def test_the_service_survives_a_kill_and_goes_on_with_the_columns_of_the_source(channels: Channels) -> None:
    pipeline, shop = channels.pipeline, channels.shop
    process = pipeline.start()
    wait_for(lambda: _counted(pipeline) >= 500, message=lambda: pipeline.log[-3000:])
    pipeline.kill("ingest")
    shop.execute(
        "INSERT INTO orders SELECT n, 'late', 'EU', n, now(), NULL FROM generate_series(1000, 1100) n", "DELETE FROM orders WHERE id < 20"
    )
    wait_for(lambda: _counted(pipeline) >= 620, message=lambda: pipeline.log[-3000:])
    assert pipeline.stop(process) == 0
    pipeline.sync()
    channels.same()


def _counted(pipeline: PipelineUnderTest) -> int:
    return int(pipeline.status()["datasets"].get("all_orders", {"in": 0})["in"])


def test_plan_refuses_a_map_whose_key_the_old_row_does_not_tell(channels: Channels) -> None:
    pipeline = channels.pipeline
    pipeline.write(_SHOP.replace("'shop-' || id", "concat('shop-', email)"), "maps/shop.sql")
    done = pipeline.sluice("plan", str(pipeline.file))
    assert done.code == 1
    assert "REPLICA IDENTITY FULL" in done.out
    assert "email" in done.out
    channels.shop.execute("ALTER TABLE orders REPLICA IDENTITY FULL")
    assert pipeline.sluice("plan", str(pipeline.file)).code == 0
    pipeline.sync()
    channels.shop.execute("UPDATE orders SET email = 'moved' WHERE id = 5", "DELETE FROM orders WHERE id = 6")
    pipeline.sync()
    keys = {key for (key,) in pipeline.duckdb("SELECT order_id FROM all_orders WHERE channel = 'shop'")}
    assert "shop-moved" in keys
    assert not {"shop-User5@Example.com", "shop-User6@Example.com"} & keys
    assert len(keys) == 299
