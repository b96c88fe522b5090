"""The gate: which changes go on, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.batch import ChangeBatch, Defect, Op, Presence, batch_from_columns
from journal.quarantine import Reason
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError
from quality.contract import Contract
from quality.contract_reading import load_contract
from quality.gate import Gate
from quality.judgement import MASKED, UNDECODABLE, Judgement
from quality.latest import latest_of_each_key
from tests.contract_text import one_column, write_contract

CONTRACT = """\
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: email, logicalType: string, classification: confidential, required: true, logicalTypeOptions: {pattern: '@'}}
      - {name: amount, logicalType: number, quality: [{id: positive, type: sql, query: amount > 0, mustBe: true}]}
      - {name: starts, logicalType: date}
      - {name: ends, logicalType: date}
    quality:
      - {id: ends-later, type: sql, query: ends > starts, mustBe: true, description: An order ends after its start}
      - {id: rows, metric: rowCount, mustBeGreaterThan: 1000}
"""
TYPES = {"id": "bigint", "email": "text", "amount": "numeric(12,2)", "starts": "date", "ends": "date"}
GOOD = ["1", "a@b.c", "1.50", "2024-01-01", "2024-01-02"]


def table(types: Mapping[str, str] = TYPES, key: Sequence[str] = ("id",)) -> TableSchema:
    return TableSchema("orders", tuple(Column(name, kind) for name, kind in types.items()), tuple(key))


def changes(rows: Sequence[Sequence[str | None]], ops: Sequence[Op] | Op = Op.INSERT, schema: TableSchema | None = None) -> ChangeBatch:
    schema = schema or table()
    columns = [pa.array([row[c] for row in rows], pa.string()) for c in range(len(schema.columns))]
    batch = batch_from_columns(schema, columns, Op.INSERT)
    return replace(batch, op=np.array([ops] * len(rows) if isinstance(ops, Op) else ops, np.uint8))


def but(**values: str | None) -> list[str | None]:
    """A good row with other values."""
    return [values.get(name, good) for name, good in zip(TYPES, GOOD, strict=True)]


def reasons(judgement: Judgement) -> dict[int, list[str]]:
    return {held.row: [reason.rule for reason in held.reasons] for held in judgement.quarantined}


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    return load_contract(write_contract(tmp_path, CONTRACT))


@pytest.fixture
def gate(contract: Contract) -> Gate:
    return Gate(contract, table())


def test_good_rows_go_on_and_bad_ones_are_held_back_with_every_reason(gate: Gate) -> None:
    judgement = gate.judge(changes([but(), but(amount="-1.00", ends="2023-01-01"), but(email=None), but(amount=None)]))
    assert judgement.passed.tolist() == [True, False, False, True]
    assert reasons(judgement) == {1: ["positive", "ends-later"], 2: ["email-required-1"]}
    assert judgement.judged == 4
    assert judgement.failure is None


def test_a_reason_names_the_rule_the_column_and_the_raw_value(gate: Gate) -> None:
    (held,) = gate.judge(changes([but(amount="-1.00", ends="2023-01-01")])).quarantined
    assert held.reasons == (
        Reason("positive", "amount", "amount > 0", "-1.00"),
        Reason("ends-later", None, "An order ends after its start", '{"ends": "2023-01-01", "starts": "2024-01-01"}'),
    )


def test_a_confidential_value_is_masked_in_the_reason(gate: Gate) -> None:
    judgement = gate.judge(changes([but(email="nobody"), but(email=None)]))
    assert [(held.reasons[0].rule, held.reasons[0].value) for held in judgement.quarantined] == [
        ("email-pattern-1", MASKED),
        ("email-required-1", None),
    ]


@pytest.mark.parametrize("more", ["", "\n        classification: restricted"])
def test_an_error_on_a_row_is_told_without_its_value(tmp_path: Path, more: str) -> None:
    quality = "{id: n, type: sql, query: CAST(a AS INTEGER) > 0, mustBe: true}"
    schema = table({"a": "text"}, ())
    made = load_contract(write_contract(tmp_path, one_column("a", "string", quality=quality, more=more)))
    (held,) = Gate(made, schema).judge(changes([["seven"]], schema=schema)).quarantined
    assert held.reasons[0].message.endswith("(a value cannot be converted)")


def test_deletes_and_truncates_are_not_judged(gate: Gate) -> None:
    bad = but(amount="-1.00", email=None)
    judgement = gate.judge(changes([bad, bad, [None] * 5], [Op.INSERT, Op.DELETE, Op.TRUNCATE]))
    assert judgement.passed.tolist() == [False, True, True]
    assert judgement.judged == 1


def test_a_copied_row_and_an_update_are_judged(gate: Gate) -> None:
    judgement = gate.judge(changes([but(amount="-1.00"), but(amount="-1.00")], [Op.READ, Op.UPDATE]))
    assert reasons(judgement) == {0: ["positive"], 1: ["positive"]}


def test_a_rule_on_a_column_that_the_log_did_not_carry_does_not_run_for_that_row(gate: Gate) -> None:
    batch = changes([but(email=None), but(email=None), but(email=None)], Op.UPDATE)
    presence = np.array([Presence.PRESENT, Presence.ABSENT, Presence.RECALLED], np.uint8)
    assert reasons(gate.judge(replace(batch, presence={1: presence}))) == {0: ["email-required-1"]}


def test_a_value_that_cannot_be_decoded_goes_to_quarantine_and_its_column_is_left_alone(gate: Gate) -> None:
    defect = Defect(1, "email", "not UTF-8", b"a\xff")
    other = Defect(2, "amount", "a NUL", b"1\x00")
    batch = replace(changes([but(), but(email=None, amount="-1.00"), but(amount=None)]), defects=(defect, other))
    judgement = gate.judge(batch)
    assert reasons(judgement) == {1: [UNDECODABLE, "positive"], 2: [UNDECODABLE]}
    assert [held.reasons[0].value for held in judgement.quarantined] == [MASKED, "1\x00"]


def acted(folder: Path, action: str, more: str = "") -> Gate:
    quality = (
        f"{{id: low, type: sql, query: a < 10, mustBe: true, customProperties: [{{property: action, value: {action}}}{more}]}}\n"
        "{id: even, type: sql, query: a % 2 = 0, mustBe: true}"
    )
    return Gate(load_contract(write_contract(folder, one_column("a", "integer", quality=quality))), table({"a": "integer"}, ()))


def numbers(*values: int, ops: Sequence[Op] | Op = Op.INSERT) -> ChangeBatch:
    return changes([[str(value)] for value in values], ops, table({"a": "integer"}, ()))


def test_a_warning_is_counted_and_the_row_delivered(tmp_path: Path) -> None:
    judgement = acted(tmp_path, "warn").judge(numbers(2, 12, 13))
    assert judgement.passed.tolist() == [True, True, False]
    assert judgement.warnings == {"low": 1}
    assert reasons(judgement) == {2: ["even"]}


def test_a_dropped_row_is_counted_with_its_rule_unless_it_is_held_back(tmp_path: Path) -> None:
    judgement = acted(tmp_path, "drop").judge(numbers(2, 12, 13))
    assert judgement.passed.tolist() == [True, False, False]
    assert {rule: rows.tolist() for rule, rows in judgement.dropped.items()} == {"low": [1]}
    assert reasons(judgement) == {2: ["even"]}


def test_a_rule_that_fails_stops_the_table_and_is_named(tmp_path: Path) -> None:
    failure = acted(tmp_path, "fail").judge(numbers(2, 12, 13)).failure
    assert failure is not None
    assert (failure.rule, failure.row, failure.count) == ("low", 1, 2)
    assert "low" in failure.message


@pytest.mark.parametrize("meant, broken", [("insert", [0, 1]), ("update", [2]), ("[insert, update]", [0, 1, 2])])
def test_a_rule_judges_only_the_operations_that_it_is_meant_for(tmp_path: Path, meant: str, broken: list[int]) -> None:
    gate = acted(tmp_path, "quarantine", f", {{property: 'on', value: {meant}}}")
    assert list(reasons(gate.judge(numbers(12, 12, 12, 2, ops=[Op.INSERT, Op.READ, Op.UPDATE, Op.DELETE])))) == broken


def test_mostly_changes_nothing_of_what_is_held_back(tmp_path: Path) -> None:
    gate = acted(tmp_path, "quarantine", ", {property: mostly, value: 0.1}")
    assert list(reasons(gate.judge(numbers(2, 4, 6, 12)))) == [3]


UNIQUE = "{metric: duplicateValues, mustBe: 0}"


def unique(folder: Path, key: Sequence[str] = ("id",)) -> tuple[Gate, TableSchema]:
    schema = table({"id": "integer", "a": "text"}, key)
    body = one_column("a", "string", quality=UNIQUE) + "      - {name: id, logicalType: integer, primaryKey: true, unique: true}\n"
    return Gate(load_contract(write_contract(folder, body)), schema), schema


def test_duplicates_are_looked_for_among_rows_as_they_stand_at_the_end_of_the_batch(tmp_path: Path) -> None:
    gate, schema = unique(tmp_path)
    rows: list[list[str | None]] = [
        ["1", "x"],
        ["1", "x"],
        ["2", "x"],
        ["2", "y"],
        ["3", "z"],
        ["3", None],
        ["4", "z"],
        ["5", "w"],
        ["6", "w"],
    ]
    ops = [Op.INSERT, Op.UPDATE, Op.INSERT, Op.UPDATE, Op.INSERT, Op.DELETE, Op.INSERT, Op.INSERT, Op.READ]
    assert reasons(gate.judge(changes(rows, ops, schema))) == {7: ["a-duplicateValues-1"], 8: ["a-duplicateValues-1"]}


def test_a_key_that_changed_leaves_no_row_behind(tmp_path: Path) -> None:
    gate, schema = unique(tmp_path)
    batch = changes([["1", "x"], ["2", "x"]], [Op.INSERT, Op.UPDATE], schema)
    moved = replace(batch, old={0: pa.array([None, "1"], pa.string())}, has_old=np.array([False, True]))
    assert reasons(gate.judge(moved)) == {}
    assert len(reasons(gate.judge(batch))) == 2


def test_nothing_stands_before_a_truncate(tmp_path: Path) -> None:
    gate, schema = unique(tmp_path)
    batch = changes([["1", "x"], [None, None], ["2", "x"]], [Op.INSERT, Op.TRUNCATE, Op.INSERT], schema)
    assert reasons(gate.judge(batch)) == {}


def test_every_row_stands_in_a_table_without_a_key(tmp_path: Path) -> None:
    gate, schema = unique(tmp_path, key=())
    assert len(reasons(gate.judge(changes([["1", "x"], ["2", "x"]], schema=schema)))) == 2


def test_numbers_that_no_decimal_holds_are_judged_all_the_same(tmp_path: Path) -> None:
    made = load_contract(write_contract(tmp_path, one_column("a", "number", options="minimum: 0, maximum: 1000")))
    for kind in ("numeric", "numeric(10,2)"):
        schema = table({"a": kind}, ())
        judgement = Gate(made, schema).judge(changes([["1.50"], ["NaN"], ["Infinity"], ["-Infinity"], ["-0.01"]], schema=schema))
        assert reasons(judgement) == {2: ["a-maximum-1"], 3: ["a-minimum-1"], 4: ["a-minimum-1"]}


def test_exact_numbers_are_compared_exactly(tmp_path: Path) -> None:
    body = "    properties:\n" + "".join(f"      - {{name: {name}, logicalType: number}}\n" for name in ("net", "tax", "total"))
    body += "    quality:\n      - {id: adds-up, type: sql, query: total = net + tax, mustBe: true}\n"
    schema = table(dict.fromkeys(("net", "tax", "total"), "numeric"), ())
    gate = Gate(load_contract(write_contract(tmp_path, body)), schema)
    rows = [["0.1", "0.2", "0.3"], ["0.1", "0.2", "0.30000000000000000001"], ["10.10", "0.2", "10.3"]]
    assert reasons(gate.judge(changes(rows, schema=schema))) == {1: ["adds-up"]}


def test_whole_numbers_are_asked_of_a_numeric_column(tmp_path: Path) -> None:
    schema = table({"a": "numeric"}, ())
    gate = Gate(load_contract(write_contract(tmp_path, one_column("a", "integer"))), schema)
    assert reasons(gate.judge(changes([["1"], ["1.0"], ["1.5"]], schema=schema))) == {2: ["a-type-1"]}


def test_a_column_of_text_is_read_as_the_contracts_type(tmp_path: Path) -> None:
    schema = table({"a": "text"}, ())
    gate = Gate(load_contract(write_contract(tmp_path, one_column("a", "date", options="minimum: '2024-01-01'"))), schema)
    assert reasons(gate.judge(changes([["2024-01-31"], ["31.01.2024"], ["2023-12-31"], [None]], schema=schema))) == {
        1: ["a-type-1"],
        2: ["a-minimum-1"],
    }


def test_json_columns_hold_objects_where_the_contract_says_so(tmp_path: Path) -> None:
    schema = table({"a": "jsonb"}, ())
    gate = Gate(load_contract(write_contract(tmp_path, one_column("a", "object"))), schema)
    assert reasons(gate.judge(changes([['{"b": 1}'], ["[1]"], ["5"], [None]], schema=schema))) == {1: ["a-type-1"], 2: ["a-type-1"]}


def test_a_column_that_the_table_does_not_have_is_named_with_its_rule_line_and_the_nearest(contract: Contract) -> None:
    with pytest.raises(ConfigError) as caught:
        Gate(contract, table({"id": "bigint", "email": "text", "amout": "numeric", "starts": "date", "ends": "date"}))
    (problem,) = caught.value.problems
    assert problem.message == "rule positive (and 1 more) reads the column 'amount', which the table orders does not have"
    assert (problem.file, problem.line, problem.hint) == (contract.file, 11, "did you mean amout?")


def test_a_column_that_cannot_hold_what_the_contract_says_is_named(contract: Contract) -> None:
    with pytest.raises(ConfigError) as caught:
        Gate(contract, table(TYPES | {"amount": "boolean", "starts": "integer"}))
    assert [problem.message for problem in caught.value.problems] == [
        "amount is boolean in the table orders, and number in the contract",
        "starts is integer in the table orders, and date in the contract",
    ]
    assert [problem.line for problem in caught.value.problems] == [11, 12]


def test_columns_that_the_contract_does_not_mention_are_welcome(contract: Contract) -> None:
    schema = table(TYPES | {"note": "text"})
    judgement = Gate(contract, schema).judge(changes([[*but(), "x"]], schema=schema))
    assert judgement.passed.all()


def test_a_batch_without_rows_and_a_contract_without_rules_are_no_trouble(gate: Gate, tmp_path: Path) -> None:
    assert len(gate.judge(changes([])).passed) == 0
    bare = Gate(load_contract(write_contract(tmp_path, "    properties: []\n")), table())
    assert bare.judge(changes([but(amount="-1")])).passed.tolist() == [True]


def test_a_batch_is_judged_as_its_halves_are_by_rules_over_single_rows(gate: Gate) -> None:
    chance = np.random.default_rng(7)
    rows = [
        but(
            amount=chance.choice(["1.00", "-1.00", "NaN"]),
            email=chance.choice(["a@b", "x"]),
            ends=chance.choice(["2024-01-02", "2023-01-01"]),
        )
        for _ in range(400)
    ]
    batch = changes(rows, [Op(int(op)) for op in chance.choice([Op.INSERT, Op.UPDATE, Op.DELETE, Op.READ], 400)])
    whole = gate.judge(batch)
    parts = [gate.judge(batch.slice(0, 150)), gate.judge(batch.slice(150, 400))]
    assert whole.passed.tolist() == [*parts[0].passed.tolist(), *parts[1].passed.tolist()]
    assert reasons(whole) == reasons(parts[0]) | {row + 150: found for row, found in reasons(parts[1]).items()}


def broken(folder: Path, action: str) -> Gate:
    body = f"    customProperties:\n      - {{property: breaker, value: {{share: 0.2, window: 10, action: {action}}}}}\n"
    body += one_column("a", "integer", quality="{id: low, type: sql, query: a < 10, mustBe: true}")
    return Gate(load_contract(write_contract(folder, body)), table({"a": "integer"}, ()))


def test_a_breaker_pauses_the_table_once_too_many_of_the_last_rows_are_held_back(tmp_path: Path) -> None:
    gate = broken(tmp_path, "pause")
    assert gate.judge(numbers(11, 12)).failure is None
    assert gate.judge(numbers(*range(10))).failure is None
    assert gate.judge(numbers(11, 12)).failure is None, "the first two are out of the window"
    failure = gate.judge(numbers(13)).failure
    assert failure is not None
    assert failure.rule == "breaker"
    assert "3 of the last" in failure.message


def test_a_breaker_that_warns_delivers_until_enough_rows_are_good_again(tmp_path: Path) -> None:
    gate = broken(tmp_path, "warn")
    judgement = gate.judge(numbers(11, 12, 13, 1))
    assert judgement.passed.all()
    assert judgement.warnings == {"low": 3}
    assert judgement.alert is not None
    gate.judge(numbers(*range(10)))
    later = gate.judge(numbers(11))
    assert later.alert is None
    assert list(reasons(later)) == [0]


@given(st.lists(st.tuples(st.sampled_from([Op.INSERT, Op.UPDATE, Op.DELETE, Op.READ, Op.TRUNCATE]), *[st.sampled_from("abc")] * 3)))
def test_the_rows_that_stand_are_those_of_a_table_that_took_the_changes(history: list[tuple[Op, str, str, str]]) -> None:
    schema = table({"k": "text", "l": "text"}, ("k", "l"))
    batch = changes(
        [[None, None] if op is Op.TRUNCATE else [k, second] for op, k, second, _ in history], [op for op, *_ in history], schema
    )
    moved = [before if op is Op.UPDATE and before != k else None for op, k, _, before in history]
    batch = replace(batch, old={0: pa.array(moved, pa.string())})
    standing: dict[tuple[str, str], int] = {}
    for place, (op, k, second, _) in enumerate(history):
        if op is Op.TRUNCATE:
            standing.clear()
            continue
        standing.pop((moved[place] or k, second), None)
        if op is not Op.DELETE:
            standing[k, second] = place
    assert np.flatnonzero(latest_of_each_key(batch)).tolist() == sorted(standing.values())
