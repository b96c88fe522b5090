"""Shapes of times, LIKE, and the text of values: each against what it stands for."""

from __future__ import annotations

import datetime as dt
import math
import random
import re
import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from dateutil.parser import parse
from hypothesis import given
from hypothesis import strategies as st

from quality.column import Column
from quality.frame import Frame
from quality.kernels import BadExpectation, RowVerdict, compile_expectation
from quality.kernels.time_shapes import ISO_MOMENT, Shape, shape_of
from tests.fix_postgres import Database
from tests.kernel_values import FORMATS, LIKES, VALUES

SHAPES = [pattern for pattern in FORMATS if shape_of(pattern) is not None]


def body(shape: Shape) -> re.Pattern[str]:
    assert shape.line is not None
    return re.compile(shape.line, re.ASCII)


def failing(kind: str, texts: Sequence[str | None], **arguments: Any) -> list[int]:
    found = compile_expectation(kind, {"column": "a", **arguments}, {"a": pa.string()}).judge(
        Frame({"a": pa.array(texts, pa.string())}, len(texts))
    )
    assert isinstance(found, RowVerdict)
    return np.flatnonzero(found.failed).tolist()


@given(st.from_regex(body(ISO_MOMENT), fullmatch=True))
def test_every_text_of_the_iso_shape_is_read_by_dateutil(text: str) -> None:
    parse(text)


@pytest.mark.parametrize("pattern", SHAPES)
@given(data=st.data())
def test_every_text_of_a_formats_shape_is_read_by_strptime(pattern: str, data: st.DataObject) -> None:
    shape = shape_of(pattern)
    assert shape is not None
    dt.datetime.strptime(data.draw(st.from_regex(body(shape), fullmatch=True)), pattern)


def test_most_formats_have_a_shape_and_every_ordinary_day_is_of_it() -> None:
    assert len(SHAPES) >= 9
    days = [dt.datetime(2019, 1, 1) + dt.timedelta(days=at, minutes=61 * at) for at in range(365)]
    for pattern in SHAPES:
        shape = shape_of(pattern)
        assert shape is not None
        for day in days:
            assert body(shape).fullmatch(day.replace(tzinfo=dt.UTC).strftime(pattern)), (pattern, day)


def test_leap_days_and_odd_times_are_read_one_by_one() -> None:
    texts = ["2020-02-29", "2021-02-29", "2020-06-31", "31 Jan 2020", "24:00", None, "2020-01-31T12:00:00+05:30", "٢٠٢٠-٠١-٠١"]
    expected = [at for at, text in enumerate(texts) if text is not None and not reads(text)]
    assert failing("expect_column_values_to_be_dateutil_parseable", texts) == expected
    assert failing("expect_column_values_to_match_strftime_format", texts, strftime_format="%Y-%m-%d") == [1, 2, 3, 4, 6, 7]


def reads(text: str) -> bool:
    try:
        parse(text)
    except (OverflowError, ValueError):
        return False
    return True


def test_dates_that_run_together_are_no_date() -> None:
    assert failing("expect_column_values_to_match_strftime_format", ["2020-01-312020-02-29", "2020-02-29"], strftime_format="%Y-%m-%d") == [
        0
    ]


def test_only_text_is_read_as_a_time() -> None:
    for kind, arguments in (("dateutil_parseable", {}), ("match_strftime_format", {"strftime_format": "%Y"})):
        name = f"expect_column_values_to_{'be_' if kind.startswith('date') else ''}{kind}"
        with pytest.raises(BadExpectation, match="only text"):
            compile_expectation(name, {"column": "a", **arguments}, {"a": pa.timestamp("us")})
    with pytest.raises(BadExpectation, match="cannot be used"):
        compile_expectation("expect_column_values_to_match_strftime_format", {"column": "a", "strftime_format": "%Y %Q"}, None)


