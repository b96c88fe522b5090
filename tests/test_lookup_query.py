"""The SQL of `enrich`: what it may say of lookups, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from dataflows.lookup_map import LookupMap
from dataflows.lookup_query import parse_enrichment
from dataflows.lookup_table import LookupTable
from journal.batch import Op, batch_from_columns
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError
from pipeline.model import Lookup

PRODUCTS = TableSchema(
    "products",
    (Column("product_id", "bigint", 1), Column("name", "text", 2), Column("price", "numeric(10,2)", 3), Column("category", "text", 4)),
    ("product_id",),
)
CATEGORIES = TableSchema("categories", (Column("shop", "integer", 1), Column("id", "text", 2), Column("label", "text", 3)), ("shop", "id"))
LOOKUPS = {
    "products": Lookup("products", "shop", "public.products", ("product_id",), "quarantine"),
    "categories": Lookup("categories", "shop", "public.categories", ("shop", "id")),
}
TYPES = {"order_id": "bigint", "product_id": "integer", "qty": "integer", "note": "text"}
ROWS = {
    "order_id": ["10", "11", "12", "13"],
    "product_id": ["1", "3", "9", None],
    "qty": ["2", "1", "1", "1"],
    "note": ["1", "b", "c", "d"],
}


@pytest.fixture
def tables() -> dict[str, LookupTable]:
    found = {name: LookupTable(lookup) for name, lookup in LOOKUPS.items()}
    rows = [["1", "2", "3"], ["pen", "cup", "ink"], ["1.50", "2.00", "3.00"], ["x", "y", None]]
    found["products"].take(batch_from_columns(PRODUCTS, [pa.array(column) for column in rows], Op.READ, first=1))
    labels = [["1", "1"], ["x", "y"], ["ex", "why"]]
    found["categories"].take(batch_from_columns(CATEGORIES, [pa.array(column) for column in labels], Op.READ, first=9))
    return found


def bound(sql: str, tables: dict[str, LookupTable]) -> LookupMap:
    found = parse_enrichment(sql, Path("enrich.sql"), {name: lookup.key for name, lookup in LOOKUPS.items()})
    return LookupMap(found, TYPES, LOOKUPS, tables, {"products": PRODUCTS, "categories": CATEGORIES})


def run(sql: str, tables: dict[str, LookupTable]) -> tuple[dict[str, list[str | None]], dict[int, str]]:
    answer = bound(sql, tables).run({name: pa.array(values, pa.string()) for name, values in ROWS.items()}, 4)
    return {name: column.to_pylist() for name, column in answer.columns.items()}, {row: reason.rule for row, reason in answer.bad.items()}


def test_each_row_has_beside_it_what_the_lookup_has_for_its_key(tables: dict[str, LookupTable]) -> None:
    columns, bad = run(
        "SELECT input.*, p.name AS product, p.price * qty AS total FROM input LEFT JOIN products AS p ON p.product_id = input.product_id",
        tables,
    )
    assert list(columns) == ["order_id", "product_id", "qty", "note", "product", "total"]
    assert columns["product"] == ["pen", "ink", None, None]
    assert columns["total"] == ["3.00", "3.00", None, None]
    assert bad == {2: "lookup:products"}  # a key that is null refers to nothing


def test_a_lookup_can_be_found_through_another_and_by_what_sql_makes_of_the_row(tables: dict[str, LookupTable]) -> None:
    columns, bad = run(
        "SELECT o.order_id, label FROM input o LEFT JOIN products USING (product_id)"
        " LEFT JOIN lookups.categories AS c ON c.id = lower(products.category) AND 1 = c.shop",
        tables,
    )
    assert columns == {"order_id": ["10", "11", "12", "13"], "label": ["ex", None, None, None]}
    assert bad == {2: "lookup:products"}
    columns, bad = run("SELECT order_id, name FROM input LEFT JOIN products AS p ON p.product_id = TRY_CAST(note AS BIGINT)", tables)
    assert (columns["name"], bad) == (["pen", None, None, None], {})


def test_stars_and_plain_names_are_those_of_the_table_that_has_them(tables: dict[str, LookupTable]) -> None:
    columns, _ = run("SELECT input.* EXCLUDE (note), p.* EXCLUDE (product_id) FROM input LEFT JOIN products p USING (product_id)", tables)
    assert list(columns) == ["order_id", "product_id", "qty", "name", "price", "category"]
    found = bound("SELECT order_id, product_id, upper(name) AS name FROM input LEFT JOIN products USING (product_id)", tables)
    assert found.plain == {"order_id": "order_id", "product_id": "product_id"}
    assert found.reads(("order_id",)) == {"order_id"}
    assert found.reads(("name",)) == {"product_id"}
    assert found.reads(found.columns) == {"order_id", "product_id"}


def test_the_key_alone_asks_no_lookup(tables: dict[str, LookupTable]) -> None:
    found = bound("SELECT input.*, name FROM input LEFT JOIN products USING (product_id)", tables)
    answer = found.run({"order_id": pa.array(["7"])}, 1, ("order_id",))
    assert (answer.columns["order_id"].to_pylist(), answer.bad) == (["7"], {})
    assert found.run({name: pa.array([], pa.string()) for name in TYPES}, 0).columns["name"].to_pylist() == []


@pytest.mark.parametrize("name", ["p.name", "P.NAME", "_p.name", "__p.price"])
def test_a_column_of_the_input_is_none_of_a_lookups_whatever_it_is_called(tables: dict[str, LookupTable], name: str) -> None:
    found = parse_enrichment(
        f'SELECT input.*, input."{name}" || p.name AS both FROM input LEFT JOIN products AS p ON p.product_id = input.product_id',
        Path("enrich.sql"),
        {name: lookup.key for name, lookup in LOOKUPS.items()},
    )
    rows = LookupMap(found, {**TYPES, name: "text"}, LOOKUPS, tables, {"products": PRODUCTS, "categories": CATEGORIES})
    answer = rows.run({**{name: pa.array(values, pa.string()) for name, values in ROWS.items()}, name: pa.array(["mine"] * 4)}, 4)
    assert answer.columns[name].to_pylist() == ["mine"] * 4
    assert answer.columns["both"].to_pylist() == ["minepen", "mineink", None, None]


ON = "LEFT JOIN products AS p ON p.product_id = input.product_id"


@pytest.mark.parametrize(
    "sql, said",
    [
        ("SELECT input.*\nFROM input LEFT JOIN product p ON p.product_id = qty", r"enrich.sql:2: there is no lookup `product`\n.*products"),
        ("SELECT input.*\nFROM input LEFT JOIN products p ON p.name = note", "enrich.sql:2: .*something else than its key, product_id"),
        ("SELECT input.*\nFROM input LEFT JOIN categories c ON c.id = note", "enrich.sql:2: .*something else than its key, shop, id"),
        ("SELECT input.*\nFROM input LEFT JOIN products p ON p.product_id > qty", "enrich.sql:2: a lookup is joined on its key alone"),
        ("SELECT input.*\nFROM input LEFT JOIN products p ON p.product_id = qty AND p.price > 1", "enrich.sql:2: .*on its key alone"),
        ("SELECT input.*\nFROM input LEFT JOIN products p ON p.product_id = qty OR qty = 1", "enrich.sql:2: .*on its key alone"),
        ("SELECT input.*\nFROM input, products", "joined with LEFT JOIN|on its key|something else"),
        ("SELECT products.*\nFROM products", "joined to input|reads FROM input"),
        (
            "SELECT (SELECT name\nFROM products p WHERE p.product_id = qty) AS n FROM input",
            "enrich.sql:2: the lookup `products` is joined to input",
        ),
        (f"SELECT order_id,\n p.nam FROM input {ON}", r"enrich.sql:2: the lookup `products` has no column `nam`\n.*name"),
        (f"SELECT order_id,\n nam FROM input {ON}", "enrich.sql:2: the input has no column `nam`"),
        (f"SELECT *\nFROM input {ON}", "would take columns of every table"),
        (
            f"SELECT order_id,\n category FROM input {ON} LEFT JOIN products q ON q.product_id = qty",
            "enrich.sql:2: several have a column `category`",
        ),
        (f"SELECT order_id FROM input {ON}\n{ON}", "enrich.sql:2: two tables are called `p`"),
        (f"SELECT input.*, p.* FROM input {ON}", "gives the column `product_id` twice"),
        (f"SELECT max(p.name) AS n FROM input {ON}", "one row for each row"),
        (
            "SELECT input.*\nFROM input LEFT JOIN products p ON p.product_id = note",
            "`product_id` is text, which goes into no column of bigint",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(sql: str, said: str, tables: dict[str, LookupTable]) -> None:
    with pytest.raises(ConfigError, match=said):
        bound(sql, tables)
