"""Great Expectations itself on the same frames: the same verdict row by row, for every expectation that is offered.

The seeds are fixed; KERNEL_SEED and KERNEL_FRAMES explore others.
"""

from __future__ import annotations

import datetime as dt
import os
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from quality.agreement import FORMS, explanation, judged_columns, same
from quality.column import family
from quality.frame import Frame
from quality.kernels import BadExpectation, RowVerdict, SetVerdict, compile_expectation
from quality.kernels.gx import Answer, Reference, Refusal
from quality.kernels.registry import REFUSED, ROW_EXPECTATIONS, SET_EXPECTATIONS, snake_name
from tests.kernel_cases import ARGUMENTS, SET_ARGUMENTS, Rule, Writer
from tests.kernel_values import frame

pytestmark = pytest.mark.timeout(600)

SEED = int(os.environ.get("KERNEL_SEED", "1"))
FRAMES = int(os.environ.get("KERNEL_FRAMES", "8"))
LIKE = {kind for kind in ROW_EXPECTATIONS if "like_pattern" in kind}  # Great Expectations has them for databases only


def verdict(rule: Rule, judged: Frame) -> RowVerdict | SetVerdict | BadExpectation:
    kind, arguments = rule
    try:
        return compile_expectation(kind, arguments, {name: array.type for name, array in judged.columns.items()}).judge(judged)
    except BadExpectation as error:
        return error


def settled(ours: object, theirs: Answer) -> bool:
    return same(ours, theirs) or (isinstance(ours, BadExpectation) and isinstance(theirs, Refusal))


def explained(rule: Rule, ours: object, judged: Frame, answers: Sequence[Answer], reference: Reference) -> str | None:
    """Why verdicts may differ: what is said, or None when they may not."""
    kind, arguments = rule
    if isinstance(ours, BadExpectation):
        kinds = {family(judged.columns[name].type) for name in judged_columns(rule)}
        if kinds >= {"text", "timestamp"}:
            return "text is no time"
        dense = frame(random.Random(0), 6, 0.0)
        plain = {name: value for name, value in arguments.items() if name not in ("row_condition", "condition_parser")}
        if any(isinstance(reference.judge(dense, [(kind, plain)], form)[0], Refusal) for form in FORMS):
            return "refused where values are"
        return None
    assert isinstance(ours, RowVerdict | SetVerdict)
    return explanation(rule, ours, judged, answers, reference)


