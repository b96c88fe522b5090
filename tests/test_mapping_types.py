"""What DuckDB holds, as Postgres' own text: the same value, or none at all."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.map_types import UNFIT, conversion, natural_type, same_text
from journal.duckdb_session import session


def _text(expression: str, target: str) -> str | None:
    """The value of an expression as a column of this type."""
    held = session().query(f"SELECT typeof({expression})")[0][0]
    found = conversion(held, target, "value")
    assert found is not None, f"{held} goes into no {target}"
    text: str | None = session().query(f"SELECT {found.sql} FROM (SELECT {expression} AS value)")[0][0]
    assert text != UNFIT or found.strict
    return text


@pytest.mark.parametrize(
    "expression, target, text",
    [
        ("5.50::decimal(10,2)", "numeric", "5.50"),
        ("5.50::decimal(10,2)", "numeric(10,1)", "5.5"),
        ("5.00::decimal(10,2)", "integer", "5"),
        ("5::integer", "numeric(10,2)", "5.00"),
        ("1.5e-5::double", "numeric", "0.000015"),
        ("1e16::double", "numeric", "10000000000000000"),
        ("0.1::double", "numeric(10,2)", "0.10"),
        ("300::bigint", "smallint", "300"),
        ("true", "boolean", "t"),
        ("true", "text", "true"),
        ("timestamptz '2026-01-01 10:00:00.5+02'", "timestamptz", "2026-01-01 08:00:00.5+00"),
        ("timestamp '2026-01-01 00:00:00'", "date", "2026-01-01"),
        ("timestamp '2026-01-01 10:00:00'", "timestamptz", "2026-01-01 10:00:00+00"),
        ("timestamp '0044-03-15 (BC) 01:02:03'", "timestamptz", "0044-03-15 01:02:03+00 BC"),
        ("date '2026-01-01'", "timestamp", "2026-01-01 00:00:00"),
        ("time '10:00:00.50'", "time", "10:00:00.5"),
        ("blob 'ab'", "bytea", r"\x6162"),
        ("{'a': [1, 2]}", "jsonb", '{"a":[1,2]}'),
        ("'a'::enum('a', 'b')", "text", "a"),
        ("null", "date", None),
        ("'007'", "integer", "7"),
        ("'007.10'", "numeric", "7.10"),
        ("'5.500'", "numeric(10,2)", "5.50"),
        ("'ab'", "character(4)", "ab  "),
        ("'TRUE'", "boolean", "t"),
        ("'2026-01-01T10:00:00+02:00'", "timestamptz", "2026-01-01 08:00:00+00"),
        ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("'1 day'", "interval", "1 day"),
        ("'{1,2}'", "integer[]", "{1,2}"),
    ],
)
def test_a_value_is_written_as_postgres_writes_it(expression: str, target: str, text: str | None) -> None:
    assert _text(expression, target) == text


@pytest.mark.parametrize(
    "expression, target",
    [
        ("5.51::decimal(10,2)", "integer"),
        ("5.51::decimal(10,2)", "numeric(10,1)"),
        ("12345::integer", "numeric(4,0)"),
        ("70000::integer", "smallint"),
        ("9007199254740993::bigint", "double precision"),
        ("16777217::integer", "real"),
        ("0.125::double", "numeric(10,2)"),
        ("0.5::double", "bigint"),
        ("'nan'::double", "bigint"),
        ("0.1::double", "real"),
        ("timestamp '2026-01-01 10:00:00'", "date"),
        ("timestamp '2026-01-01 10:00:00.1234'", "timestamp(3)"),
        ("'2026-01-01 10:00:00.123456789'::timestamp_ns", "timestamp"),
        ("'abcd'", "varchar(3)"),
        ("'x' || chr(0)", "text"),
        ("'5.5'", "integer"),
        ("'1e3'", "integer"),
        ("'1_000'", "integer"),
        ("'5.501'", "numeric(10,2)"),
        ("'2026-01-01 10:00:00.1234567+00'", "timestamptz"),
        ("'2026-01-01 10:00:00'", "timestamptz"),
        ("'2026-01-01 10:00:00+02'", "timestamp"),
        ("'2026-02-30'", "date"),
        ("'yes'", "boolean"),
        ("'{\"a\": }'", "jsonb"),
        ("'1e999'", "double precision"),
        ("'\\x0'", "bytea"),
    ],
)
def test_a_value_that_does_not_fit_exactly_is_unfit(expression: str, target: str) -> None:
    assert _text(expression, target) == UNFIT


@pytest.mark.parametrize(
    "held, target",
    [
        ("BOOLEAN", "date"), ("BOOLEAN", "integer"), ("TIMESTAMP", "bigint"), ("DOUBLE", "uuid"), ("JSON", "bigint"), ("INTEGER[]", "text"),
        ("INTEGER[]", "integer[]"), ("INTERVAL", "interval"), ("BLOB", "text"), ("DATE", "boolean"),
    ],
)  # fmt: skip
def test_types_that_have_nothing_in_common_do_not_go_together(held: str, target: str) -> None:
    assert conversion(held, target, "x") is None


@given(st.floats())
def test_doubles_are_written_so_that_they_are_the_same_when_read(value: float) -> None:
    text = _text(f"'{value}'::double", "double precision")
    assert text is not None
    assert float(text) == value or math.isnan(value)
    # Postgres has an exponent from 1e15 on and below 1e-4
    if math.isfinite(value) and value:
        assert ("e" in text) == (not 1e-4 <= abs(value) < 1e15)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_reals_too(value: float) -> None:
    text = _text(f"'{value}'::float", "real")
    assert text is not None
    assert struct.pack("f", float(text)) == struct.pack("f", value)


def test_every_natural_type_takes_all_values_of_its_own() -> None:
    assert natural_type("DECIMAL(18,2)") == "numeric"
    assert natural_type("STRUCT(a INTEGER)") == "jsonb"
    assert natural_type("INTERVAL") is None


def test_text_stays_the_same_only_between_types_that_write_alike() -> None:
    assert same_text("integer", "bigint")
    assert same_text("numeric(10,2)", "numeric")
    assert same_text("varchar(5)", "text")
    assert same_text("timestamptz", "timestamp with time zone")
    assert not same_text("bigint", "integer")
    assert not same_text("numeric", "numeric(10,2)")
    assert not same_text("integer", "numeric(10,2)")
    assert not same_text("character(3)", "text")
    assert not same_text("text", "varchar(3)")
