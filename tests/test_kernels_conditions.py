"""Which rows a row_condition chooses: on Arrow as pandas would, and nothing beyond the columns of the row."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from quality.frame import Frame
from quality.kernels import BadExpectation, RowVerdict, compile_expectation
from quality.kernels.condition_text import query_text
from quality.kernels.conditions import RowCondition
from tests.kernel_values import CONDITIONS, frame


@pytest.mark.parametrize("condition, parser", CONDITIONS)
def test_a_condition_chooses_on_arrow_what_pandas_chooses(condition: Any, parser: str | None) -> None:
    text = query_text(condition, parser)
    assert text is not None
    chosen = RowCondition(text)
    for seed in range(6):
        chance = random.Random(seed)
        judged = frame(chance, 40, chance.choice((0.0, 0.3)))
        assert chosen.rows(judged).tolist() == chosen._by_pandas(judged).tolist(), text


@pytest.mark.parametrize(
    "condition, parser, why",
    [
        ("", "pandas", "must be a condition"),
        ("ints >", "pandas", "cannot be read"),
        ("1 > 0", "pandas", "names no column"),
        ("nonsense > 1", "pandas", "no such column"),
        ("ints > 'a'", "pandas", "cannot be asked"),
        ("texts > 1", "pandas", "cannot be asked"),
        ("@secret > 1", "pandas", "cannot be read"),
        ("import os", "pandas", "cannot be read"),
        ("ints.__class__ == 1", "pandas", "not for choosing rows"),
        ("ints.to_pickle('/tmp/x') == 1", "pandas", "not for choosing rows"),
        ('col("ints") > 1 and col("ints") < 5', "great_expectations", "cannot be read"),
        ("ints > 1", "great_expectations", "cannot be read"),
        ("ints > 1", "sql", "condition_parser"),
        (5, None, "must be a condition"),
        ({"type": "comparison", "column": {"name": "ints"}, "operator": "~", "parameter": 1}, None, "operator"),
        ({"type": "and", "conditions": [{"type": "or", "conditions": []}]}, None, "cannot hold an or"),
        ({"type": "or", "conditions": []}, None, "needs a list"),
        ({"type": "nullity", "column": {"name": "ints"}}, None, "is_null"),
        ({"type": "and", "conditions": [{"type": "nullity", "column": {"name": "ints"}, "is_null": True}] * 101}, None, "more than 100"),
    ],
)
def test_a_condition_that_cannot_be_asked_is_refused_when_it_is_read(condition: Any, parser: str | None, why: str) -> None:
    types = {name: array.type for name, array in frame(random.Random(1), 1, 0.0).columns.items()}
    arguments = {"column": "ints", "row_condition": condition, "condition_parser": parser}
    with pytest.raises(BadExpectation, match=why) as caught:
        compile_expectation("expect_column_values_to_not_be_null", arguments, types)
    assert caught.value.argument in ("row_condition", "condition_parser")


def test_a_condition_that_names_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(BadExpectation, match="did you mean amount"):
        compile_expectation(
            "expect_column_values_to_not_be_null", {"column": "amount", "row_condition": "amuont > 1"}, {"amount": pa.int64()}
        )


def test_names_with_spaces_and_keywords_are_written_in_backticks() -> None:
    columns = {"total amount": pa.array([1, 5, 9]), "from": pa.array(["a", "b", "a"])}
    arguments = {
        "column": "total amount",
        "max_value": 3,
        "row_condition": "`total amount` > 2 and `from` == 'a'",
        "condition_parser": "pandas",
    }
    found = compile_expectation("expect_column_values_to_be_between", arguments, None).judge(Frame(columns, 3))
    assert isinstance(found, RowVerdict)
    assert (found.evaluated, found.failed.tolist()) == (1, [False, False, True])
    of_objects = {"type": "comparison", "column": {"name": "from"}, "operator": "==", "parameter": "b"}
    found = compile_expectation("expect_column_values_to_be_between", arguments | {"row_condition": of_objects}, None).judge(
        Frame(columns, 3)
    )
    assert isinstance(found, RowVerdict)
    assert (found.evaluated, found.failed.tolist()) == (1, [False, True, False])


def test_uniqueness_and_order_are_judged_among_the_chosen_rows_alone() -> None:
    columns = {"a": pa.array([3, 1, 3, 2, None]), "b": pa.array([1, 1, 2, 1, 1])}
    condition = {"row_condition": "b == 1", "condition_parser": "pandas"}
    for kind, failed in (("unique", []), ("increasing", [1])):
        found = compile_expectation(f"expect_column_values_to_be_{kind}", {"column": "a", **condition}, None).judge(Frame(columns, 5))
        assert isinstance(found, RowVerdict)
        assert [at for at, fails in enumerate(found.failed) if fails] == failed, kind
        assert found.evaluated == 3
