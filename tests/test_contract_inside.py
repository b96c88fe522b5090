"""What a contract says of the inside of objects, arrays and maps is carried out, or refused where that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quality.contract_reading import load_contract
from quality.contract_test import run_contract_test
from tests.contract_text import only_problem, write_contract

MEMBER = """\
    properties:
      - name: o
        logicalType: object
        properties:
          - {{name: m, {said}}}
"""


def member(said: str) -> str:
    return MEMBER.format(said=said)


def failing(folder: Path, body: str, values: list[object]) -> list[int]:
    """The rows that break any rule, of values of the one column."""
    contract = load_contract(write_contract(folder, body, version="v3.2.0"))
    data = folder / "data.csv"
    data.write_text("o\n" + "".join('"' + json.dumps(value).replace('"', '""') + '"\n' for value in values))
    return sorted({row for result in run_contract_test(contract.file, data).results for row in result.answer().get("rows", ())})


def inside(*values: object) -> list[object]:
    return [{"m": value} for value in values]


@pytest.mark.parametrize(
    "said, values, broken",
    [
        ("logicalType: number, logicalTypeOptions: {multipleOf: 0.1}", inside(0.3, 0.35, 10**400, 7), [1]),
        ("logicalType: integer, logicalTypeOptions: {multipleOf: 3}", inside(9, 10), [1]),
        ("logicalType: date", inside("2024-02-29", "2023-02-29", "2024-13-01", "2024-01-31\n", "٢٠٢٤-01-31"), [1, 2, 3, 4]),
        (
            "logicalType: timestamp",
            inside("2024-01-31T12:00:00Z", "2024-01-31 12:00", "2024-01-31T25:00:00", "2024-01-31T12:00:00+0200"),
            [2],
        ),
        ("logicalType: time", inside("12:00", "12:00:00.123456789", "12:60"), [2]),
        ("logicalType: string, logicalTypeOptions: {format: email}", inside("a@b.co", "a@b.co\n", "a"), [1, 2]),
        ("logicalType: string, logicalTypeOptions: {format: ipv4}", inside("10.0.0.1", "1٠.0.0.1"), [1]),
        ("logicalType: string, logicalTypeOptions: {format: uuid}", inside("4f1c2a9e-0000-4000-8000-000000000000\n"), [0]),
        ("quality: [{metric: nullValues, mustBe: 0}], logicalType: string", [{"m": "x"}, {"m": None}, {}], [1, 2]),
        (
            "logicalType: string, enum: [{value: a}, {value: b}], "
            "quality: [{metric: invalidValues, mustBe: 0, arguments: {validValues: [b, c]}}]",
            inside("a", "b", "c"),
            [0, 2],
        ),
        (
            "logicalType: string, quality: [{metric: invalidValues, mustBe: 0, arguments: {validValues: [a, b]}}, "
            "{metric: invalidValues, mustBe: 0, arguments: {validValues: [b, c]}}]",
            inside("a", "b", "c", None),
            [0, 2],
        ),
        ("logicalType: vector, logicalTypeOptions: {dimensions: 2, elementType: int8}", inside([1, 127], [1, 128], [1, 0.5]), [1, 2]),
    ],
)
def test_every_rule_of_a_member_is_judged(tmp_path: Path, said: str, values: list[object], broken: list[int]) -> None:
    assert failing(tmp_path, member(said), values) == broken


def test_the_keys_of_a_map_are_judged(tmp_path: Path) -> None:
    body = """\
    properties:
      - name: o
        logicalType: map
        map: {key: {logicalType: string, logicalTypeOptions: {pattern: '^k'}}, value: {logicalType: integer}}
"""
    assert failing(tmp_path, body, [{"k": 1}, {"x": 1}, {"k": "1"}, {}]) == [1, 2]
    numbered = body.replace("{logicalType: string, logicalTypeOptions: {pattern: '^k'}}", "{logicalType: integer}")
    assert failing(tmp_path, numbered, [{"1": 1}, {"-20": 1}, {"x": 1}, {"1.5": 1}]) == [2, 3]


def test_a_value_that_is_nested_too_deep_to_be_judged_breaks_the_rule(tmp_path: Path) -> None:
    depth = 30_000  # more than any version of Python reads
    body = """\
    properties:
      - {name: o, logicalType: array, items: {logicalType: array}}
"""
    contract = write_contract(tmp_path, body)
    data = tmp_path / "data.csv"
    data.write_text(f"o\n{'[' * depth}{']' * depth}\n[[]]\n")
    rules = {result.rule.id: result.answer()["rows"] for result in run_contract_test(contract, data).results}
    assert rules == {"o-type-1": [], "o-shape-1": [0]}


@pytest.mark.parametrize(
    "said, message",
    [
        ("logicalType: string}\n          - {name: m, logicalType: integer", "there are two properties 'm'"),
        (
            "quality: [{metric: nullValues, mustBe: 0, customProperties: [{property: action, value: warn}]}]",
            "a rule inside an object or array has no action of its own",
        ),
        (
            "quality: [{metric: nullValues, mustBe: 0, customProperties: [{property: 'on', value: [insert]}]}]",
            "a rule inside an object or array has no on of its own",
        ),
        (
            "logicalType: map, map: {key: {logicalType: boolean}, value: {logicalType: string}}",
            "keys of type boolean cannot be judged: they are text",
        ),
        (
            "logicalType: map, map: {key: {logicalType: integer, logicalTypeOptions: {minimum: 1}}, value: {logicalType: string}}",
            "minimum of a map's keys cannot be judged: they are text",
        ),
    ],
)
def test_what_cannot_be_judged_inside_is_refused(tmp_path: Path, said: str, message: str) -> None:
    assert message in only_problem(write_contract(tmp_path, member(said), version="v3.2.0")).message


@pytest.mark.parametrize(
    "said",
    [
        "classification: confidential, logicalType: string",
        "logicalType: array, items: {logicalType: string, classification: confidential}",
        "logicalType: map, map: {key: {logicalType: string}, value: {logicalType: string, classification: Confidential}}",
    ],
)
def test_a_column_is_as_secret_as_the_most_secret_of_its_parts(tmp_path: Path, said: str) -> None:
    (column,) = load_contract(write_contract(tmp_path, member(said), version="v3.2.0")).properties
    assert (column.sensitive, column.classification.lower() if column.classification else None) == (True, "confidential")


def test_a_part_that_is_less_secret_than_its_column_changes_nothing(tmp_path: Path) -> None:
    body = member("classification: public, logicalType: string").replace(
        "logicalType: object", "logicalType: object\n        classification: restricted"
    )
    (column,) = load_contract(write_contract(tmp_path, body)).properties
    assert column.classification == "restricted"
