"""What `check` says about maps, without any server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract_text import contract_of
from tests.invoking import sluice

_PIPELINE = """\
pipeline: channels
sources:
  aws:
    type: kafka
    bootstrap_servers: localhost:1
    topic: marketplace.aws.orders
    format: json
    schema: {orderNo: text, buyer: jsonb, cents: bigint, placed: timestamptz}
  portal: {type: postgres, dsn: "postgresql://localhost:1/x", tables: [public.orders]}
datasets:
  orders:
    from:
      - {source: portal.public.orders, map: maps/portal.sql}
      - {source: aws, map: MAP}
    contract: contracts/orders.odcs.yaml
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""
_CONTRACT = contract_of("""\
    properties:
      - {name: order_id, logicalType: string, physicalType: text, primaryKey: true, required: true}
      - {name: email, logicalType: string, physicalType: text}
      - {name: total, logicalType: number, physicalType: "numeric(10,2)"}
      - {name: placed_at, logicalType: timestamp, physicalType: timestamptz}
""")
_AWS = "SELECT 'aws-' || orderNo AS order_id,\n  buyer->>'email' AS email,\n  cents / 100 AS total, placed AS placed_at\nFROM input\n"
_PORTAL = "SELECT 'portal-' || id AS order_id, email, total\nFROM input\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "maps").mkdir()
    (tmp_path / "contracts").mkdir()
    (tmp_path / "pipeline.yaml").write_text(_PIPELINE.replace("MAP", "maps/aws.sql"))
    (tmp_path / "contracts/orders.odcs.yaml").write_text(_CONTRACT)
    (tmp_path / "maps/aws.sql").write_text(_AWS)
    (tmp_path / "maps/portal.sql").write_text(_PORTAL)
    return tmp_path


def _problems(folder: Path) -> list[tuple[str, int | None, str]]:
    answer = sluice("check", folder / "pipeline.yaml", "--json").json
    return [(Path(one["file"]).name, one["line"], one["message"]) for one in answer["problems"]]


def test_maps_that_fit_are_sound(folder: Path) -> None:
    done = sluice("check", folder / "pipeline.yaml")
    assert (done.code, done.err) == (0, ""), done.out


@pytest.mark.parametrize(
    "written, instead, line, said",
    [
        ("orderNo AS", "orderNr AS", 1, "no column `orderNr`"),
        ("buyer->>'email' AS email", "buyer->>'email' AS mail", 2, "gives `mail`, which the contract of orders does not have"),
        ("buyer->>'email' AS email", "upper(cents) AS email", 2, "upper(BIGINT)"),
        ("cents / 100 AS total", "placed AS total", 3, "`total` is timestamptz, which goes into no column of numeric(10,2)"),
        ("cents / 100 AS total", "orderNo AS total", 3, "`total` is text, which goes into no column of numeric(10,2)"),
        ("'aws-' || orderNo AS order_id,\n", "\n", 1, "gives no `order_id`, which is in the key of orders"),
        ("FROM input", "FROM input LIMIT 10", 4, "LIMIT"),
        ("FROM input", "FORM input", 4, "syntax error"),
    ],
)
def test_what_a_map_gets_wrong_is_told_with_its_line(folder: Path, written: str, instead: str, line: int, said: str) -> None:
    (folder / "maps/aws.sql").write_text(_AWS.replace(written, instead))
    found = _problems(folder)
    assert [(file, where) for file, where, _ in found] == [("aws.sql", line)], found
    assert said in found[0][2]
    assert sluice("check", folder / "pipeline.yaml").code == 1


def test_of_a_table_whose_columns_only_the_server_knows_the_names_are_checked(folder: Path) -> None:
    (folder / "maps/portal.sql").write_text("SELECT\n  id AS order_no,\n  whatever AS email\nFROM input")
    assert _problems(folder) == [
        ("portal.sql", 1, "the map gives no `order_id`, which is in the key of orders"),
        ("portal.sql", 2, "the map gives `order_no`, which the contract of orders does not have"),
    ]


def test_a_function_is_called_to_see_what_it_gives(folder: Path) -> None:
    (folder / "aws_maps.py").write_text("def orders(rows):\n    return rows.select(['orderNo'])\n")
    (folder / "pipeline.yaml").write_text(_PIPELINE.replace("MAP", "aws_maps.orders"))
    ((file, line, said),) = _problems(folder)
    assert (file, line) == ("pipeline.yaml", 11)
    assert "gives `orderNo`" in said
    (folder / "pipeline.yaml").write_text(_PIPELINE.replace("MAP", "aws_maps.nothing"))
    ((_, _, said),) = _problems(folder)
    assert "cannot be imported" in said