def test_like_is_what_postgres_says_it_is(database: Database) -> None:
    chance = random.Random(5)
    patterns = [*LIKES, *("".join(chance.choice("ab%_\\éA") for _ in range(chance.randint(0, 6))) for _ in range(300))]
    patterns = [pattern for pattern in patterns if (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 0]
    words = [str(text) for kind in ("texts", "strange") for text in VALUES[kind][1] if "\x00" not in str(text)]
    words += ["".join(chance.choice("abAé_%\\\n") for _ in range(chance.randint(0, 5))) for _ in range(60)]
    with database.connect() as connection:
        query = """
            SELECT p.n - 1, array_agg(t.n - 1 ORDER BY t.n)
            FROM unnest(%s::text[]) WITH ORDINALITY p(p, n), unnest(%s::text[]) WITH ORDINALITY t(t, n)
            WHERE NOT t LIKE p GROUP BY 1"""
        expected = dict(connection.execute(query, (patterns, words)).fetchall())
        escaped = connection.execute("SELECT t LIKE '!%!!_' ESCAPE '!' FROM unnest(ARRAY['%!a', 'x!a', '%!', '%\\a']) t").fetchall()
    for at, pattern in enumerate(patterns):
        rows = expected.get(at, [])
        assert failing("expect_column_values_to_match_like_pattern", words, like_pattern=pattern) == rows, pattern
        others = [row for row in range(len(words)) if row not in set(rows)]
        assert failing("expect_column_values_to_not_match_like_pattern", words, like_pattern=pattern) == others, pattern
    found = failing("expect_column_values_to_match_like_pattern", ["%!a", "x!a", "%!", "%\\a"], like_pattern="!%!!_", escape="!")
    assert found == [at for at, (like,) in enumerate(escaped) if not like]


def test_lists_of_like_patterns_ask_for_any_all_or_none() -> None:
    texts: list[str | None] = ["ab", "a", "b", "c", None]
    match, not_match = "expect_column_values_to_match_like_pattern_list", "expect_column_values_to_not_match_like_pattern_list"
    assert failing(match, texts, like_pattern_list=["a%", "%b"]) == [3]
    assert failing(match, texts, like_pattern_list=["a%", "%b"], match_on="all") == [1, 2, 3]
    assert failing(not_match, texts, like_pattern_list=["a%", "%b"]) == [0, 1, 2]


@pytest.mark.parametrize(
    "arguments",
    [{"like_pattern": "a\\"}, {"like_pattern": "a!", "escape": "!"}, {"like_pattern": "a", "escape": "ab"}, {"like_pattern": 1}, {}],
)
def test_a_like_pattern_that_means_nothing_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(BadExpectation):
        compile_expectation("expect_column_values_to_match_like_pattern", {"column": "a", **arguments}, None)


def test_like_is_for_text() -> None:
    with pytest.raises(BadExpectation, match="LIKE is for text"):
        compile_expectation("expect_column_values_to_match_like_pattern", {"column": "a", "like_pattern": "1%"}, {"a": pa.int64()})


@given(st.lists(st.floats(), min_size=1))
def test_the_text_of_a_double_is_pythons(values: list[float]) -> None:
    assert Column(pa.array(values)).texts.to_pylist() == [None if math.isnan(value) else str(value) for value in values]


@given(st.lists(st.one_of(st.none(), st.decimals(-(10**15), 10**15, places=10)), min_size=1))
def test_the_text_of_a_decimal_is_pythons(values: list[Decimal | None]) -> None:
    array = pa.array(values, pa.decimal128(30, 10))
    assert Column(array).texts.to_pylist() == [None if value is None else str(value) for value in array.to_pylist()]


@given(st.lists(st.one_of(st.none(), st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))), min_size=1))
def test_the_text_of_a_time_is_pythons(values: list[dt.datetime | None]) -> None:
    assert Column(pa.array(values, pa.timestamp("us"))).texts.to_pylist() == [None if value is None else str(value) for value in values]
    zoned = [None if value is None else value.replace(tzinfo=dt.UTC) for value in values]
    assert Column(pa.array(zoned, pa.timestamp("us", "UTC"))).texts.to_pylist() == [
        None if value is None else str(value) for value in zoned
    ]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_a_decimal_becomes_the_nearest_double(bits: list[int]) -> None:
    doubles = [value for (value,) in (struct.unpack("<d", struct.pack("<Q", one)) for one in bits) if 1e-8 < abs(value) < 1e20]
    values = [Decimal(value).quantize(Decimal("1e-10")) for value in doubles]
    assert Column(pa.array(values, pa.decimal128(38, 10))).doubles.tolist() == [float(value) for value in values]
