"""Rules of `engine: sluice`: how they are written, and what they say of the rows of a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.chains import Asked, judge_chains
from quality.contract_test import run_contract_test
from quality.step import Step
from tests.contract_text import only_problem, write_contract
from tests.invoking import sluice

ALLOWED = "allowed: [{from: paid, to: [shipped, refunded]}, {from: shipped, to: refunded}]"


def body(*rules: str, status: str = "string", key: str = "true") -> str:
    """A schema object whose rules begin in line 12."""
    lines = [
        "    properties:",
        f"      - {{name: id, logicalType: integer, primaryKey: {key}}}",
        f"      - {{name: status, logicalType: {status}}}",
        "    quality:",
        *(f"      - {rule}" for rule in rules),
    ]
    return "\n".join(lines) + "\n"


def own(implementation: str, more: str = "") -> str:
    return f"{{id: r, type: custom, engine: sluice, implementation: {implementation}{more}}}"


def failing(folder: Path, text: str, rows: Sequence[tuple[Any, Any]], *lookups: str) -> dict[str, list[int]]:
    """Rule -> the rows that break it."""
    data = folder / "orders.jsonl"
    data.write_text("".join(json.dumps({"id": key, "status": value}) + "\n" for key, value in rows))
    told = [part for one in lookups for part in ("--lookup", one)]
    done = sluice("contract", "test", write_contract(folder, text), "--data", data, "--json", *told)
    assert done.code in (0, 1), done.err
    assert done.code == (1 if any(rule["failed"] for rule in done.json["rules"]) else 0)
    return {rule["id"]: rule["rows"] for rule in done.json["rules"] if rule["rows"]}


@pytest.mark.parametrize(
    "allowed",
    [
        ALLOWED,
        ALLOWED.replace("allowed", "pairs"),
        ALLOWED.replace("allowed", "transitions"),
        "pairs: [{from: paid, to: shipped}, {from: [paid, shipped], to: refunded}]",
        "pairs: [[paid, shipped], [paid, refunded], [shipped, refunded]]",
        "allowed: {paid: [shipped, refunded], shipped: refunded, refunded: []}",
    ],
)
def test_a_transition_takes_only_the_steps_that_are_allowed_however_they_are_written(tmp_path: Path, allowed: str) -> None:
    rows = [(1, "paid"), (2, "refunded"), (1, "paid"), (1, "shipped"), (2, "paid"), (1, "refunded"), (2, "refunded"), (1, "lost")]
    assert failing(tmp_path, body(own(f"{{type: transition, column: status, {allowed}}}")), rows) == {"r": [4, 7]}


def test_a_row_that_would_be_held_back_is_no_step_for_those_behind_it(tmp_path: Path) -> None:
    transition = own(f"{{type: transition, column: status, {ALLOWED}}}")
    rows = [(1, "refunded"), (1, "paid"), (1, "shipped"), (1, "refunded")]
    assert failing(tmp_path, body(transition), rows) == {"r": [1, 2]}
    warned = own(f"{{type: transition, column: status, {ALLOWED}}}", ", customProperties: [{property: action, value: warn}]")
    assert failing(tmp_path, body(warned), rows) == {"r": [1]}
    other = "{id: o, type: sql, query: \"status <> 'shipped'\", mustBe: true}"
    assert failing(tmp_path, body(transition, other), [(1, "paid"), (1, "shipped"), (1, "paid")]) == {"o": [1]}


@pytest.mark.parametrize(
    "rule, kind, values, broken",
    [
        ("{type: immutable, column: status}", "string", [None, "a", "a", "b", None, "a"], [3, 4]),
        ("{type: immutable, columns: [status]}", "number", [1, 1.0, 1.5, -0.0], [2, 3]),
        ("{type: monotonic, column: status}", "integer", [None, 5, 5, None, 4, 6, 2**62, 2**62 - 1, 2**62 + 1], [4, 7]),
        ("{type: transition, column: status, pairs: [[0.0, 1], [1.0, 2.5]]}", "number", [-0.0, 0.0, 1, 2.5, 1, 3], [4, 5]),
        ("{type: monotonic, column: status, strict: true}", "integer", [5, 5, 6, 6, 4, 7], [1, 3, 4]),
        ("{type: monotonic, column: status, direction: decreasing}", "number", [5, 5.5, 4, -0.0, 0.0, 0.1], [1, 5]),
        ("{type: monotonic, column: status, direction: decreasing, strict: true}", "number", [5, 5, 4], [1]),
        ("{type: monotonic, column: status}", "date", ["2024-01-31", "2024-02-01", "2023-12-31"], [2]),
        ("{type: transition, column: status, pairs: [{from: 1, to: 2}]}", "integer", [1, 1, 2, 1, None, 2, 3, 7], [3, 6, 7]),
        ("{type: transition, column: status, pairs: [{from: false, to: true}]}", "boolean", [False, True, False], [2]),
    ],
)
def test_null_is_left_alone_except_that_a_value_which_has_been_set_stays(
    tmp_path: Path, rule: str, kind: str, values: list[Any], broken: list[int]
) -> None:
    assert failing(tmp_path, body(own(rule), status=kind), [(1, value) for value in values]) == {"r": broken}


def test_a_key_that_lacks_a_part_is_no_other_rows(tmp_path: Path) -> None:
    found = failing(tmp_path, body(own("{type: immutable, column: status}")), [(None, "a"), (None, "b"), (1, "a"), (1, "b")])
    assert found["r"] == [3]


@pytest.mark.parametrize(
    "rule, said, hint",
    [
        ("{type: transition, column: status}", "needs the steps that are allowed", "allowed: [{from"),
        ("{type: transition, column: status, allowed: []}", "are a list", "allowed: [{from"),
        ("{type: transition, column: status, allowed: paid}", "are a list", "allowed: [{from"),
        ("{type: transition, column: status, allowed: [{from: a}]}", "a step has `from` and `to`", "allowed: [{from"),
        ("{type: transition, column: status, allowed: [{from: a, to: b, by: c}]}", "a step has `from` and `to`", "allowed"),
        ("{type: transition, column: status, allowed: [{from: null, to: b}]}", "null is no state", "required: true"),
        ("{type: transition, column: status, allowed: [{from: a, to: [[b]]}]}", "a state is a value", "allowed"),
        ("{type: transition, column: status, allowed: [{from: a, to: []}]}", "no step is allowed", "immutable"),
        ("{type: transition, column: status, allowed: [{from: a, to: b}], pairs: [{from: a, to: b}]}", "in one place", "allowed"),
        ("{type: transition, column: status, allowed: [{from: 1, to: 2}]}", "1 can never be a value", None),
        ("{type: transition, columns: [status, id], allowed: [{from: a, to: b}]}", "transition has no key 'columns'", "column"),
        ("{type: transition, allowed: [{from: a, to: b}]}", "needs a column", "column: NAME"),
        ("{type: transition, column: state, allowed: [{from: a, to: b}]}", "no property 'state'", "status"),
        (
            f"{{type: transition, column: status, allowed: {[[f's{n}', 'x'] for n in range(600)]}}}",
            "more than 500 states",
            "is it one?",
        ),
        ("{type: transitions, column: status}", "no rule 'transitions'", "transition"),
        ("{column: status}", "needs a `type`", "immutable, monotonic"),
        ("{type: immutable, column: status, columns: [id]}", "not both", None),
        ("{type: immutable, columns: []}", "wants the names of columns", "columns: [NAME"),
        ("{type: immutable, columns: [id, id]}", "twice", None),
        ("{type: immutable, column: status, kwargs: {}}", "immutable has no key 'kwargs'", "column"),
        ("{type: monotonic, column: status, strict: yes please}", "strict is true or false", None),
        ("{type: monotonic, column: status, direction: increase}", "direction is increasing or decreasing", "increasing"),
        ("{type: references, column: status}", "needs the name of a lookup", "lookup: NAME"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line_and_what_to_write(tmp_path: Path, rule: str, said: str, hint: str | None) -> None:
    problem = only_problem(write_contract(tmp_path, body(own(rule))))
    assert (said in problem.message, problem.line) == (True, 12), problem
    assert hint is None or hint in str(problem.hint), problem


@pytest.mark.parametrize("kind", ["boolean", "object", "array"])
def test_values_without_an_order_cannot_be_monotonic(tmp_path: Path, kind: str) -> None:
    assert "has no order" in only_problem(write_contract(tmp_path, body(own("{type: monotonic, column: status}"), status=kind))).message


def test_a_contract_without_a_key_cannot_compare_a_row_with_the_one_before_it(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,status\n1,a\n")
    file = write_contract(tmp_path, body(own("{type: immutable, column: status}"), key="false"))
    done = sluice("contract", "test", file, "--data", tmp_path / "x.csv")
    assert done.code == 2
    assert "the contract has no key" in done.err
    assert ":12" in done.err


def test_a_reference_is_looked_for_in_the_file_that_is_given_for_the_lookup(tmp_path: Path) -> None:
    rule = body(own("{type: references, column: status, lookup: customers}"), status="integer")
    (tmp_path / "c.csv").write_text("id,name\n007,Ann\n8,Bo\n,x\n")
    (tmp_path / "one.jsonl").write_text('{"anything": 7}\n')
    rows = [(1, 7), (2, None), (3, 9), (4, 10**30)]
    assert failing(tmp_path, rule, rows, f"customers={tmp_path}/c.csv:id") == {"r": [2, 3]}
    assert failing(tmp_path, rule, rows, f"customers={tmp_path}/one.jsonl") == {"r": [2, 3]}


def test_a_reference_of_several_columns_is_one_key(tmp_path: Path) -> None:
    rule = body(own("{type: references, columns: [id, status], lookup: items}"))
    (tmp_path / "i.csv").write_text("id,status\n1,a\n2,b\n3,\n")
    assert failing(tmp_path, rule, [(1, "a"), (4, "b"), (2, "b"), (3, None)], f"items={tmp_path}/i.csv") == {"r": [1]}


def test_lookups_that_are_lacking_wrong_or_superfluous_are_told(tmp_path: Path) -> None:
    file = write_contract(tmp_path, body(own("{type: references, column: status, lookup: customers}")))
    (tmp_path / "x.csv").write_text("id,status\n1,a\n")
    (tmp_path / "c.csv").write_text("code,name\na,Ann\n")

    def told(*arguments: str) -> str:
        done = sluice("contract", "test", file, "--data", tmp_path / "x.csv", *arguments)
        assert done.code == 2
        return done.err

    assert "--lookup customers=FILE gives its rows" in told()
    assert "no column 'status'" in told("--lookup", f"customers={tmp_path}/c.csv")
    assert "no column 'cod'" in told("--lookup", f"customers={tmp_path}/c.csv:cod")
    assert "a key of 2 column(s)" in told("--lookup", f"customers={tmp_path}/c.csv:code,name")
    assert "NAME=FILE" in told("--lookup", "customers")
    assert "twice" in told("--lookup", f"customers={tmp_path}/c.csv:code", "--lookup", f"customers={tmp_path}/c.csv:code")
    assert "did you mean customers" in told("--lookup", f"customer={tmp_path}/c.csv:code")
    assert "cannot be read" in told("--lookup", "customers=none.csv")


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 3), st.booleans()), max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))),
)
def test_changes_are_judged_as_if_one_came_after_the_other(changes: list[tuple[int, int, bool]], allowed: list[tuple[int, int]]) -> None:
    """A rule that holds back, one that warns, and rows that are held back anyway; -1 stands for a null."""
    n = len(changes)
    now = np.array([value for _, value, _ in changes], np.int64)
    held = np.array([bad for _, _, bad in changes], np.bool_)
    parent = np.full(n, -1, np.int64)
    newest: dict[int, int] = {}
    for row, (key, _, _) in enumerate(changes):
        parent[row] = newest.get(key, -1)
        newest[key] = row
    may = np.zeros((4, 4), np.bool_)
    for pair in allowed:
        may[pair] = True
    steps = Step(now, now, lambda before, after: (before != after) & ~may[before, after])
    falls = Step(now, now, lambda before, after: after < before)
    nothing = np.full(n, -1, np.int64)
    asked = [Asked([step], [nothing], [nothing], np.ones(n, np.bool_), holds) for step, holds in ((steps, True), (falls, False))]
    found = judge_chains(asked, parent, parent < 0, held)
    last: dict[int, int] = {}
    for row, (key, value, bad) in enumerate(changes):
        before = last.get(key, -1)
        known = before >= 0 and value >= 0
        wrong = known and before != value and not may[before, value]
        assert found[0][row] == wrong
        assert found[1][row] == (known and value < before)
        if value >= 0 and not bad and not wrong:
            last[key] = value


def test_a_long_history_of_one_key_is_judged_in_time_that_grows_with_it(tmp_path: Path) -> None:
    rule = body(own("{type: monotonic, column: status}"), status="integer")
    rows = [(1, 100_000 if row == 0 else row) for row in range(20_000)]
    (tmp_path / "orders.csv").write_text("id,status\n" + "".join(f"{key},{value}\n" for key, value in rows))
    verdict = run_contract_test(write_contract(tmp_path, rule), tmp_path / "orders.csv")
    assert verdict.answer()["rules"][-1]["failed"] == 19_999
