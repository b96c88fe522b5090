"""What each kind of rule says of the rows of a file, and what the answer looks like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quality.contract_test import FileVerdict, run_contract_test
from tests.contract_text import one_column, write_contract


def judged(folder: Path, body: str, records: Sequence[dict[str, Any]], **more: str) -> FileVerdict:
    data = folder / "orders.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    return run_contract_test(write_contract(folder, body, **more), data)


def failing(verdict: FileVerdict) -> dict[str, Any]:
    """Rule -> failing rows, or what was observed; only of rules that some row breaks, or that do not hold."""
    answers = verdict.answer()["rules"]
    return {a["id"]: a.get("rows", a.get("observed")) for a in answers if a.get("failed", 0) or not a["success"]}


def column(
    kind: str, values: Sequence[Any], folder: Path, *, options: str = "", quality: str = "", more: str = "", **rest: str
) -> FileVerdict:
    """A file with the one column `a`."""
    return judged(folder, one_column("a", kind, options=options, quality=quality, more=more), [{"a": value} for value in values], **rest)


def test_the_answer_is_the_documented_one(tmp_path: Path) -> None:
    quality = "{id: low, type: sql, query: a < 3, mustBe: true}\n{id: few, type: sql, query: SELECT count(*) FROM orders, mustBe: 2}"
    verdict = column("integer", [1, 5, None, "x"], tmp_path, quality=quality)
    assert verdict.answer() == {
        "rows": 4,
        "passed": 2,
        "rules": [
            {"id": "a-type-1", "engine": "arrow", "evaluated": 3, "failed": 1, "rows": [3], "success": False},
            {"id": "low", "engine": "arrow", "evaluated": 3, "failed": 1, "rows": [1], "success": False},
            {"id": "few", "engine": "duckdb", "success": False, "observed": 4},
        ],
    }
    assert verdict.exit_code == 1
    json.dumps(verdict.answer())


def test_a_select_that_fails_on_a_row_does_not_repeat_its_value(tmp_path: Path) -> None:
    quality = "{id: few, type: sql, query: SELECT sum(CAST(a AS INTEGER)) FROM orders, mustBe: 2}"
    verdict = column("string", ["secret"], tmp_path, quality=quality)
    assert verdict.answer()["rules"][1:] == [{"id": "few", "engine": "duckdb", "success": False, "observed": "a value cannot be converted"}]


def test_a_file_that_keeps_its_contract_ends_with_zero(tmp_path: Path) -> None:
    verdict = column(
        "integer", [1, 2], tmp_path, quality="{metric: rowCount, mustBe: 2}".replace("rowCount", "nullValues").replace("2}", "0}")
    )
    assert (verdict.exit_code, verdict.passed) == (0, 2)


@pytest.mark.parametrize(
    "kind, values, wrong",
    [
        ("string", ["x", 1, True, {"b": 1}, None, ""], [1, 2, 3]),
        ("integer", [1, 1.0, 1.5, "1", True, None, 2**70], [2, 3, 4]),
        ("number", [1, 1.5, "1.5", False, None], [2, 3]),
        ("boolean", [True, False, 1, "true", None], [2, 3]),
        ("date", ["2024-02-29", "2023-02-29", "2024-02-29T10:00:00Z", 20240229, None], [1, 3]),
        ("timestamp", ["2024-02-29T10:00:00Z", "2024-02-29 10:00:00.5+02:00", "2024-02-29", "10:00", 5, None], [3, 4]),
        ("time", ["10:00:00", "24:30:00", "10:00", None], [1]),
        ("object", [{"b": 1}, [1], "{}", None], [1, 2]),
        ("array", [[1], {"b": 1}, "[]", None], [1, 2]),
    ],
)
def test_a_value_of_the_wrong_type_breaks_the_rule_of_the_type(tmp_path: Path, kind: str, values: list[Any], wrong: list[int]) -> None:
    assert failing(column(kind, values, tmp_path)) == {"a-type-1": wrong}


def test_a_value_of_the_wrong_type_is_left_alone_by_the_other_rules(tmp_path: Path) -> None:
    quality = "{metric: invalidValues, arguments: {validValues: [1, 2]}, mustBe: 0}\n{type: sql, query: a < 3, mustBe: true}"
    verdict = column("integer", ["many", 1, 7], tmp_path, options="maximum: 5", quality=quality, more="\n        required: true")
    assert failing(verdict) == {"a-type-1": [0], "a-maximum-1": [2], "a-invalidValues-1": [2], "a-sql-1": [2]}
    assert verdict.passed == 1


@pytest.mark.parametrize(
    "kind, options, values, broken",
    [
        ("string", "minLength: 2, maxLength: 3", ["a", "ab", "äöü", "abcd", None, "🙂🙂"], {"a-minLength-1": [0], "a-maxLength-1": [3]}),
        ("string", "pattern: '^A[0-9]{2}$'", ["A12", "A12\n", "xA12", "A123", None], {"a-pattern-1": [1, 2, 3]}),
        ("string", "pattern: '[0-9]{2}'", ["A12", "A1"], {"a-pattern-1": [1]}),
        ("string", "pattern: '^(?!x)'", ["ab", "xb"], {"a-pattern-1": [1]}),
        ("string", "pattern: '^(?<c>.)\\k<c>$'", ["aa", "ab"], {"a-pattern-1": [1]}),
        ("string", "pattern: '^\\d+$'", ["12", "١٢"], {"a-pattern-1": [1]}),
        ("string", "pattern: '^\\s$'", [" ", "\u00a0", "x", "\ufeff"], {"a-pattern-1": [2]}),
        ("string", "format: email", ["a@b.co", "a@b", "a b@c.de", "x.y+z@sub.example.org"], {"a-format-1": [1, 2]}),
        ("string", "format: uuid", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99"], {"a-format-1": [1]}),
        ("string", "format: ipv4", ["10.0.0.1", "256.1.1.1", "1.2.3"], {"a-format-1": [1, 2]}),
        ("string", "format: ipv6", ["::1", "2001:db8::8a2e:370:7334", "1::2::3", ":1", "::ffff:10.0.0.1"], {"a-format-1": [2, 3]}),
        ("string", "format: hostname", ["db-1.example.org", "-x.org", "a..b"], {"a-format-1": [1, 2]}),
        ("string", "format: uri", ["https://example.org/x?y=1", "example.org", "urn:a:b"], {"a-format-1": [1]}),
        ("string", "format: byte", ["YWJj", "YWI=", "YW", "Y?=="], {"a-format-1": [2, 3]}),
        ("string", "format: password", ["anything"], {}),
        ("integer", "minimum: 1, maximum: 3", [0, 1, 3, 4, None], {"a-minimum-1": [0], "a-maximum-1": [3]}),
        ("integer", "exclusiveMinimum: 1, exclusiveMaximum: 3", [1, 2, 3], {"a-exclusiveMinimum-1": [0], "a-exclusiveMaximum-1": [2]}),
        ("integer", "minimum: 0.5, maximum: 1.0e+30", [0, 1, 9223372036854775807], {"a-minimum-1": [0]}),
        ("integer", "multipleOf: 5", [0, 5, -10, 7], {"a-multipleOf-1": [3]}),
        ("integer", "format: i8", [127, -128, 128, -129], {"a-format-1": [2, 3]}),
        ("integer", "format: u64", [-1, 0, 2**64 - 1, 2**64], {"a-format-1": [0, 3]}),
        ("number", "minimum: 0.1", [0.1, 0.09999, 1], {"a-minimum-1": [1]}),
        ("number", "multipleOf: 0.01", [0.07, 1.1, 0.075], {"a-multipleOf-1": [2]}),
        ("number", "format: f32", [1e38, 1e39], {"a-format-1": [1]}),
        (
            "date",
            "minimum: '2024-01-01', exclusiveMaximum: '2025-01-01'",
            ["2023-12-31", "2024-01-01", "2025-01-01"],
            {"a-minimum-1": [0], "a-exclusiveMaximum-1": [2]},
        ),
        ("timestamp", "maximum: '2024-01-01 12:00:00+02:00'", ["2024-01-01T10:00:00Z", "2024-01-01T10:00:01Z"], {"a-maximum-1": [1]}),
        ("timestamp", "format: 'dd.MM.yyyy HH:mm'", ["31.01.2024 10:00", "2024-01-31T10:00:00Z", "31.02.2024 10:00"], {"a-type-1": [1, 2]}),
        (
            "timestamp",
            "defaultTimezone: Europe/Berlin, maximum: '2024-07-01 10:00:00+00'",
            ["2024-07-01 12:00:00", "2024-07-01 12:00:01"],
            {"a-maximum-1": [1]},
        ),
        ("time", "minimum: '08:00', maximum: '18:00:00'", ["07:59:59", "08:00:00", "18:00"], {"a-minimum-1": [0]}),
        ("array", "minItems: 1, maxItems: 2, uniqueItems: true", [[1], [], [1, 2, 3], [1, 1]], {"a-shape-1": [1, 2, 3]}),
        ("object", "required: [b], maxProperties: 1", [{"b": 1}, {"c": 1}, {"b": 1, "c": 2}], {"a-shape-1": [1, 2]}),
    ],
)
def test_options_say_what_is_valid(tmp_path: Path, kind: str, options: str, values: list[Any], broken: dict[str, list[int]]) -> None:
    assert failing(column(kind, values, tmp_path, options=options)) == broken


@pytest.mark.parametrize(
    "kind, quality, values, expected",
    [
        ("string", "{metric: nullValues, mustBe: 0}", ["", None, "x"], {"a-nullValues-1": [1]}),
        ("string", "{metric: nullValues, mustBeLessThan: 2}", ["", None, None], {"a-nullValues-1": 2}),
        ("string", "{metric: nullValues, mustBeLessOrEqualTo: 25, unit: percent}", [None, "a", "b", "c"], {}),
        ("string", "{metric: nullValues, mustBe: 0, unit: percent}", [None, "a"], {"a-nullValues-1": 50.0}),
        (
            "string",
            "{metric: missingValues, arguments: {missingValues: [null, '', N/A]}, mustBe: 0}",
            ["", None, "x", "N/A"],
            {"a-missingValues-1": [0, 1, 3]},
        ),
        ("string", "{metric: missingValues, arguments: {missingValues: ['']}, mustBe: 0}", ["", None], {"a-missingValues-1": [0]}),
        ("integer", "{metric: missingValues, arguments: {missingValues: [-1, n/a]}, mustBe: 0}", [-1, 1], {"a-missingValues-1": [0]}),
        (
            "string",
            "{metric: invalidValues, arguments: {validValues: [kg, g]}, mustBe: 0}",
            ["kg", "KG", None, "g"],
            {"a-invalidValues-1": [1]},
        ),
        ("integer", "{metric: invalidValues, arguments: {validValues: [1, 2]}, mustBe: 0}", [1, 3, None], {"a-invalidValues-1": [1]}),
        ("number", "{metric: invalidValues, arguments: {validValues: [0.1, 2]}, mustBe: 0}", [0.1, 2, 0.2], {"a-invalidValues-1": [2]}),
        (
            "date",
            "{metric: invalidValues, arguments: {validValues: ['2024-01-01']}, mustBe: 0}",
            ["2024-01-01", "2024-01-02"],
            {"a-invalidValues-1": [1]},
        ),
        ("boolean", "{metric: invalidValues, arguments: {validValues: [true]}, mustBe: 0}", [True, False], {"a-invalidValues-1": [1]}),
        ("string", "{metric: invalidValues, arguments: {pattern: '^[A-Z]+$'}, mustBe: 0}", ["AB", "aB", None], {"a-invalidValues-1": [1]}),
        (
            "string",
            "{metric: invalidValues, arguments: {validValues: [AB, ab], pattern: '^[A-Z]+$'}, mustBe: 0}",
            ["AB", "ab", "CD"],
            {"a-invalidValues-1": [1, 2]},
        ),
        ("string", "{metric: invalidValues, arguments: {validValues: [x]}, mustBeBetween: [1, 2]}", ["x", "y"], {}),
        ("integer", "{metric: duplicateValues, mustBe: 0}", [1, 2, 1, None, None, 1], {"a-duplicateValues-1": [0, 2, 5]}),
        ("number", "{metric: duplicateValues, mustBe: 0}", [0.0, -0.0, 1], {"a-duplicateValues-1": [0, 1]}),
        ("integer", "{metric: duplicateValues, mustNotBe: 2}", [1, 1, 2], {"a-duplicateValues-1": 2}),
        ("integer", "{type: sql, query: '{property} > 0', mustBe: true}", [1, 0, None], {"a-sql-1": [1]}),
        ("integer", "{type: sql, query: '{property} > 0', mustBe: false}", [1, 0, None], {"a-sql-1": [0]}),
        ("string", "{type: sql, query: 'cast({property} as integer) > 0', mustBe: true}", ["1", "x", "0", None], {"a-sql-1": [1, 2]}),
        ("number", "{type: sql, query: a * 3 = 0.3, mustBe: true}", [0.1, 0.2], {"a-sql-1": [1]}),
        ("number", "{type: sql, query: 'SELECT sum(a) FROM {object}', mustBe: 0.3}", [0.1, 0.2], {}),
        (
            "integer",
            "{type: sql, query: 'SELECT count(*) FROM ${table} WHERE ${column} IS NULL', mustBeLessThan: 1}",
            [1, None],
            {"a-sql-1": 1},
        ),
        (
            "integer",
            "{type: sql, query: 'WITH x AS (SELECT a FROM orders) SELECT max(a) FROM x', mustBeGreaterOrEqualTo: 2}",
            [1],
            {"a-sql-1": 1},
        ),
        ("integer", "{type: sql, query: SELECT bool_and(a > 0) FROM orders, mustBe: true}", [1, 0], {"a-sql-1": False}),
        ("integer", "{type: sql, query: SELECT min(a) FROM orders, mustNotBeBetween: [1, 5]}", [None], {"a-sql-1": None}),
        (
            "integer",
            "{type: custom, engine: greatExpectations, implementation: {type: expect_column_values_to_be_between, kwargs: {min_value: 1}}}",
            [0, 1, None],
            {"a-expect_column_values_to_be_between-1": [0]},
        ),
        (
            "integer",
            "{type: custom, engine: great-expectations, implementation: "
            '\'{"expectation_type": "expect_column_max_to_be_between", "kwargs": {"max_value": 1}}\'}',
            [0, 2],
            {"a-expect_column_max_to_be_between-1": 2},
        ),
    ],
)
def test_checks_say_what_they_measure(tmp_path: Path, kind: str, quality: str, values: list[Any], expected: dict[str, Any]) -> None:
    assert failing(column(kind, values, tmp_path, quality=quality)) == expected


def test_mostly_decides_the_verdict_and_changes_neither_rows_nor_passed(tmp_path: Path) -> None:
    expectation = "implementation: {type: expect_column_values_to_be_between, kwargs: {min_value: 1, mostly: 0.5}}"
    quality = (
        f"{{id: gx, type: custom, engine: greatExpectations, {expectation}}}\n"
        "{id: sql, type: sql, query: a > 0, mustBe: true, customProperties: [{property: mostly, value: 0.5}]}"
    )
    verdict = column("integer", [0, 1, 2], tmp_path, quality=quality)
    assert {rule["id"]: (rule["rows"], rule["success"]) for rule in verdict.answer()["rules"][1:]} == {
        "gx": ([0], True),
        "sql": ([0], True),
    }
    assert (verdict.passed, verdict.exit_code) == (2, 0)
    assert column("integer", [0, 0, 2], tmp_path, quality=quality).exit_code == 1


@pytest.mark.parametrize("action", ["warn", "quarantine", "drop", "fail"])
def test_every_rule_judges_a_file_whatever_its_action_and_its_operations(tmp_path: Path, action: str) -> None:
    settings = f"[{{property: action, value: {action}}}, {{property: 'on', value: update}}]"
    quality = f"{{type: sql, query: a > 0, mustBe: true, customProperties: {settings}}}"
    verdict = column("integer", [0], tmp_path, quality=quality)
    assert (failing(verdict), verdict.passed, verdict.exit_code) == ({"a-sql-1": [0]}, 0, 1)


KEYED = """\
    properties:
      - {name: tenant, logicalType: string, primaryKey: true}
      - {name: number, logicalType: integer, primaryKey: true}
      - {name: email, logicalType: string, required: true, unique: true}
    quality:
      - {id: pairs, metric: duplicateValues, mustBe: 0, arguments: {properties: [tenant, email]}}
