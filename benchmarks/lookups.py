"""What lookups cost: memory and loading of a large one, and CPU per row that joining it adds: `python -m benchmarks.lookups`.

The rows to be enriched are those of a stream: orders in batches, of which each refers to a random row of the lookup. What it adds is told
beside what the same rows cost through the decoder, the gate and the journal, measured by `benchmarks.stream_decode` on the same machine.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from dataflows.enriching import Enrichments
from dataflows.lookups import Lookups
from journal.batch import ChangeBatch, CopyMarker, Op, batch_from_columns
from journal.local import JournalWriter
from journal.schema import Column, TableSchema
from pipeline.load import load_pipeline
from pipeline.model import JournalConfig

_PIPELINE = """\
pipeline: shop
sources:
  shop: {type: postgres, dsn: "host=localhost", tables: [public.orders]}
datasets:
  orders: {from: shop.public.orders, enrich: enrich.sql}
lookups:
  products: {source: shop.public.products, key: [product_id]}
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""
ENRICH = {
    "nothing joined": "SELECT input.* FROM input",
    "two columns joined": "SELECT input.*, p.name AS product, p.category FROM input LEFT JOIN products AS p USING (product_id)",
    "joined and computed": "SELECT input.*, p.name AS product, p.price * qty AS total FROM input LEFT JOIN products p USING (product_id)",
}
PRODUCTS = TableSchema(
    "products",
    (Column("product_id", "bigint", 1), Column("name", "text", 2), Column("category", "text", 3), Column("price", "numeric(12,2)", 4)),
    ("product_id",),
)
ORDERS = TableSchema(
    "orders",
    (
        Column("order_id", "bigint", 1),
        Column("product_id", "bigint", 2),
        Column("qty", "integer", 3),
        Column("email", "text", 4),
        Column("placed", "timestamp with time zone", 5),
    ),
    ("order_id",),
)


def products(first: int, rows: int) -> ChangeBatch:
    """A part of the lookup."""
    numbers = range(first, first + rows)
    columns = [
        [str(n * 7 % 999_983_111) for n in numbers],
        [f"product number {n}" for n in numbers],
        [f"category {n % 50}" for n in numbers],
        [f"{n % 1000}.{n % 100:02}" for n in numbers],
    ]
    return batch_from_columns(
        PRODUCTS, [pa.array(column) for column in columns], Op.READ, source="shop", table="public.products", first=first + 1
    )


def orders(rows: int, of: int) -> ChangeBatch:
    """Orders of random products."""
    chosen = np.random.default_rng(1).integers(0, of, rows)
    columns = [
        [str(n) for n in range(rows)],
        [str(n * 7 % 999_983_111) for n in chosen.tolist()],
        [str(1 + n % 9) for n in range(rows)],
        [f"user{n}@example.com" for n in range(rows)],
        [f"2026-01-{1 + n % 28:02} 10:{n % 60:02}:00.5+00" for n in range(rows)],
    ]
    return batch_from_columns(ORDERS, [pa.array(column) for column in columns], Op.INSERT, source="shop", table="public.orders")


def resident() -> float:
    """MB that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    """Fills a lookup, loads it anew as a restart does, and enriches batches; prints a line for each."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--lookup", type=int, default=1_000_000, help="rows of the lookup")
    asked.add_argument("--rows", type=int, default=10_000, help="rows of a batch")
    asked.add_argument("--repeats", type=int, default=40)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pipeline.yaml")
        file.write_text(_PIPELINE)
        (file.parent / "enrich.sql").write_text(ENRICH["nothing joined"])
        pipeline = load_pipeline(file)
        pipeline.state.mkdir(parents=True)
        with JournalWriter.open(pipeline.state, pipeline.name, JournalConfig(10**10)) as journal:
            filled = Lookups(pipeline)
            for first in range(0, options.lookup, 20_000):
                batch = products(first, min(20_000, options.lookup - first))
                filled.take(batch)
                filled.keep(batch, journal.lookups)
            end = CopyMarker(PRODUCTS, "shop", "public.products", "end", 0, first=True)
            filled.take(end)
            filled.keep(end, journal.lookups)
            journal.commit("shop", "1")
            del filled
            before, began = resident(), time.process_time()
            lookups = Lookups(pipeline)
            lookups.load(journal.lookups)
            table = lookups.tables["products"]
            print(
                f"a lookup of {len(table)} rows: {table.nbytes / 1e6:.0f} MB of columns and index, {resident() - before:.0f} MB resident,"
                f" loaded in {time.process_time() - began:.2f} s; peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB"
            )
        print(f"{'enriched with':24} {'us/row':>8} {'one row, ms':>12}   ({options.rows} rows a batch)")
        batch = orders(options.rows, options.lookup)
        for name, sql in ENRICH.items():
            (file.parent / "enrich.sql").write_text(sql)
            bound = Enrichments(pipeline, lookups).bound(batch.schema)
            assert bound is not None
            whole = _seconds(lambda b=bound, of=batch: b.feed.apply(of), options.repeats)
            single = batch.slice(0, 1)
            one = _seconds(lambda b=bound, of=single: b.feed.apply(of), options.repeats)
            print(f"{name:24} {whole / options.rows * 1e6:8.3f} {one * 1e3:12.3f}")


def _seconds(do: object, repeats: int) -> float:
    """CPU of one run, the median of some, after two that prepare."""
    assert callable(do)
    for _ in range(2):
        do()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        do()
        found.append(time.process_time() - began)
    return statistics.median(found)


if __name__ == "__main__":
    main()
