"""Conditions over one row: what is refused, what they give, and that the short way gives what DuckDB gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.decimals import exact_decimals
from journal.expression import ExpressionError, RowExpression, Truth

COLUMNS = {
    "a": "integer",
    "b": "bigint",
    "s": "text",
    "n": "numeric",
    "m": "numeric(12,2)",
    "seen": "timestamp with time zone",
    "day": "date",
    "id": "uuid",
    "doc": "jsonb",
    "flag": "boolean",
    "f": "double precision",
    "clock": "time without time zone",
    "Weird name": "text",
    "x": "text",
    "X": "text",
    "bits": "bytea",
}


def judge(sql: str, columns: Mapping[str, Sequence[str | None]], types: Mapping[str, str] = COLUMNS) -> Truth:
    rows = len(next(iter(columns.values()))) if columns else 1
    return RowExpression(sql, types).evaluate({name: pa.array(values, pa.string()) for name, values in columns.items()}, rows)


def verdicts(truth: Truth) -> list[bool | str | None]:
    return [
        truth.errors[row] if row in truth.errors else None if truth.null[row] else bool(truth.true[row]) for row in range(len(truth.true))
    ]


@pytest.mark.parametrize(
    "sql, part",
    [
        ("", "empty"),
        ("   ", "empty"),
        ("a >", "ends too early"),
        ("a > > 1", "syntax error"),
        ("a > 1; DROP TABLE x", 'syntax error at or near ";" (at character 6)'),
        ("a > 1) FROM sluice_row; SELECT (a > 1", "more than one expression"),
        ("a) , (b", "more than one expression"),
        ("a > 1) AS y, (1 = 1", "more than one expression"),
        ("a) FROM sluice_row UNION SELECT (b", "more than one expression"),
        ("a > (SELECT 1)", "subquery"),
        ("EXISTS (SELECT 1)", "subquery"),
        ("a IN (SELECT 1)", "subquery"),
        ("count(a) > 1", "aggregate"),
        ("CASE WHEN max(a) > 1 THEN true END", "aggregate"),
        ("sum(a) OVER () > 1", "window"),
        ("*", "star"),
        ("a = $1", "parameter"),
        ("#1 = 2", "positional"),
        ("unnest([1, 2]) = 1", "rows out of one"),
        ("random() < 0.5", "something else on every call"),
        ("seen < now()", "clock"),
        ("day < current_date", "clock"),
        ("a + 1", "INTEGER, not a condition"),
        ("NULL", "not a condition"),
        ("a > day", "Cannot compare values of type INTEGER and type DATE"),
        ("no_such_function(a)", "does not exist"),
        ("CAST('x' AS INTEGER) > 1", "Could not convert string 'x'"),
        ("s LIKE /* open", "unterminated"),
        ("read_text('/etc/passwd') = s", "table function"),
    ],
)
def test_what_is_not_one_condition_over_a_row_is_refused_with_the_reason(sql: str, part: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        RowExpression(sql, COLUMNS)
    assert part in caught.value.message


def test_an_unknown_column_is_named_with_its_place_and_the_nearest_one() -> None:
    with pytest.raises(ExpressionError) as caught:
        RowExpression("'é😀' = s AND wierd_name = 'x'", COLUMNS)
    assert caught.value.message == 'there is no column "wierd_name"'
    assert caught.value.hint == 'did you mean "Weird name"?'
    assert caught.value.position == 13


def test_a_name_means_the_exact_column_before_any_other_case() -> None:
    assert verdicts(judge("x = 'lower' AND X = 'upper'", {"x": ["lower"], "X": ["upper"]})) == [True]
    assert verdicts(judge('"WEIRD NAME" = s', {"Weird name": ["1"], "s": ["1"]})) == [True]


def test_the_clock_is_read_only_where_it_is_allowed() -> None:
    expression = RowExpression("seen < now() AND day <= current_date", COLUMNS, clock=True)
    truth = expression.evaluate({"seen": pa.array(["2020-01-01 00:00:00+00"]), "day": pa.array(["2999-01-01"])}, 1)
    assert verdicts(truth) == [False]


def test_the_table_may_be_written_before_a_column() -> None:
    assert RowExpression("orders.a > 1", COLUMNS, table="orders").references == ("a",)


@pytest.mark.parametrize(
    "sql, columns, expected",
    [
        ("n = m + 0.2", {"n": ["0.3", "1", None], "m": ["0.10", "1.00", "1.00"]}, [True, False, None]),
        ("n > 0", {"n": ["NaN", "-Infinity", "Infinity", "1" * 200, "-" + "9" * 40 + ".5"]}, [True, False, True, True, False]),
        ("m >= n", {"m": ["NaN", "5.00"], "n": ["1", "5.000000000001"]}, [True, False]),
        ("n * n * n * n > 0", {"n": ["123456789012345.12345", "2.5"]}, [True, True]),
        ("10 % a > 0", {"a": ["3", None]}, [True, None]),
        ("clock > '12:00'", {"clock": ["24:00:00", "11:59:59.999999", None]}, [True, False, None]),
        (
            "seen > '2020-01-01' AND seen < 'infinity'",
            {"seen": ["infinity", "2021-05-05 10:00:00.5+00", "0044-03-15 12:00:00+00 BC"]},
            [False, True, False],
        ),
        ("extract(hour FROM seen) = 23", {"seen": ["2021-05-05 23:30:00+00"]}, [True]),
        ("day BETWEEN '2020-01-01' AND '2020-12-31'", {"day": ["2020-02-29", "infinity"]}, [True, False]),
        ("id = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", {"id": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]}, [True]),
        ("doc->>'a' = '1'", {"doc": ['{"a": 1}', "[]", None]}, [True, None, None]),
        ("flag", {"flag": ["t", "f", None]}, [True, False, None]),
        ("f = f", {"f": ["NaN", "-0", "1e308", "Infinity"]}, [True, True, True, True]),
        ("octet_length(bits) = 2", {"bits": ["\\x00ff", "\\x"]}, [True, False]),
        ("s LIKE 'a%' -- the end", {"s": ["ab", "b"]}, [True, False]),
        ("list_contains(list_transform([1, 2], lambda s: s + a), 3)", {"a": ["1", "5"]}, [True, False]),
        ("(doc->'x')->>'y' = '1'", {"doc": ['{"x": {"y": 1}}', '{"x": 2}', None]}, [True, None, None]),
        ("1 = 1", {}, [True]),
    ],
)
def test_values_are_judged_as_what_they_are_in_postgres(
    sql: str, columns: Mapping[str, list[str | None]], expected: list[bool | None]
) -> None:
    assert verdicts(judge(sql, columns)) == expected


def test_an_error_on_one_row_is_that_rows_own() -> None:
    truth = judge(
        "a % b > 0 AND CAST(s AS INTEGER) > 0", {"a": ["5", "5", "5", "4"], "b": ["2", "0", "2", "3"], "s": ["1", "1", "x", "-1"]}
    )
    assert np.flatnonzero(truth.true).tolist() == [0]
    assert set(truth.errors) == {1, 2}
    assert truth.errors[1] == "a division by zero"
    assert truth.errors[2] == "a value cannot be converted"


@pytest.mark.parametrize(
    "sql",
    [
        "CAST(s AS INTEGER) > 0",
        "CAST(s AS DATE) > DATE '2020-01-01'",
        "strptime(s, '%Y') > TIMESTAMP '2020-01-01'",
        "json_extract(s, '$.a') IS NULL",
        "make_date(a, 13, 45) IS NULL",
    ],
)
def test_an_error_never_repeats_a_value_of_the_row(sql: str) -> None:
    truth = judge(sql, {"s": ["{secret"], "a": ["4711"]})
    assert set(truth.errors) == {0}
    assert not any(value in truth.errors[0] for value in ("secret", "4711"))


def test_errors_on_very_many_rows_are_found_quickly_and_all_of_them() -> None:
    truth = judge("CAST(s AS INTEGER) > 0", {"s": ["1", "no"] * 5000})
    assert set(truth.errors) == set(range(1, 10_000, 2))
    assert truth.true.sum() == 5000


def test_no_rows_are_no_trouble() -> None:
    truth = RowExpression("a % 2 = 1", COLUMNS).evaluate({"a": pa.array([], pa.string())}, 0)
    assert len(truth.true) == len(truth.null) == 0


def test_typed_values_are_taken_as_they_are() -> None:
    truth = RowExpression("m > 0.5 AND a > 1", COLUMNS).evaluate({"m": pa.array([0.25, 0.75]), "a": pa.array([2, 3], pa.int64())}, 2)
    assert verdicts(truth) == [False, True]


def test_a_process_that_judged_ends_without_a_word() -> None:
    code = "from journal.expression import RowExpression; RowExpression('a % 2 = 1', {'a': 'integer'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    "sql", ["a > 1", "n <= 0.5 AND s IN ('x', 'y')", "seen > seen", "day = day", "NOT (a BETWEEN 1 AND 3) OR s IS NULL"]
)
def test_simple_conditions_go_the_short_way(sql: str) -> None:
    assert RowExpression(sql, COLUMNS).engine == "arrow"


NUMBERS = st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1).map(str))
DECIMALS = st.one_of(
    st.none(), st.decimals(-(10**9), 10**9, places=3, allow_nan=False).map(lambda d: f"{d:f}"), st.sampled_from(["NaN", "Infinity", "0"])
)
TEXTS = st.one_of(st.none(), st.text(st.sampled_from("aAé ,😀%"), max_size=3))
MOMENTS = st.one_of(st.none(), st.sampled_from(["infinity", "-infinity", "2020-01-01", "1999-12-31", "0044-03-15 BC"]))
LITERALS = {
    "a": st.integers(-(2**33), 2**33).map(str),
    "b": st.integers(-(10**15), 10**15).map(str),
    "n": st.decimals(-(10**6), 10**6, places=2).map(lambda d: f"{d:f}"),
    "m": st.decimals(-(10**6), 10**6, places=4).map(lambda d: f"{d:f}"),
    "s": st.text(st.sampled_from("aAé ,😀%"), max_size=2).map(lambda t: f"'{t}'"),
    "x": st.just("'a'"),
}
OPERATORS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["compare", "pair", "in", "null", "between"] + (["and", "or", "not"] if depth else [])))
    if kind in ("and", "or"):
        return f"({draw(conditions(depth=depth - 1))}) {kind.upper()} ({draw(conditions(depth=depth - 1))})"
    if kind == "not":
        return f"NOT ({draw(conditions(depth=depth - 1))})"
    if kind == "pair":
        left, right = draw(st.sampled_from([("a", "b"), ("s", "x"), ("day", "day"), ("b", "a")]))
        return f"{left} {draw(OPERATORS)} {right}"
    column = draw(st.sampled_from(list(LITERALS)))
    if kind == "null":
        return f"{column} IS {draw(st.sampled_from(['', 'NOT ']))}NULL"
    literal = LITERALS[column]
    if kind == "in":
        return f"{column} {draw(st.sampled_from(['', 'NOT ']))}IN ({', '.join(draw(st.lists(literal, min_size=1, max_size=3)))})"
    if kind == "between":
        return f"{column} BETWEEN {draw(literal)} AND {draw(literal)}"
    return f"{column} {draw(OPERATORS)} {draw(literal)}" if draw(st.booleans()) else f"{draw(literal)} {draw(OPERATORS)} {column}"


@settings(max_examples=150, deadline=None)
@given(conditions(), st.lists(st.tuples(NUMBERS, NUMBERS, DECIMALS, DECIMALS, TEXTS, TEXTS, MOMENTS), max_size=6))
def test_the_short_way_gives_what_duckdb_gives(sql: str, rows: list[tuple[str | None, ...]]) -> None:
    cut = [Decimal(v).quantize(Decimal("0.01")) if (v := row[3]) and v not in ("NaN", "Infinity") else v for row in rows]
    values = {name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(["a", "b", "n", "m", "s", "x", "day"])}
    values["m"] = pa.array([None if v is None else str(v) for v in cut], pa.string())
    short = RowExpression(sql, COLUMNS)
    long = RowExpression(f"coalesce(({sql}), NULL)", COLUMNS)
    assert long.engine == "duckdb"
    assert verdicts(short.evaluate(values, len(rows))) == verdicts(long.evaluate(values, len(rows)))


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.decimals(allow_nan=False, allow_infinity=False, places=6).map(lambda d: f"{d:f}"),
            st.sampled_from(["NaN", "Infinity"]),
        )
    )
)
def test_decimals_are_exact_or_said_not_to_fit(values: list[str | None]) -> None:
    column = exact_decimals(pa.array(values, pa.string()))
    for text, number, malformed in zip(values, column.values.to_pylist(), column.malformed, strict=True):
        assert (number is None) == (text is None or malformed)
        if number is not None:
            assert text is not None
            assert number == Decimal(text)
        if malformed:
            assert text is not None
            assert text in ("NaN", "Infinity") or len(text.lstrip("-").replace(".", "")) > 18
