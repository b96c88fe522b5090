"""How expectations may be written in a contract, and what they say of files that hold little."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quality.contract_test import run_contract_test
from tests.contract_text import one_column, write_contract


@pytest.mark.parametrize("written", [json.dumps, lambda rule: json.dumps(rule, ensure_ascii=False)])
def test_an_expectation_may_be_written_as_json(tmp_path: Path, written: Callable[[Any], str]) -> None:
    """Also where YAML would read something else in it: a character as two escapes, Infinity."""
    smile = {"type": "ExpectColumnValuesToBeInSet", "kwargs": {"column": "a", "value_set": ["🙂", "é"]}}
    (tmp_path / "orders.jsonl").write_text('{"a": "🙂"}\n{"a": "é"}\n{"a": "?"}\n')
    bins = {"bins": [-math.inf, 0, math.inf], "weights": [0.5, 0.5]}
    spread = {"type": "ExpectColumnKLDivergenceToBeLessThan", "kwargs": {"column": "b", "partition_object": bins, "threshold": 1}}
    for implementation in (smile, json.dumps(smile)):
        content = {
            "apiVersion": "v3.1.0",
            "kind": "DataContract",
            "id": "orders",
            "version": "1.0.0",
            "status": "active",
            "schema": [
                {
                    "name": "orders",
                    "properties": [{"name": "a", "logicalType": "string"}, {"name": "b", "logicalType": "number"}],
                    "quality": [
                        {"id": "one", "type": "custom", "engine": "greatExpectations", "implementation": implementation},
                        {"id": "two", "type": "custom", "engine": "greatExpectations", "implementation": json.dumps(spread)},
                        {"id": "three", "type": "custom", "engine": "greatExpectations", "implementation": spread},
                    ],
                }
            ],
        }
        (tmp_path / "orders.odcs.json").write_text(written(content))
        found = {rule["id"]: rule for rule in run_contract_test(tmp_path / "orders.odcs.json", tmp_path / "orders.jsonl").answer()["rules"]}
        assert found["one"]["rows"] == [2]
        assert found["two"] == {**found["three"], "id": "two"}


def test_a_file_of_no_records_has_the_columns_of_its_contract(tmp_path: Path) -> None:
    exists = "{id: there, type: custom, engine: gx, implementation: {type: expect_column_to_exist, kwargs: {column: a}}}"
    (tmp_path / "orders.jsonl").write_text("")
    assert run_contract_test(write_contract(tmp_path, one_column("a", "integer", quality=exists)), tmp_path / "orders.jsonl").success


def test_minus_zero_is_zero_wherever_values_are_listed(tmp_path: Path) -> None:
    rules = [
        "{id: valid, metric: invalidValues, arguments: {validValues: [-0.0, 1]}, mustBe: 0}",
        "{id: missing, metric: missingValues, arguments: {missingValues: [-0.0]}, mustBe: 0}",
    ]
    (tmp_path / "orders.jsonl").write_text('{"a": 0.0}\n{"a": -0.0}\n{"a": 1}\n{"a": 2}\n')
    body = one_column("a", "number", quality="\n".join(rules))
    found = {
        rule["id"]: rule["rows"] for rule in run_contract_test(write_contract(tmp_path, body), tmp_path / "orders.jsonl").answer()["rules"]
    }
    assert (found["valid"], found["missing"]) == ([3], [0, 1])
