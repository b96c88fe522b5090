"""Orders with what lookups of two databases have for them, through the commands that people use, and through kills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract_text import contract_of
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database, MakeDatabase
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: shop
state: .sluice
sources:
  shop: {{type: postgres, dsn: "{shop}", tables: [public.orders]}}
  crm: {{type: postgres, dsn: "{crm}", tables: [public.customers]}}
datasets:
  orders:
    from: shop.public.orders
    contract: orders.odcs.yaml
    enrich: maps/orders.sql
lookups:
  products: {{source: shop.public.products, key: product_id, on_missing: {on_missing}, wait_seconds: {wait}}}
  customers: {{source: crm.public.customers, key: [customer_id]}}
sinks:
  warehouse:
    type: duckdb
    path: warehouse.duckdb
    datasets:
      orders: {{where: "coalesce(category, '') <> 'secret'"}}
  mirror: {{type: postgres, dsn: "{store}", schema: sales}}
"""

_CONTRACT = contract_of("""\
    properties:
      - {name: order_id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}
      - {name: product_id, logicalType: string, physicalType: uuid}
      - {name: customer_id, logicalType: integer, physicalType: integer}
      - name: qty
        logicalType: integer
        physicalType: integer
        quality:
          - {id: qty-positive, type: sql, query: "qty > 0", mustBe: true}
      - {name: note, logicalType: string, physicalType: text}
""")

_ENRICH = """
SELECT
    o.*,
    p.title AS product,
    p.category,
    p.price * o.qty AS total,
    upper(c.country) AS country
FROM input AS o
LEFT JOIN products AS p ON p.product_id = o.product_id
LEFT JOIN customers AS c ON c.customer_id = o.customer_id
"""


def product(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012}"


@dataclass
class Shop:
    pipeline: PipelineUnderTest
    shop: Database
    crm: Database
    store: Database

    def order(self, number: int, of: int, customer: int = 1, qty: int = 1) -> None:
        self.shop.execute(f"INSERT INTO orders VALUES ({number}, '{product(of)}', {customer}, {qty}, 'note')")

    def held(self, where: str = "true") -> list[tuple[Any, ...]]:
        """Order, product, total and country, as the mirror has them; empty before there is a table."""
        if not self.store.rows("SELECT 1 FROM pg_tables WHERE schemaname = 'sales' AND tablename = 'orders'"):
            return []
        return self.store.rows(f"SELECT order_id, product, total::text, country FROM sales.orders WHERE {where} ORDER BY order_id")

    def conserved(self) -> None:
        answer = self.pipeline.verify()
        assert answer["conserved"], answer["unbalanced"]
        found = answer["datasets"]["orders"]["mirror"]
        assert (found["missing"], found["extra"], found["different"], found["compared"]) == (0, 0, 0, True), found
        assert answer["datasets"]["orders"]["warehouse"]["compared"] is False


@pytest.fixture
def make_shop(database18: Database, make_database: MakeDatabase, make_pipeline: MakePipeline) -> Any:
    crm, store = make_database(database18.server), make_database(database18.server)
    database18.execute(
        "CREATE TABLE products (product_id uuid PRIMARY KEY, title text, category text, price numeric(10,2), picture text)",
        "ALTER TABLE products ALTER picture SET STORAGE EXTERNAL",
        "CREATE TABLE orders (order_id bigint PRIMARY KEY, product_id uuid, customer_id int, qty int, note text)",
        "INSERT INTO products SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'product ' || n,"
        " CASE WHEN n % 10 = 0 THEN 'secret' ELSE 'plain' END, n * 1.25, repeat(md5(n::text), 100) FROM generate_series(1, 100) n",
        "INSERT INTO orders SELECT n, ('00000000-0000-0000-0000-' || lpad((1 + n % 100)::text, 12, '0'))::uuid, n % 7, n % 5, 'note ' || n"
        " FROM generate_series(1, 500) n",
    )
    crm.execute(
        "CREATE TABLE customers (customer_id int PRIMARY KEY, country text)",
        "INSERT INTO customers SELECT n, 'de' FROM generate_series(0, 5) n",
    )

    def make(on_missing: str, wait: str = "60") -> Shop:
        text = _FILE.format(shop=database18.dsn, crm=crm.dsn, store=store.dsn, on_missing=on_missing, wait=wait)
        pipeline = make_pipeline(text)
        pipeline.write(_CONTRACT, "orders.odcs.yaml")
        pipeline.write(_ENRICH, "maps/orders.sql")
        return Shop(pipeline, database18, crm, store)

    return make


