"""Two channels write the same orders, each when it can: the newest version stands, through restarts, for sinks that come later too."""

from __future__ import annotations

import json

import pytest

from tests.contract_text import contract_of
from tests.file_taking import put
from tests.fix_pipeline import MakePipeline

pytestmark = pytest.mark.timeout(180)

_FILE = """
pipeline: channels
state: .sluice
sources:
  shop: {type: files, path: shop, format: json, settle_seconds: 0, schema: {id: bigint, seen: timestamptz, total: "numeric(10,2)"}}
  market: {type: files, path: market, format: json, settle_seconds: 0, schema: {number: bigint, seen: timestamptz, cents: bigint}}
datasets:
  orders:
    from:
      - shop
      - {source: market, map: market.sql}
    contract: orders.odcs.yaml
    order_by: seen
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
  history: {type: duckdb, path: history.duckdb, datasets: {orders: {mode: history}}}
"""
_CONTRACT = contract_of("""\
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}
      - {name: seen, logicalType: timestamp, physicalType: timestamptz}
      - {name: total, logicalType: number, physicalType: "numeric(10,2)"}
""")


def test_the_newest_version_of_a_row_stands_whoever_brings_it(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(_FILE)
    pipeline.write(_CONTRACT, "orders.odcs.yaml")
    pipeline.write("SELECT number AS id, seen, cents / 100 AS total FROM input", "market.sql")
    ages = iter(range(90, 0, -1))

    def shop(name: str, *orders: tuple[int, str, int]) -> None:
        rows = [{"id": number, "seen": f"2026-01-{day}T10:00:00Z", "total": total} for number, day, total in orders]
        put(pipeline.folder / "shop", name, "".join(json.dumps(row) + "\n" for row in rows), age=next(ages))

    def market(name: str, *orders: tuple[int, str, int]) -> None:
        rows = [{"number": number, "seen": f"2026-01-{day}T12:00:00+02:00", "cents": total * 100} for number, day, total in orders]
        put(pipeline.folder / "market", name, "".join(json.dumps(row) + "\n" for row in rows), age=next(ages))

    def held(path: str = "warehouse.duckdb") -> list[tuple[object, ...]]:
        return pipeline.duckdb("SELECT id, total::int FROM orders ORDER BY id", path)

    shop("1.json", (1, "05", 10), (1, "03", 11), (2, "01", 20), (3, "09", 30))
    (pipeline.folder / "market").mkdir()
    pipeline.sync()
    assert held() == [(1, 10), (2, 20), (3, 30)]
    market("1.json", (1, "04", 12), (2, "02", 21), (3, "09", 31), (4, "01", 40))
    shop("2.json", (2, "01", 22), (4, "07", 41))
    pipeline.sync()
    # of one version the one that comes last stands
    expected = [(1, 10), (2, 21), (3, 31), (4, 41)]
    assert held() == expected
    counts = pipeline.status()["datasets"]["orders"]
    assert (counts["in"], counts["dropped"], counts["quarantined"]) == (10, 3, 0)
    answer = pipeline.verify()
    assert answer["conserved"], answer["unbalanced"]
    assert answer["datasets"]["orders"]["warehouse"]["compared"] is False
    assert pipeline.duckdb("SELECT count(*) FROM orders", "history.duckdb") == [(7,)]

    text = pipeline.file.read_text("utf-8")
    pipeline.write(text.replace("  warehouse:", "  late: {type: duckdb, path: late.duckdb}\n  warehouse:"))
    pipeline.sync()
    assert held("late.duckdb") == expected
    assert pipeline.sluice("resync", str(pipeline.file), "--yes").code == 0
    pipeline.sync()
    assert held() == expected