def test_every_expectation_gives_the_verdict_of_great_expectations_on_random_and_hostile_data(reference: Reference) -> None:
    agreed: Counter[str] = Counter()
    for seed in range(SEED, SEED + FRAMES):
        chance = random.Random(seed)
        judged = frame(chance, chance.choice((0, 1, 2, 5, 9, 14)) if seed > SEED else 12, chance.choice((0.0, 0.2, 0.5)))
        writer = Writer(seed)
        rules = [writer.rule(kind) for kind in (*ARGUMENTS, *SET_ARGUMENTS)]
        ours = [verdict(rule, judged) for rule in rules]
        answers: list[list[Answer]] = [[] for _ in rules]
        left = list(range(len(rules)))
        for form in FORMS:
            for at, answer in zip(left, reference.judge(judged, [rules[at] for at in left], form), strict=True):
                answers[at].append(answer)
            left = [at for at in left if not settled(ours[at], answers[at][-1])]
        agreed.update(rule[0] for rule, one, theirs in zip(rules, ours, answers, strict=True) if same(one, theirs[-1]))
        for at in left:
            why = explained(rules[at], ours[at], judged, answers[at], reference)
            values = {name: judged.columns[name].to_pylist() for name in judged_columns(rules[at]) if name in judged.columns}
            assert why is not None, f"seed {seed}: {rules[at]} on {values}: {ours[at]} against {answers[at]}"
    scarce = {kind: agreed[kind] for kind in (*ARGUMENTS, *SET_ARGUMENTS) if agreed[kind] < FRAMES // 8}
    assert not scarce


def test_every_map_expectation_of_great_expectations_is_offered(reference: Reference) -> None:
    from great_expectations.expectations.expectation import ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation
    from great_expectations.expectations.registry import get_expectation_impl, list_registered_expectation_implementations

    names = list_registered_expectation_implementations()
    assert len(names) >= 59
    maps = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    assert {name for name in names if issubclass(get_expectation_impl(name), maps)} == set(ROW_EXPECTATIONS)
    assert set(names) == {*ROW_EXPECTATIONS, *SET_EXPECTATIONS, *REFUSED}
    assert {*ARGUMENTS, *LIKE} == set(ROW_EXPECTATIONS)
    assert {*SET_ARGUMENTS, "unexpected_rows_expectation"} == set(SET_EXPECTATIONS)


def test_the_class_of_every_expectation_is_a_name_of_it_too(reference: Reference) -> None:
    from great_expectations.expectations.registry import get_expectation_impl, list_registered_expectation_implementations

    names = list_registered_expectation_implementations()
    assert {get_expectation_impl(name).__name__: name for name in names} == {
        get_expectation_impl(name).__name__: snake_name(get_expectation_impl(name).__name__) for name in names
    }


def test_every_expectation_takes_the_arguments_that_great_expectations_takes(reference: Reference) -> None:
    from great_expectations.expectations.registry import get_expectation_impl

    for kind in (*ROW_EXPECTATIONS, *SET_EXPECTATIONS):
        fields = get_expectation_impl(kind).__fields__
        valid = SMALLEST[kind]
        assert verdict_of_arguments(kind, valid) is None, kind
        for name in {name for name, field in fields.items() if field.required}:
            assert name in valid, (kind, name)
            without = {key: value for key, value in valid.items() if key != name}
            assert verdict_of_arguments(kind, without) is not None, f"{kind} does without {name}"
        for name in set(fields) - set(valid) - {"library_metadata"}:
            error = verdict_of_arguments(kind, {**valid, name: object()})
            assert error is not None, f"{kind} takes anything for {name}"
            assert "has no argument" not in error, f"{kind} does not take {name}"
        for name in ("mostly", "row_condition", "condition_parser", "parse_strings_as_datetimes", "colum"):
            if name not in fields:
                assert "has no argument" in (verdict_of_arguments(kind, {**valid, name: 1}) or ""), (kind, name)


def verdict_of_arguments(kind: str, arguments: dict[str, Any]) -> str | None:
    """The message with which arguments are refused, if they are."""
    try:
        compile_expectation(kind, arguments, None)
    except BadExpectation as error:
        return error.message
    return None


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_value": 1, "mostly": 1.5},
        {"min_value": 1, "mostly": -0.1},
        {"min_value": 1, "mostly": "much"},
        {"min_value": 1, "mostly": None},
        {"min_value": "abc"},
        {"min_value": ""},
        {"min_value": [1]},
        {"min_value": 1, "strict_min": 2},
        {"min_value": 1, "strict_min": "perhaps"},
        {"min_value": 1, "nonsense": 1},
        {"min_value": 1, "column": ""},
        {"min_value": 1, "column": 5},
        {"min_value": 1, "row_condition": {"type": "other"}},
        {"min_value": 1, "row_condition": {"type": "comparison", "column": {"name": "a"}, "operator": "==", "parameter": None}},
        {"min_value": 1, "row_condition": {"type": "comparison", "column": {"name": "a"}, "operator": "IN", "parameter": "a"}},
        {"min_value": 1, "row_condition": {"type": "comparison", "column": {"name": "a"}, "operator": "IN", "parameter": [1, "a"]}},
        {"min_value": 1, "condition_parser": "sql"},
        {"min_value": 1, "row_condition": "a > 1", "condition_parser": "great_expectations"},
        {"min_value": 1, "severity": "loud"},
        {"min_value": 1, "result_format": "LONG"},
        {"min_value": 1, "result_format": {}},
        {"min_value": 1, "meta": "text"},
        {"min_value": 1, "catch_exceptions": "perhaps"},
        {"min_value": {"$PARAMETER": "least"}},
        {},
        {"min_value": 2, "max_value": 1},
        {"min_value": 2, "max_value": "2020-01-31"},
    ],
)
def test_arguments_that_great_expectations_refuses_are_refused(reference: Reference, arguments: dict[str, Any]) -> None:
    judged = Frame({"a": pa.array([1, 2])}, 2)
    rule = ("expect_column_values_to_be_between", {"column": "a", **arguments})
    assert isinstance(reference.judge(judged, [rule])[0], Refusal)
    assert isinstance(verdict(rule, judged), BadExpectation)


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_value": "2"},
        {"min_value": True},
        {"min_value": " 2 ", "strict_min": "yes"},
        {"min_value": 1, "mostly": "0.5"},
        {"max_value": "inf"},
        {"min_value": 1, "strict_max": 1, "max_value": 2},
        {"min_value": 1, "severity": "warning", "meta": {"a": 1}, "notes": ["a"], "result_format": "SUMMARY", "catch_exceptions": False},
        {"min_value": 1, "result_format": {"result_format": "COMPLETE"}, "description": "d", "id": "i"},
        {"min_value": 1, "row_condition": None, "condition_parser": None},
        {"min_value": 1, "row_condition": 'col("a") >= 2', "condition_parser": "great_expectations"},
    ],
)
def test_arguments_that_great_expectations_reads_generously_are_read_alike(reference: Reference, arguments: dict[str, Any]) -> None:
    judged = Frame({"a": pa.array([1, 2, None, 3])}, 4)
    rule = ("expect_column_values_to_be_between", {"column": "a", **arguments})
    [theirs] = reference.judge(judged, [rule])
    assert same(verdict(rule, judged), theirs)