"""


def test_required_unique_and_keys_are_rules(tmp_path: Path) -> None:
    rows = [("t", 1, "a"), ("t", 1, "b"), ("u", None, "b"), ("u", 2, None), ("t", 2, "a")]
    records = [dict(zip(("tenant", "number", "email"), row, strict=True)) for row in rows]
    assert failing(judged(tmp_path, KEYED, records)) == {
        "number-primaryKey-1": [2],
        "email-required-1": [3],
        "email-unique-1": [0, 1, 2, 4],
        "orders-primaryKey-1": [0, 1],
        "pairs": [0, 4],
    }


NESTED = """\
    properties:
      - name: address
        logicalType: object
        properties:
          - {name: street, logicalType: string, required: true, logicalTypeOptions: {minLength: 2, pattern: '^[A-Z]'}}
          - {name: country, logicalType: string, quality: [{metric: invalidValues, mustBe: 0, arguments: {validValues: [DE, FR]}}]}
          - {name: since, logicalType: date}
      - name: lines
        logicalType: array
        items:
          logicalType: object
          properties:
            - {name: sku, logicalType: string, required: true}
            - {name: quantity, logicalType: integer, logicalTypeOptions: {minimum: 1}}
"""


def test_the_inside_of_objects_and_arrays_is_judged(tmp_path: Path) -> None:
    good = {"street": "Main", "country": "DE", "since": "2024-01-31"}
    addresses = [
        good,
        {"country": "DE"},
        good | {"street": "x"},
        good | {"country": "IT"},
        good | {"country": None},
        good | {"since": 5},
        None,
    ]
    lines = [[], [{"sku": "a", "quantity": 1}], [{"quantity": 1}], [{"sku": "a", "quantity": 0}], [{"sku": None}], ["a"], None]
    records = [{"address": a, "lines": b} for a, b in zip(addresses, lines, strict=True)]
    verdict = judged(tmp_path, NESTED, records)
    assert failing(verdict) == {"address-shape-1": [1, 2, 3, 5], "lines-shape-1": [2, 3, 4, 5]}
    assert {rule["id"]: rule["engine"] for rule in verdict.answer()["rules"]}["address-shape-1"] == "python"


def test_an_enumeration_of_3_2_is_a_rule(tmp_path: Path) -> None:
    more = "\n        enum: [{value: open, label: Open}, {value: paid}]"
    assert failing(column("string", ["open", "paid", "Open", None], tmp_path, more=more, version="v3.2.0")) == {"a-enum-1": [2]}


def test_rules_that_look_at_the_other_rows_see_the_whole_file(tmp_path: Path) -> None:
    expectation = "{type: custom, engine: greatExpectations, implementation: {type: expect_column_values_to_be_increasing}}"
    values = [*range(5000), 7]
    assert failing(column("integer", values, tmp_path, quality=expectation)) == {"a-expect_column_values_to_be_increasing-1": [5000]}


PAIRS = """\
    properties:
      - {name: starts_at, logicalType: timestamp}
      - {name: ends_at, physicalName: ends, logicalType: timestamp}
    quality:
      - {id: order, type: sql, query: ends > starts_at, mustBe: true}
      - {id: by-name, type: sql, query: orders.ends > orders.starts_at, mustBe: true}
      - id: gx
        type: custom
        engine: greatExpectations
        implementation: |
          type: expect_column_pair_values_a_to_be_greater_than_b
          kwargs: {column_A: ends_at, column_B: starts_at}
      - id: columns
        type: custom
        engine: gx
        implementation: {type: expect_table_columns_to_match_set, kwargs: {column_set: [starts_at, ends]}}
      - {id: there, type: custom, engine: gx, implementation: {type: expect_column_to_exist, kwargs: {column: note}}}
      - {id: rows, metric: rowCount, mustBeBetween: [1, 3]}
