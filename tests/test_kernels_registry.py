"""What can be asked for by name, what is refused, and what rules over sets and types say."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from quality.frame import Frame
from quality.kernels import BadExpectation, UnknownExpectation, compile_expectation
from tests.kernel_asking import a, failing, judge, whole

UTC = dt.UTC


def test_a_misspelt_expectation_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownExpectation, match="expect_column_values_to_be_betwen") as caught:
        compile_expectation("expect_column_values_to_be_betwen", {"column": "a"}, None)
    assert caught.value.nearest[0] == "expect_column_values_to_be_between"
    assert "did you mean expect_column_values_to_be_between" in str(caught.value)


def test_a_misspelt_argument_and_a_column_that_is_not_there_name_the_nearest() -> None:
    with pytest.raises(BadExpectation, match="did you mean min_value") as caught:
        compile_expectation("expect_column_values_to_be_between", {"column": "a", "max_value": 1, "min_valu": 0}, None)
    assert caught.value.argument == "min_valu"
    with pytest.raises(BadExpectation, match="did you mean amount"):
        compile_expectation("expect_column_values_to_not_be_null", {"column": "amonut"}, {"amount": pa.int64()})
    with pytest.raises(BadExpectation, match="did you mean amount"):
        compile_expectation("expect_column_values_to_not_be_null", {"column": "amonut"}, None).judge(Frame({"amount": pa.array([1])}, 1))


def test_what_one_batch_cannot_answer_is_refused_with_the_reason() -> None:
    with pytest.raises(BadExpectation, match="another table"):
        compile_expectation("expect_table_row_count_to_equal_other_table", {"other_table_name": "b"}, None)
    with pytest.raises(BadExpectation, match="another data source"):
        compile_expectation("expect_query_results_to_match_comparison", {}, None)


def test_the_names_of_classes_are_names_too() -> None:
    kernel = compile_expectation("ExpectColumnValuesToBeBetween", {"column": "a", "min_value": 1}, {"a": pa.int64()})
    assert kernel.columns == ("a",)
    assert kernel.engine == "arrow"


def test_a_column_has_its_type_also_where_there_is_nothing_in_it() -> None:
    nothing = pa.nulls(2, pa.int64())
    assert judge("expect_column_values_to_be_of_type", {"a": nothing}, column="a", type_="int64").success
    assert not judge("expect_column_values_to_be_of_type", {"a": nothing}, column="a", type_="str").success
    assert judge("expect_column_values_to_be_of_type", {"a": pa.nulls(2, pa.string())}, column="a", type_="int").success


def test_engines_are_told() -> None:
    types = {"a": pa.string()}
    engines = {
        kind: compile_expectation(kind, {"column": "a", **arguments}, types).engine
        for kind, arguments in (
            ("expect_column_values_to_match_regex", {"regex": "^a$"}),
            ("expect_column_values_to_not_match_regex", {"regex": "(?=a)"}),
            ("expect_column_values_to_be_json_parseable", {}),
        )
    }
    assert list(engines.values()) == ["arrow", "python", "duckdb"]
    assert compile_expectation("unexpected_rows_expectation", {"unexpected_rows_query": "SELECT * FROM {batch}"}, types).engine == "duckdb"


def test_a_query_finds_the_rows_that_should_not_be_there() -> None:
    columns = {"a": pa.array([1, 2, 3]), "b": pa.array([1, 5, 3])}
    kind = "unexpected_rows_expectation"
    assert whole(kind, columns, unexpected_rows_query="SELECT * FROM {batch} WHERE a > b;").success
    assert whole(kind, columns, unexpected_rows_query="SELECT b FROM {batch} WHERE b > 4 AND '{{' <> '}}'").observed == 1
    for query in (
        "SELECT * FROM orders",
        "SELECT nonsense FROM {batch}",
        "SELECT * FROM {batch",
        "SELECT * FROM {other}",
        "DROP TABLE {batch}",
    ):
        with pytest.raises(BadExpectation):
            whole(kind, columns, unexpected_rows_query=query)


def test_a_query_that_fails_on_a_row_does_not_repeat_its_value() -> None:
    with pytest.raises(BadExpectation, match="a value cannot be converted") as met:
        whole("unexpected_rows_expectation", {"a": pa.array(["secret"])}, unexpected_rows_query="SELECT * FROM {batch} WHERE a::INT > 0")
    assert "secret" not in met.value.message


@pytest.mark.parametrize(
    "value, of, alone, listed",
    [
        (1, pa.int64(), ("int", "int64"), ("int", "int64", "Int64Dtype")),
        ("a", pa.string(), ("str", "object"), ("str", "StringDtype")),
        (1.5, pa.float64(), ("float", "float64"), ("float", "float64")),
        (True, pa.bool_(), ("bool", "bool_"), ("bool", "BooleanDtype")),
        (dt.datetime(2020, 1, 1), pa.timestamp("us"), ("datetime64", "datetime64[ns]", "Timestamp"), ("datetime64[ns]", "Timestamp")),
        (dt.datetime(2020, 1, 1, tzinfo=UTC), pa.timestamp("us", "UTC"), ("Timestamp",), ("Timestamp",)),
    ],
)
def test_a_type_is_known_by_any_name_under_which_pandas_holds_the_column(
    value: Any, of: pa.DataType, alone: tuple[str, ...], listed: tuple[str, ...]
) -> None:
    columns = a(value, None, of=of)
    for name in alone:
        assert failing("expect_column_values_to_be_of_type", columns, column="a", type_=name) == [], name
    for name in listed:
        assert failing("expect_column_values_to_be_in_type_list", columns, column="a", type_list=["complex", name]) == [], name
    assert failing("expect_column_values_to_be_of_type", columns, column="a", type_="complex") == [0]
    assert failing("expect_column_values_to_be_in_type_list", columns, column="a", type_list=["complex", "VARCHAR"]) == [0]


def test_statistics_of_nothing_are_in_no_bounds() -> None:
    empty = a(None, of=pa.int64())
    for name in ("min", "max", "mean", "median", "stdev"):
        found = whole(f"expect_column_{name}_to_be_between", empty, column="a", min_value=0)
        assert (found.success, found.observed) == (False, None), name
    assert whole("expect_column_sum_to_be_between", empty, column="a", min_value=0).success
    assert not whole("expect_column_stdev_to_be_between", a(5), column="a", min_value=0).success
