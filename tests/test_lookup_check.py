"""What `check` says of lookups and of `enrich`, without any server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract_text import contract_of
from tests.invoking import sluice

_PIPELINE = """\
pipeline: shop
sources:
  portal: {type: postgres, dsn: host=localhost, tables: [public.orders]}
  rates:
    type: files
    path: drops
    format: json
    schema: {currency: text, rate: "numeric(12,6)"}
datasets:
  orders:
    from: portal.public.orders
    contract: orders.odcs.yaml
    enrich: orders.sql
  rates: {from: rates, key: [currency]}
lookups:
  products: {source: portal.public.products, key: [product_id], on_missing: wait, wait_seconds: 10s}
  rates: {source: rates, key: [currency], on_missing: "null"}
sinks:
  warehouse:
    type: duckdb
    path: w.duckdb
    datasets: {orders: {where: "euros > 5"}}
"""
_CONTRACT = contract_of("""\
    properties:
      - {name: order_id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}
      - {name: currency, logicalType: string, physicalType: text}
      - {name: amount, logicalType: number, physicalType: "numeric(12,2)"}
""")
_ENRICH = "SELECT input.*,\n  amount * r.rate AS euros\nFROM input\nLEFT JOIN rates AS r ON r.currency = input.currency\n"


def said(folder: Path, pipeline: str = _PIPELINE, enrich: str = _ENRICH) -> tuple[int, str]:
    (folder / "pipeline.yaml").write_text(pipeline)
    (folder / "orders.odcs.yaml").write_text(_CONTRACT)
    (folder / "orders.sql").write_text(enrich)
    done = sluice("check", str(folder / "pipeline.yaml"))
    return done.code, done.out


def test_sound_lookups_are_sound(tmp_path: Path) -> None:
    code, text = said(tmp_path)
    assert code == 0, text
    code, text = said(tmp_path, enrich=_ENRICH + "LEFT JOIN products AS p ON p.product_id = amount\n")
    assert code == 0, text


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("key: [product_id], on", "on", "pipeline.yaml:16: `lookups.products.key` is missing"),
        ("on_missing: wait", "on_missing: later", "pipeline.yaml:16:"),
        ("wait_seconds: 10s", "wait_second: 10s", "pipeline.yaml:16:"),
        ("source: portal.public.products", "source: portl.public.products", "pipeline.yaml:16: there is no source `portl`"),
        ("source: portal.public.products", "source: portal.public.*", "pipeline.yaml:16: `portal.public.*` is a pattern"),
        ("  products:", "  input:", "pipeline.yaml:16: a lookup cannot be called `input`"),
        (
            "rates: {source: rates, key: [currency]",
            "rates: {source: rates, key: [curency]",
            "pipeline.yaml:17: `lookups.rates.key`: its table has no column 'curency'",
        ),
        (
            "rates: {source: rates, key: [currency]",
            "rates: {source: rates, key: [rate]",
            "pipeline.yaml:17: the lookup `rates` has the key rate",
        ),
        (
            "source: portal.public.products, key: [product_id]",
            "source: portal.public.orders, key: [order_id]",
            "pipeline.yaml:16: the lookup `products` is made of `orders`, whose rows are enriched themselves",
        ),
        ("enrich: orders.sql", "enrich: order.sql", "pipeline.yaml:13: `enrich`: order.sql is not there"),
        ("euros > 5", "euro > 5", "pipeline.yaml:22:"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_line(old: str, new: str, expected: str, tmp_path: Path) -> None:
    assert old in _PIPELINE
    code, text = said(tmp_path, _PIPELINE.replace(old, new))
    assert code == 1, text
    assert expected in text


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("LEFT JOIN rates", "LEFT JOIN rate", "orders.sql:4: there is no lookup `rate`"),
        (
            "r.currency = input.currency",
            "r.rate = amount",
            "orders.sql:4: the lookup `rates` is joined on something else than its key, currency",
        ),
        ("r.currency = input.currency", "r.currency = input.curency", "orders.sql:4: the input has no column `curency`"),
        ("r.rate AS", "r.rat AS", "orders.sql:2: the lookup `rates` has no column `rat`"),
        ("amount * r.rate", "currency * r.rate", "orders.sql:2: `euros`"),
        ("input.*,", "currency,", "orders.sql:1: `enrich` gives no `order_id`"),
    ],
)
def test_what_is_wrong_in_the_sql_is_told_with_its_line(old: str, new: str, expected: str, tmp_path: Path) -> None:
    assert old in _ENRICH
    code, text = said(tmp_path, enrich=_ENRICH.replace(old, new))
    assert code == 1, text
    assert expected in text
