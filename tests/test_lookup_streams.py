"""A folder of files as a lookup of another: it is read to its end before the other is."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.fix_pipeline import MakePipeline

pytestmark = pytest.mark.timeout(120)

_FILE = """
pipeline: shop
state: .sluice
sources:
  orders:
    type: files
    path: drops/orders
    format: json
    settle_seconds: 0
    schema: {id: bigint, currency: text, amount: "numeric(10,2)"}
  rates:
    type: files
    path: drops/rates
    format: json
    settle_seconds: 0
    schema: {currency: text, rate: "numeric(10,4)"}
datasets:
  orders: {from: orders, key: [id], enrich: orders.sql}
lookups:
  rates: {source: rates, key: [currency], on_missing: quarantine}
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb, datasets: [orders]}
"""
_ENRICH = "SELECT input.*, CAST(amount * rate AS DECIMAL(12,2)) AS euros FROM input LEFT JOIN rates USING (currency)"


def test_files_are_a_lookup_of_files(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(_FILE)
    pipeline.write(_ENRICH, "orders.sql")

    def drop(folder: str, name: str, *rows: Mapping[str, object]) -> None:
        pipeline.write("".join(json.dumps(row) + "\n" for row in rows), f"drops/{folder}/{name}")

    drop("orders", "1.json", *({"id": n, "currency": "USD" if n % 10 else "XXX", "amount": n} for n in range(1, 2001)))
    drop("rates", "1.json", {"currency": "USD", "rate": 0.9}, {"currency": "GBP", "rate": 1.2})
    checked = pipeline.sluice("check", str(pipeline.file))
    assert checked.code == 0, checked.out
    pipeline.sync()
    assert pipeline.duckdb("SELECT count(*), count(euros), sum(euros) = sum(amount) * 0.9 FROM orders") == [(1800, 1800, True)]
    assert pipeline.status()["datasets"]["orders"]["quarantined"] == 200
    drop("rates", "2.json", {"currency": "USD", "rate": 0.5})
    pipeline.sync()
    drop("orders", "2.json", {"id": 3000, "currency": "USD", "amount": 10})
    pipeline.sync()
    assert pipeline.duckdb("SELECT euros::text FROM orders WHERE id IN (1, 3000) ORDER BY id") == [("0.90",), ("5.00",)]
