"""What `check` says of the cost of rules."""

from __future__ import annotations

from pathlib import Path

from quality.contract_reading import load_contract
from quality.rule_costs import rule_costs
from tests.contract_text import write_contract

_KINDS = ["string", "integer", "number", "boolean", "date", "timestamp", "time", "object", "array"]
_PHYSICAL = ["numeric(2,2)", "numeric(38,0)", "numeric(12,2)", "uuid", "bytea", "real", "smallint", "timestamptz", "inet"]


def test_every_rule_has_a_cost_whatever_its_column_holds(tmp_path: Path) -> None:
    lines = ["    properties:", "      - {name: id, logicalType: integer, primaryKey: true}"]
    lines += [f"      - {{name: {kind}_, logicalType: {kind}, required: true}}" for kind in _KINDS]
    lines += [f"      - {{name: p{place}, physicalType: '{kind}', unique: true}}" for place, kind in enumerate(_PHYSICAL)]
    lines += [
        "    quality:",
        "      - {id: rows, metric: rowCount, mustBeGreaterThan: 1}",
        "      - {id: sql, type: sql, query: integer_ / 0 > 1, mustBe: true}",
        "      - {id: steps, type: custom, engine: sluice, implementation: {type: monotonic, column: integer_}}",
        "      - {id: there, type: custom, engine: sluice, implementation: {type: references, column: integer_, lookup: customers}}",
    ]
    costs = dict(rule_costs(load_contract(write_contract(tmp_path, "\n".join(lines) + "\n"))))
    assert costs.pop("there") is None, "its lookup is not here"
    assert all(cost is not None and cost > 0 for cost in costs.values()), costs
