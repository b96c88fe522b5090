"""CPU per row of maps over batches as ingest has them, and how much of it the casts of columns are: `python -m benchmarks.mapping`."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dataflows.map_function import FunctionMap
from dataflows.map_query import parse_query
from dataflows.map_sql import SqlMap
from dataflows.mapping import FeedMap, RowMap
from journal.batch import ChangeBatch, Op, batch_from_columns
from journal.expression import computable
from journal.schema import Column, TableSchema

TYPES: Mapping[str, str] = {
    "orderNo": "text",
    "buyer": "jsonb",
    "cents": "bigint",
    "rate": "numeric",
    "placed": "timestamp with time zone",
    "country": "text",
    "qty": "integer",
}
MAPS: Mapping[str, str] = {
    "columns renamed": "SELECT orderNo AS order_id, placed AS placed_at, country AS region, qty AS quantity FROM input",
    "text and a CASE": """
        SELECT 'aws-' || orderNo AS order_id, CASE WHEN country IN ('DE', 'FR') THEN 'EU' ELSE 'US' END AS region, qty AS quantity
        FROM input""",
    "an order: text, money, time": """
        SELECT 'aws-' || orderNo AS order_id, cents / 100 AS total, placed AS placed_at, CAST(placed AS DATE) AS day,
               CASE WHEN country IN ('DE', 'FR') THEN 'EU' ELSE 'US' END AS region, qty AS quantity FROM input""",
    "an order out of JSON": """
        SELECT 'aws-' || orderNo AS order_id, buyer->>'email' AS email, buyer->>'$.address.city' AS city, cents / 100 AS total,
               placed AS placed_at, qty AS quantity FROM input""",
    "numeric without a scale": "SELECT orderNo AS order_id, rate * 2 AS rate FROM input",
}
ORDERS = TableSchema(
    "orders",
    (
        Column("order_id", "text"),
        Column("email", "text"),
        Column("city", "text"),
        Column("region", "text"),
        Column("quantity", "integer"),
        Column("total", "numeric(12,2)"),
        Column("placed_at", "timestamp with time zone"),
        Column("day", "date"),
        Column("rate", "numeric"),
    ),
    ("order_id",),
)


def orders(rows: pa.Table) -> pa.Table:
    """The same order as a function of Arrow."""
    return pa.table(
        {
            "order_id": pc.binary_join_element_wise("aws", rows["orderNo"], "-"),
            "total": pc.multiply(rows["cents"].cast(pa.decimal128(19, 0)), pa.scalar(Decimal("0.01"))),
            "placed_at": rows["placed"],
            "region": pc.if_else(pc.is_in(rows["country"], pa.array(["DE", "FR"])), "EU", "US"),
            "quantity": rows["qty"],
        }
    )


def made(rows: int) -> ChangeBatch:
    """A batch of inserts."""
    values = {
        "orderNo": [f"N{n:08}" for n in range(rows)],
        "buyer": [f'{{"email":"user{n}@example.com","address":{{"city":"Paris","zip":"{n}"}}}}' for n in range(rows)],
        "cents": [str(n * 7919 % 1_000_003) for n in range(rows)],
        "rate": [f"{n}.{n % 100:02}" for n in range(rows)],
        "placed": [f"2026-01-{1 + n % 28:02} 10:{n % 60:02}:00.5+00" for n in range(rows)],
        "country": [("DE", "FR", "US", "JP")[n % 4] for n in range(rows)],
        "qty": [str(n % 9) for n in range(rows)],
    }
    schema = TableSchema("orders", tuple(Column(name, kind) for name, kind in TYPES.items()), ("orderNo",))
    return batch_from_columns(schema, [pa.array(values[name]) for name in TYPES], Op.INSERT, source="aws", table="orders")


def microseconds(do: Callable[[], object], rows: int, repeats: int) -> float:
    """CPU per row, the median of some runs, after two that prepare."""
    for _ in range(2):
        do()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        do()
        found.append(time.process_time() - began)
    return statistics.median(found) / rows * 1e6


def main() -> None:
    """Measures each map in turn, and prints a line for it."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rows", type=int, default=10_000)
    asked.add_argument("--repeats", type=int, default=40)
    options = asked.parse_args()
    batch = made(options.rows)
    columns = dict(zip(TYPES, batch.columns, strict=True))
    maps: dict[str, tuple[RowMap, frozenset[str]]] = {}
    for name, sql in MAPS.items():
        found = SqlMap(parse_query(sql, Path(f"{name}.sql")), TYPES, ORDERS)
        maps[name] = found, found.computed_with
    maps["a function: text, money, time"] = FunctionMap("orders", orders, TYPES, ORDERS), frozenset(TYPES)
    print(f"{'map':32} {'us/row':>8} {'of it casts':>12}   ({options.rows} rows a batch)")
    for name, (rows, reads) in maps.items():
        feed = FeedMap(rows, batch.schema, ORDERS, declared=True, merged=False)
        assert feed.apply(batch).failed is None, name
        whole = microseconds(lambda feed=feed: feed.apply(batch), options.rows, options.repeats)  # type: ignore[misc]
        casts = microseconds(
            lambda reads=reads: [computable(columns[one], TYPES[one]) for one in reads],  # type: ignore[misc]
            options.rows,
            options.repeats,
        )
        print(f"{name:32} {whole:8.3f} {casts:12.3f}")


if __name__ == "__main__":
    main()