"""


def test_rules_over_several_columns_and_over_the_table(tmp_path: Path) -> None:
    days = ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]
    records: list[dict[str, Any]] = [
        {"starts_at": days[0], "ends": days[1]},
        {"starts_at": days[1], "ends": days[0]},
        {"starts_at": days[1], "ends": None},
    ]
    assert failing(judged(tmp_path, PAIRS, records)) == {"order": [1], "by-name": [1], "gx": [1, 2], "there": ["starts_at", "ends"]}


def test_an_empty_file_breaks_no_row_and_is_still_counted(tmp_path: Path) -> None:
    verdict = judged(tmp_path, PAIRS, [])
    assert (verdict.rows, verdict.passed, verdict.exit_code) == (0, 0, 1)
    assert "rows" in failing(verdict)


def test_a_column_that_the_contract_says_nothing_of_is_judged_as_what_it_is(tmp_path: Path) -> None:
    between = "{type: custom, engine: gx, implementation: {type: expect_column_values_to_be_between, kwargs: {min_value: 2}}}"
    body = f"    properties:\n      - name: a\n        physicalType: whatever\n        quality:\n          - {between}\n"
    assert failing(judged(tmp_path, body, [{"a": 1}, {"a": 2}])) == {"a-expect_column_values_to_be_between-1": [0]}


def test_sql_may_call_a_column_by_either_of_its_names(tmp_path: Path) -> None:
    quality = "{type: sql, query: a = col_a AND a < 2, mustBe: true}\n{type: sql, query: SELECT sum(a) + sum(col_a) FROM orders, mustBe: 6}"
    verdict = column("integer", [1, 2], tmp_path, quality=quality, more="\n        physicalName: col_a")
    assert failing(verdict) == {"a-sql-1": [1]}


def test_a_contract_without_properties_counts_rows(tmp_path: Path) -> None:
    some = "{id: some, type: sql, query: SELECT count(*) FROM orders, mustBeGreaterThan: 2}"
    body = f"    quality:\n      - {some}\n      - {{metric: rowCount, mustBe: 2}}\n"
    assert failing(judged(tmp_path, body, [{"a": 1}, {"a": 2}])) == {"some": 2}