def test_orders_are_enriched_from_the_first_copy_on_and_stay_as_they_were(make_shop: Any) -> None:
    place: Shop = make_shop("quarantine")
    pipeline, shop = place.pipeline, place.shop
    checked = pipeline.sluice("check", str(pipeline.file))
    assert checked.code == 0, checked.out
    planned = pipeline.sluice("plan", str(pipeline.file), "--json")
    assert planned.code == 0, planned.out
    pipeline.sync()
    # copied: each lookup before the orders, though the contract turns away every fifth
    copied = shop.rows(
        "SELECT order_id, title, (price * qty)::text, CASE WHEN customer_id < 6 THEN 'DE' END FROM orders JOIN products USING (product_id)"
        " WHERE qty > 0 ORDER BY order_id"
    )
    assert place.held() == copied
    assert place.store.rows(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'sales' AND tablename NOT LIKE '\\_sluice%' ORDER BY 1"
    ) == [
        ("customers",),
        ("orders",),
    ]
    assert pipeline.duckdb("SELECT count(*) FROM orders WHERE category = 'secret'") == [(0,)]
    assert pipeline.duckdb("SELECT count(*) FROM orders")[0][0] < len(copied)

    shop.execute("UPDATE products SET title = 'new ' || title WHERE price < 3", f"DELETE FROM products WHERE product_id = '{product(50)}'")
    place.crm.execute("UPDATE customers SET country = 'fr' WHERE customer_id = 1")
    pipeline.sync()
    assert place.held() == copied  # what was delivered changes no more
    place.order(1001, 1)
    place.order(1002, 50)
    shop.execute("UPDATE orders SET qty = 2 WHERE order_id = 101", "DELETE FROM orders WHERE order_id = 102")
    pipeline.sync()
    assert place.held("order_id > 1000 OR order_id IN (101, 102)") == [
        (101, "new product 2", "5.00", "DE"),
        (1001, "new product 1", "1.25", "FR"),
    ]
    listed = pipeline.sluice("quarantine", "list", str(pipeline.file), "--json").json
    assert [one["key"] for one in listed if one["reasons"][0]["rule"] == "lookup:products"] == [{"order_id": 1002}]
    place.conserved()

    # everything again: the lookups first, and the orders with what those hold now
    assert pipeline.sluice("resync", str(pipeline.file), "--yes").code == 0
    pipeline.sync()
    assert place.held("order_id IN (1, 1001)") == [(1, "new product 2", "2.50", "FR"), (1001, "new product 1", "1.25", "FR")]
    place.conserved()


def test_an_order_waits_for_its_product_through_kills_and_comes_once(make_shop: Any) -> None:
    place: Shop = make_shop("wait")
    pipeline, shop = place.pipeline, place.shop
    service = pipeline.start()
    wait_for(lambda: len(place.held()) == 400, 90, lambda: f"the first copy\n{pipeline.log[-3000:]}")
    for number in range(2000, 2010):
        place.order(number, 200)
    place.order(2100, 2)
    shop.execute("UPDATE orders SET qty = 3 WHERE order_id = 2001", "DELETE FROM orders WHERE order_id = 2002")
    wait_for(lambda: place.held("order_id = 2100"), message="an order that need not wait")
    wait_for(lambda: pipeline.status()["datasets"]["orders"]["waiting"] == 12, message=lambda: f"orders that wait: {pipeline.status()}")
    assert place.held("order_id BETWEEN 2000 AND 2099") == []
    pipeline.kill("ingest")
    shop.execute(f"INSERT INTO products VALUES ('{product(200)}', 'late', 'plain', 2.00, repeat(md5('x'), 100))")
    wait_for(lambda: len(place.held("order_id BETWEEN 2000 AND 2099")) == 9, message=lambda: f"the orders\n{pipeline.log[-3000:]}")
    pipeline.kill("ingest")
    assert place.held("order_id BETWEEN 2000 AND 2003") == [
        (2000, "late", "2.00", "DE"),
        (2001, "late", "6.00", "DE"),
        (2003, "late", "2.00", "DE"),
    ]
    shop.execute("UPDATE products SET title = 'later' WHERE title = 'late'")
    place.order(2200, 200)
    wait_for(lambda: place.held("order_id = 2200") == [(2200, "later", "2.00", "DE")], message="an order after another kill")
    assert pipeline.stop(service) == 0
    pipeline.sync()
    place.conserved()
    # copied, inserted, changed and deleted
    found = pipeline.status()["datasets"]["orders"]
    assert (found["in"], found["quarantined"], found["waiting"]) == (500 + 10 + 1 + 2 + 1, 100, 0)


def test_sync_waits_as_long_as_an_order_may(make_shop: Any) -> None:
    place: Shop = make_shop("wait", "2s")
    place.pipeline.sync()
    place.order(3000, 300)
    place.pipeline.sync()
    assert place.held("order_id = 3000") == []
    listed = place.pipeline.sluice("quarantine", "list", str(place.pipeline.file), "--json").json
    assert [one["key"] for one in listed if one["reasons"][0]["rule"] == "lookup:products"] == [{"order_id": 3000}]
    place.conserved()


def test_a_lookup_that_comes_later_is_copied_then(make_shop: Any) -> None:
    place: Shop = make_shop("quarantine")
    written = place.pipeline.file.read_text()
    before, _, after = written.partition("lookups:\n")
    without = before + after[after.index("sinks:\n") :]
    place.pipeline.write(without.replace("    enrich: maps/orders.sql\n", "").replace("category", "note"))
    place.pipeline.sync()
    place.pipeline.write(written)
    place.pipeline.sync()
    place.order(4000, 3)
    place.pipeline.sync()
    assert place.held("order_id = 4000") == [(4000, "product 3", "3.75", "DE")]