_MORE: dict[str, dict[str, Any]] = {
    "expect_column_values_to_be_between": {"min_value": 1},
    "expect_column_value_lengths_to_be_between": {"min_value": 1},
    "expect_column_value_lengths_to_equal": {"value": 1},
    "expect_column_value_z_scores_to_be_less_than": {"threshold": 1, "double_sided": True},
    "expect_column_values_to_be_in_set": {"value_set": [1]},
    "expect_column_values_to_not_be_in_set": {"value_set": [1]},
    "expect_column_values_to_be_of_type": {"type_": "int"},
    "expect_column_values_to_match_json_schema": {"json_schema": {}},
    "expect_column_values_to_match_like_pattern": {"like_pattern": "a"},
    "expect_column_values_to_not_match_like_pattern": {"like_pattern": "a"},
    "expect_column_values_to_match_like_pattern_list": {"like_pattern_list": ["a"]},
    "expect_column_values_to_not_match_like_pattern_list": {"like_pattern_list": ["a"]},
    "expect_column_values_to_not_match_regex": {"regex": "a"},
    "expect_column_values_to_match_regex_list": {"regex_list": ["a"]},
    "expect_column_values_to_not_match_regex_list": {"regex_list": ["a"]},
    "expect_column_values_to_match_strftime_format": {"strftime_format": "%Y"},
    "expect_column_pair_values_to_be_equal": {"column_A": "a", "column_B": "b"},
    "expect_column_pair_values_a_to_be_greater_than_b": {"column_A": "a", "column_B": "b"},
    "expect_column_pair_values_to_be_in_set": {"column_A": "a", "column_B": "b", "value_pairs_set": [[1, 2]]},
    "expect_compound_columns_to_be_unique": {"column_list": ["a", "b"]},
    "expect_multicolumn_sum_to_equal": {"column_list": ["a", "b"], "sum_total": 1},
    "expect_multicolumn_values_to_be_equal": {"column_list": ["a", "b"]},
    "expect_select_column_values_to_be_unique_within_record": {"column_list": ["a", "b"]},
    "expect_column_distinct_values_to_be_in_set": {"value_set": [1]},
    "expect_column_distinct_values_to_contain_set": {"value_set": [1]},
    "expect_column_distinct_values_to_equal_set": {"value_set": [1]},
    "expect_column_most_common_value_to_be_in_set": {"value_set": [1]},
    "expect_column_quantile_values_to_be_between": {"quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}},
    "expect_column_type_to_be": {"type_": "int64"},
    "expect_table_column_count_to_equal": {"value": 1},
    "expect_table_row_count_to_equal": {"value": 1},
    "unexpected_rows_expectation": {"unexpected_rows_query": "SELECT * FROM {batch}"},
}
SMALLEST: dict[str, dict[str, Any]] = {
    kind: ({"column": "a"} if kind.startswith("expect_column_") and "_pair_" not in kind else {}) | _MORE.get(kind, {})
    for kind in (*ROW_EXPECTATIONS, *SET_EXPECTATIONS)
}


def test_a_date_is_the_midnight_with_which_a_time_is_compared() -> None:
    """What Great Expectations does not compare at all, though it can only mean one thing."""
    moments = pa.array([dt.datetime(2020, 1, 30, 23, 59, 59), dt.datetime(2020, 1, 31)], pa.timestamp("us"))
    found = verdict(("expect_column_values_to_be_between", {"column": "a", "min_value": "2020-01-31"}), Frame({"a": moments}, 2))
    assert isinstance(found, RowVerdict)
    assert found.failed.tolist() == [True, False]
