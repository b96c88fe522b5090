"""What bites: each case is one in which a plausible kernel and Great Expectations part."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.frame import Frame
from quality.kernels import BadExpectation, RowVerdict, SetVerdict, compile_expectation
from tests.kernel_asking import a, failing, judge, whole

UTC = dt.UTC


def test_missing_values_are_null_and_nan_and_are_not_judged() -> None:
    columns = a(1.0, None, math.nan, 5.0)
    assert failing("expect_column_values_to_not_be_null", columns, column="a") == [1, 2]
    assert failing("expect_column_values_to_be_null", columns, column="a") == [0, 3]
    found = judge("expect_column_values_to_be_between", columns, column="a", max_value=2)
    assert (found.evaluated, np.flatnonzero(found.failed).tolist(), found.unexpected_percent) == (2, [3], 50.0)
    assert judge("expect_column_values_to_not_be_null", columns, column="a").evaluated == 4


def test_mostly_decides_the_verdict_and_hides_no_row() -> None:
    columns = a(1, 2, 3, 4, None)
    found = judge("expect_column_values_to_be_between", columns, column="a", max_value=3, mostly=0.75)
    assert found.success
    assert np.flatnonzero(found.failed).tolist() == [3]
    assert not judge("expect_column_values_to_be_between", columns, column="a", max_value=3, mostly=0.76).success


def test_with_nothing_to_judge_a_rule_holds() -> None:
    for columns in (a(None, None, of=pa.int64()), a(of=pa.int64()), a(None, of=pa.null())):
        found = judge("expect_column_values_to_be_in_set", columns, column="a", value_set=[1])
        assert (found.success, found.evaluated, found.unexpected_percent) == (True, 0, None)


def test_unique_flags_every_copy_and_no_missing_value() -> None:
    assert failing("expect_column_values_to_be_unique", a("x", None, "y", "x", None, "x"), column="a") == [0, 3, 5]
    assert failing("expect_column_values_to_be_unique", a(0.0, -0.0, math.nan, math.nan, 1.0), column="a") == [0, 1]
    assert failing("expect_column_values_to_be_unique", a(Decimal("1.0"), Decimal("1.00"), of=pa.decimal128(5, 2)), column="a") == [0, 1]
    assert failing("expect_column_values_to_be_unique", a([1], [2], [1], None), column="a") == [0, 2]


def test_combinations_are_unique_with_missing_values_equal() -> None:
    columns = {"a": pa.array([1, 1, None, None, None]), "b": pa.array(["x", "y", "x", "x", None])}
    assert failing("expect_compound_columns_to_be_unique", columns, column_list=["a", "b"]) == [2, 3]
    assert failing("expect_compound_columns_to_be_unique", columns, column_list=["a", "b"], ignore_row_if="any_value_is_missing") == []
    twice = {"a": pa.array([None, None, 1.0]), "b": pa.array([math.nan, None, 2.0])}
    assert failing("expect_compound_columns_to_be_unique", twice, column_list=["a", "b"], ignore_row_if="never") == [0, 1]


def test_many_columns_of_many_values_do_not_overflow_their_combination() -> None:
    columns = {f"c{at}": pa.array(np.arange(10_000) * (at + 1)) for at in range(9)}
    columns["c8"] = pa.array(np.zeros(10_000, np.int64))
    assert judge("expect_compound_columns_to_be_unique", columns, column_list=list(columns)).success


def test_a_pair_with_one_missing_value_fails_and_one_with_two_is_left_out() -> None:
    columns = {"a": pa.array([1, None, None, 3]), "b": pa.array([1, 1, None, 2])}
    pair = {"column_A": "a", "column_B": "b"}
    equal, greater = "expect_column_pair_values_to_be_equal", "expect_column_pair_values_a_to_be_greater_than_b"
    assert failing(equal, columns, **pair) == [1, 3]
    assert judge(equal, columns, **pair).evaluated == 3
    assert failing(equal, columns, **pair, ignore_row_if="either_value_is_missing") == [3]
    assert failing(equal, columns, **pair, ignore_row_if="neither") == [1, 2, 3]
    assert failing(greater, columns, **pair) == [0, 1]
    assert failing(greater, columns, **pair, or_equal=True) == [1]


def test_null_in_a_listed_pair_stands_for_a_missing_value() -> None:
    columns = {"a": pa.array(["x", None, "y", None]), "b": pa.array([1, 1, 2, None])}
    pair = {"column_A": "a", "column_B": "b"}
    kind = "expect_column_pair_values_to_be_in_set"
    assert failing(kind, columns, **pair, value_pairs_set=[["x", 1.0], [None, 1]]) == [2]
    assert failing(kind, columns, **pair, value_pairs_set=[["x", 1], [None, None]], ignore_row_if="neither") == [1, 2]


def test_numbers_of_different_types_compare_as_numbers() -> None:
    columns = {
        "a": pa.array([1, 2, 3]),
        "b": pa.array([Decimal("1.00"), Decimal("2.01"), None], pa.decimal128(9, 2)),
        "c": pa.array([1.0, 2.0, 3.5]),
    }
    equal = "expect_column_pair_values_to_be_equal"
    assert failing(equal, columns, column_A="a", column_B="b") == [1, 2]
    assert failing(equal, columns, column_A="a", column_B="c") == [2]
    assert failing(
        equal, {"a": pa.array([2**62 + 1]), "b": pa.array([Decimal(2**62)], pa.decimal128(38, 0))}, column_A="a", column_B="b"
    ) == [0]
    assert failing(equal, {"a": pa.array([True]), "b": pa.array([1])}, column_A="a", column_B="b") == []


def test_dates_and_times_compare_at_midnight() -> None:
    columns = {
        "a": pa.array([dt.date(2020, 1, 1), dt.date(2020, 1, 2)]),
        "b": pa.array([dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2, 1)]),
    }
    assert failing("expect_column_pair_values_to_be_equal", columns, column_A="a", column_B="b") == [1]
    assert failing("expect_column_pair_values_a_to_be_greater_than_b", columns, column_A="b", column_B="a") == [0]


def test_lists_of_values_are_typed() -> None:
    kind = "expect_column_values_to_be_in_set"
    assert failing(kind, a(1, 2, 3), column="a", value_set=[1, 2.0, "3"]) == [2]
    assert failing(kind, a("1", "2"), column="a", value_set=[1, "2"]) == [0]
    assert failing(kind, a(True, False), column="a", value_set=[1]) == [1]
    assert failing(kind, a(0.0, -0.0, 0.5), column="a", value_set=[0]) == [2]
    assert failing(kind, a(2**53 + 1, 2**53), column="a", value_set=[float(2**53)]) == [0]
    assert failing(kind, a(Decimal("0.10"), Decimal("0.11"), of=pa.decimal128(9, 2)), column="a", value_set=[0.1]) == [1]
    assert failing(kind, a(Decimal("0.10"), of=pa.decimal128(9, 2)), column="a", value_set=["0.1"]) == [0]
    assert failing(kind, a(1, of=pa.int16()), column="a", value_set=[2**40, 1]) == []
    assert failing("expect_column_values_to_not_be_in_set", a(1, None, 2), column="a", value_set=[2, None]) == [2]


def test_a_time_is_no_text_and_no_date_in_a_list() -> None:
    moment = dt.datetime(2020, 1, 1)
    kind = "expect_column_values_to_be_in_set"
    assert failing(kind, a(moment), column="a", value_set=["2020-01-01"]) == [0]
    assert failing(kind, a(moment), column="a", value_set=[moment]) == []
    assert failing(kind, a(moment), column="a", value_set=[moment.date()]) == [0]
    assert failing(kind, a(moment.date()), column="a", value_set=[moment.date()]) == []
    zoned = a(moment.replace(tzinfo=UTC))
    assert failing(kind, zoned, column="a", value_set=[moment]) == [0]
    assert failing(kind, zoned, column="a", value_set=[dt.datetime(2020, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))]) == []


def test_values_that_are_not_to_be_in_a_list_of_texts_are_times_when_the_column_is() -> None:
    columns = a(dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2))
    assert failing("expect_column_values_to_not_be_in_set", columns, column="a", value_set=["2020-01-01", "Jan 3 2020"]) == [0]
    with pytest.raises(BadExpectation, match="no time"):
        judge("expect_column_values_to_not_be_in_set", columns, column="a", value_set=["yesterday"])


@pytest.mark.parametrize(
    "bounds, expected",
    [
        ({"min_value": "2020-01-02T00:00:00Z"}, [0]),
        ({"min_value": "2020-01-02"}, [0]),
        ({"min_value": "2020-01-02 00:00"}, [0]),
        ({"max_value": "2020-01-02T02:00:00+02:00"}, [2]),
        ({"max_value": "2020-01-02T02:00:00+02:00", "strict_max": True}, [1, 2]),
        ({"min_value": dt.datetime(2020, 1, 2, tzinfo=UTC), "max_value": dt.datetime(2020, 1, 2, tzinfo=UTC)}, [0, 2]),
    ],
)
def test_times_compare_with_bounds_that_are_written_as_text(bounds: dict[str, Any], expected: list[int]) -> None:
    columns = a(*(dt.datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2, 3)))
    assert failing("expect_column_values_to_be_between", columns, column="a", **bounds) == expected


@pytest.mark.parametrize(
    "values, bounds",
    [
        (["a"], {"min_value": 1}),
        (["2020-01-01"], {"min_value": "2020-01-01"}),
        ([1], {"min_value": "2020-01-01"}),
        ([dt.date(2020, 1, 1)], {"min_value": 1}),
        ([dt.datetime(2020, 1, 1)], {"min_value": "2020-01-01T00:00:00Z"}),
        ([b"a"], {"min_value": 1}),
    ],
)
def test_bounds_that_do_not_go_with_the_type_are_refused_before_any_row_is_judged(values: list[Any], bounds: dict[str, Any]) -> None:
    with pytest.raises(BadExpectation) as caught:
        compile_expectation("expect_column_values_to_be_between", {"column": "a", **bounds}, {"a": pa.array(values).type})
    assert caught.value.argument == "min_value"


def test_integers_are_not_rounded_when_they_are_compared() -> None:
    columns = a(2**53, 2**53 + 1, -(2**63), 2**63 - 1)
    assert failing("expect_column_values_to_be_between", columns, column="a", max_value=2**53) == [1, 3]
    assert failing("expect_column_values_to_be_between", columns, column="a", min_value=1.5) == [2]
    assert failing("expect_column_values_to_be_between", columns, column="a", min_value=1e30) == [0, 1, 2, 3]
    assert failing("expect_column_values_to_be_between", columns, column="a", min_value=-1e30, max_value="inf") == []
    assert failing("expect_column_values_to_be_between", a(1, of=pa.int16()), column="a", max_value=10**9) == []


@given(st.decimals(-(10**6), 10**6, places=4), st.decimals(-(10**6), 10**6, places=4), st.booleans())
def test_decimals_compare_with_the_decimal_that_a_bound_says(value: Decimal, bound: Decimal, strict: bool) -> None:
    columns = a(value, of=pa.decimal128(14, 4))
    above = failing("expect_column_values_to_be_between", columns, column="a", min_value=float(bound), strict_min=strict) == []
    below = failing("expect_column_values_to_be_between", columns, column="a", max_value=float(bound), strict_max=strict) == []
    assert above == (value > bound if strict else value >= bound)
    assert below == (value < bound if strict else value <= bound)


def test_decimals_of_any_width_compare() -> None:
    wide = Decimal("9" * 60 + ".5")
    columns = a(wide, Decimal("0.5"), of=pa.decimal256(70, 2))
    assert failing("expect_column_values_to_be_between", columns, column="a", max_value=1) == [0]
    assert failing("expect_column_values_to_be_between", columns, column="a", min_value=-1e70, max_value=1e70) == []
    narrow = a(Decimal("9.99"), of=pa.decimal128(3, 2))
    assert failing("expect_column_values_to_be_between", narrow, column="a", max_value=1e9) == []
    assert failing("expect_column_values_to_be_between", narrow, column="a", min_value=1e9) == [0]


def test_order_leaves_missing_values_out_and_lets_the_first_value_be() -> None:
    columns = a(3, None, 1, 1, 5, None, 4)
    assert failing("expect_column_values_to_be_increasing", columns, column="a") == [2, 6]
    assert failing("expect_column_values_to_be_increasing", columns, column="a", strictly=True) == [2, 3, 6]
    assert failing("expect_column_values_to_be_decreasing", columns, column="a") == [4]
    extremes = a(-(2**63), 2**63 - 1, 0)
    assert failing("expect_column_values_to_be_increasing", extremes, column="a") == [2]
    assert failing("expect_column_values_to_be_increasing", a(math.inf, math.inf), column="a", strictly=True) == []
    with pytest.raises(BadExpectation, match="no difference"):
        failing("expect_column_values_to_be_increasing", a("a", "b"), column="a")


def test_lengths_count_characters_of_the_text_that_a_value_is() -> None:
    kind = "expect_column_value_lengths_to_equal"
    assert failing(kind, a("é", "ab", "🙂", ""), column="a", value=1) == [1, 3]
    assert failing(kind, a(-12, 123, 5), column="a", value=3) == [2]
    assert failing(kind, a(1.5, 100.0, -0.0), column="a", value=3) == [1, 2]
    assert failing(kind, a(True, False), column="a", value=4) == [1]
    assert failing(kind, a(dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 0, 0, 0, 5)), column="a", value=19) == [1]
    assert failing(kind, a(Decimal("1.50"), of=pa.decimal128(9, 2)), column="a", value=4) == []


def test_decimals_add_up_as_decimals() -> None:
    columns = {name: pa.array([Decimal(v)], pa.decimal128(9, 2)) for name, v in (("a", "0.70"), ("b", "0.10"), ("c", "0.20"))}
    assert failing("expect_multicolumn_sum_to_equal", columns, column_list=["a", "b", "c"], sum_total=1) == []
    huge = {"a": pa.array([2**62, 1]), "b": pa.array([2**62, 2])}
    assert failing("expect_multicolumn_sum_to_equal", huge, column_list=["a", "b"], sum_total=2.0**63) == [1]
    assert failing(
        "expect_multicolumn_sum_to_equal", {"a": pa.array([1, None]), "b": pa.array([2, 3])}, column_list=["a", "b"], sum_total=3
    ) == [1]
    with pytest.raises(BadExpectation, match="add up"):
        failing("expect_multicolumn_sum_to_equal", {"a": pa.array(["a"]), "b": pa.array([1])}, column_list=["a", "b"], sum_total=3)


def test_a_value_that_is_no_json_fails_a_schema_and_spares_its_neighbours() -> None:
    columns = a('{"a": 1}', "{", '{"a": "x"}', None)
    schema = {"properties": {"a": {"type": "integer"}}}
    assert failing("expect_column_values_to_match_json_schema", columns, column="a", json_schema=schema) == [1, 2]


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"$ref": "#/nowhere"}, {"$ref": "https://example.com/schema.json"}, {"pattern": "("}]
)
def test_a_schema_that_cannot_be_applied_is_refused_and_nothing_is_fetched(schema: dict[str, Any]) -> None:
    with pytest.raises(BadExpectation) as caught:
        compile_expectation("expect_column_values_to_match_json_schema", {"column": "a", "json_schema": schema}, None)
    assert caught.value.argument == "json_schema"


def test_json_that_is_too_deep_or_too_large_to_be_judged_by_a_schema_fails_alone() -> None:
    kind = "expect_column_values_to_match_json_schema"
    arrays = {"type": "array", "items": {"$ref": "#"}}
    deep = [f"{'[' * depth}{']' * depth}" for depth in (2, 300, 900, 30_000)]
    assert failing(kind, a(*deep), column="a", json_schema=arrays) == [1, 2, 3]
    large = ["0.5", "1" + "0" * 400, "1e400"]
    assert failing(kind, a(*large), column="a", json_schema={"multipleOf": 0.5})[:1] == [1]
    with pytest.raises(BadExpectation, match="leads back to itself"):
        compile_expectation(kind, {"column": "a", "json_schema": {"$ref": "#"}}, None)


def test_json_is_what_pythons_parser_reads() -> None:
    columns = a("NaN", "-Infinity", "01", '"\\ud800"', '"\t"', "1 2", "[1,]", "1e999", " 1 ", "")
    assert failing("expect_column_values_to_be_json_parseable", columns, column="a") == [2, 4, 5, 6, 9]
    assert failing("expect_column_values_to_be_json_parseable", a(1, 2), column="a") == [0, 1]


def test_malformed_and_absent_rows_are_not_judged() -> None:
    values = pa.array([1, None, 9, None])
    judged = Frame(
        {"a": values, "b": values}, 4, {"a": np.array([False, True, False, False])}, {"b": np.array([False, False, True, False])}
    )
    kernel = compile_expectation("expect_column_values_to_not_be_null", {"column": "a"}, {"a": values.type})
    found = kernel.judge(judged)
    assert isinstance(found, RowVerdict)
    assert (found.evaluated, found.failed.tolist()) == (3, [False, False, False, True])
    condition = {"column": "a", "max_value": 5, "row_condition": "b > 0", "condition_parser": "pandas"}
    found = compile_expectation("expect_column_values_to_be_between", condition, None).judge(judged)
    assert isinstance(found, RowVerdict)
    assert (found.evaluated, found.success) == (1, True)  # row 2 is beyond, and its b is not known
    total = compile_expectation("expect_column_max_to_be_between", {"column": "b", "max_value": 5}, None).judge(judged)
    assert isinstance(total, SetVerdict)
    assert (total.success, total.observed) == (True, 1)


def test_infinite_and_distant_times_are_compared_and_do_not_break_a_batch() -> None:
    infinity = 2**63 - 1
    columns = {"a": pa.array([infinity, -infinity, 0], pa.timestamp("us")), "d": pa.array([2**31 - 1, -(2**31) + 1, 0], pa.date32())}
    assert failing("expect_column_values_to_be_between", columns, column="a", max_value="9999-12-31T00:00:00") == [0]
    assert failing("expect_column_values_to_be_between", columns, column="d", min_value="0001-01-01") == [1]
    assert failing("expect_column_pair_values_to_be_equal", columns, column_A="a", column_B="d") == [0, 1]
    assert failing("expect_column_values_to_be_unique", columns, column="d") == []
    assert whole("expect_column_max_to_be_between", columns, column="a", min_value="2020-01-01").success


def test_dictionary_view_and_sliced_columns_are_judged_like_plain_ones() -> None:
    for array in (
        pa.array(["EUR", "x", None]).dictionary_encode(),
        pa.array(["EUR", "x", None], pa.large_string()),
        pa.array(["EUR", "x", None], pa.string_view()),
        pa.array(["-", "EUR", "x", None]).slice(1),
        pa.chunked_array([["EUR"], ["x", None]]),
    ):
        assert failing("expect_column_values_to_be_in_set", {"a": array}, column="a", value_set=["EUR"]) == [1]
        assert failing("expect_column_values_to_match_regex", {"a": array}, column="a", regex="^[A-Z]{3}$") == [1]
        assert failing("expect_column_values_to_match_like_pattern", {"a": array}, column="a", like_pattern="E%") == [1]
        assert failing("expect_column_value_lengths_to_equal", {"a": array}, column="a", value=3) == [1]
    for numbers in (
        pa.array([0, 1, 9, None]).slice(1),
        pa.array([True, True, False, None]).slice(1),
        pa.array([1.0, 1.0, 9.0, None]).slice(1),
    ):
        assert judge("expect_column_values_to_be_in_set", {"a": numbers}, column="a", value_set=[1]).failed.tolist() == [False, True, False]
        assert judge("expect_column_values_to_be_between", {"a": numbers}, column="a", min_value=1, max_value=1).failed.tolist() == [
            False,
            True,
            False,
        ]
