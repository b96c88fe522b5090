"""What the end-to-end comparisons move: rows of 13 columns of the usual types, a contract of ten rules, and the pipeline around them."""

from __future__ import annotations

from pathlib import Path

import psycopg

TABLE = """
CREATE TABLE IF NOT EXISTS bench (
    id bigint PRIMARY KEY, customer_id integer, email text, region text, status text, currency char(3), subtotal numeric(12,2),
    tax numeric(12,2), total numeric(12,2), quantity smallint, active boolean, starts_at timestamptz, ends_at timestamptz
)
"""

ROWS = """
INSERT INTO bench SELECT n, n % 10000, 'user' || n || '@example.com', (ARRAY['EU','US'])[1 + n % 2],
    (ARRAY['new','active','paused'])[1 + n % 3], 'EUR', n % 1000, 1.5, n % 1000 + 1.5, n % 100, n % 2 = 0,
    '2026-01-01'::timestamptz + n * interval '1 second', '2027-01-01'::timestamptz + n * interval '1 second'
FROM generate_series({first}, {last}) n
"""

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: bench
version: 1.0.0
status: active
schema:
  - name: bench
    properties:
      - {{name: id, logicalType: integer, physicalType: bigint, primaryKey: true}}
      - {{name: customer_id, logicalType: integer, physicalType: integer}}
      - {{name: email, logicalType: string, physicalType: text}}
      - {{name: region, logicalType: string, physicalType: text}}
      - {{name: status, logicalType: string, physicalType: text}}
      - {{name: currency, logicalType: string, physicalType: char(3)}}
      - {{name: subtotal, logicalType: number, physicalType: "numeric(12,2)"}}
      - {{name: tax, logicalType: number, physicalType: "numeric(12,2)"}}
      - {{name: total, logicalType: number, physicalType: "numeric(12,2)"}}
      - {{name: quantity, logicalType: integer, physicalType: smallint}}
      - {{name: active, logicalType: boolean, physicalType: boolean}}
      - {{name: starts_at, logicalType: timestamp, physicalType: timestamptz}}
      - {{name: ends_at, logicalType: timestamp, physicalType: timestamptz}}
    quality:
{rules}
"""

_RULES = (
    ("expect_column_values_to_not_be_null", "{column: email}"),
    ("expect_column_values_to_match_regex", "{column: email, regex: '^[a-z0-9]+@[a-z]+[.]com$'}"),
    ("expect_column_values_to_be_in_set", "{column: region, value_set: [EU, US]}"),
    ("expect_column_values_to_be_in_set", "{column: status, value_set: [new, active, paused]}"),
    ("expect_column_values_to_be_in_set", "{column: currency, value_set: [EUR, USD]}"),
    ("expect_column_values_to_be_between", "{column: total, min_value: 0}"),
    ("expect_column_values_to_be_between", "{column: quantity, min_value: 0, max_value: 1000}"),
    ("expect_column_value_lengths_to_be_between", "{column: email, min_value: 3, max_value: 100}"),
    ("expect_column_pair_values_a_to_be_greater_than_b", "{column_A: ends_at, column_B: starts_at}"),
    ("expect_column_values_to_not_be_null", "{column: customer_id}"),
)


def contract() -> str:
    """Ten rules over rows."""
    rules = [
        f"      - {{id: rule-{i}, type: custom, engine: greatExpectations, implementation: {{type: {kind}, kwargs: {kwargs}}}}}"
        for i, (kind, kwargs) in enumerate(_RULES)
    ]
    return CONTRACT.format(rules="\n".join(rules))


def fill(dsn: str, first: int, last: int, per_transaction: int = 50_000) -> None:
    """Inserts rows `first` to `last`, in transactions of that many."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        for start in range(first, last + 1, per_transaction):
            connection.execute(ROWS.format(first=start, last=min(start + per_transaction - 1, last)).encode())


def pipeline(folder: Path, dsn: str, sinks: str, journal: str = "{type: local}") -> Path:
    """Writes contract and pipeline file into `folder`; `sinks` and `journal` are YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.odcs.yaml").write_text(contract(), "utf-8")
    file = folder / "pipeline.yaml"
    file.write_text(
        f"""
pipeline: bench
state: state
journal: {journal}
sources:
  db: {{type: postgres, dsn: "{dsn}", tables: [public.bench]}}
datasets:
  bench: {{from: db.public.bench, contract: bench.odcs.yaml}}
sinks:
{sinks}
""",
        "utf-8",
    )
    return file
