"""What a rule costs is measured on values of every type."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.offline import schema_of
from quality.contract_reading import load_contract
from quality.rule_cost import rule_costs
from tests.contract_text import write_contract

_TYPES = [
    "logicalType: integer",
    "logicalType: number",
    "logicalType: number, physicalType: 'numeric(12,2)'",
    "logicalType: boolean",
    "logicalType: date",
    "logicalType: timestamp",
    "logicalType: time",
    "logicalType: object",
    "logicalType: array",
    "logicalType: array, physicalType: 'integer[]'",
    "logicalType: string, physicalType: uuid",
    "logicalType: string, physicalType: bytea",
    "logicalType: string",
]


@pytest.mark.parametrize("kind", _TYPES)
def test_a_rule_has_a_cost_on_every_type(tmp_path: Path, kind: str) -> None:
    contract = load_contract(write_contract(tmp_path, f"    properties:\n      - {{name: a, {kind}, required: true, unique: true}}\n"))
    costs = rule_costs(contract, schema_of(contract, "orders"), seconds=30.0)
    assert costs.keys() == {rule.id for rule in contract.rules}
    assert all(0 < cost < 1e6 for cost in costs.values())


def test_measuring_ends_in_time(tmp_path: Path) -> None:
    contract = load_contract(write_contract(tmp_path, "    properties:\n      - {name: a, logicalType: string, unique: true}\n"))
    assert rule_costs(contract, schema_of(contract, "orders"), seconds=0.0) == {}
