"""The table of types: names of types, casts from Postgres' text, and what does not fit."""

from __future__ import annotations

import datetime as dt
import re
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import journal.types
from journal.types import DATE_INFINITY, INFINITY, arrow_type, duckdb_type, parse_type, typed
from tests.fix_postgres import Database

UTC = dt.UTC
EPOCH = dt.datetime(1970, 1, 1)
OFFERED = (
    "boolean", "smallint", "integer", "bigint", "oid", "real", "double precision", "numeric(10,2)", "numeric(38,10)", "numeric(50,4)",
    "date", "timestamp without time zone", "timestamp with time zone", "time without time zone", "bytea", "uuid", "json", "text",
)  # fmt: skip


def column(*values: str | None) -> pa.StringArray:
    return pa.array(values, pa.string())


def storage(values: pa.Array) -> list[int | None]:
    """Moments as what they are stored as: days or microseconds since 1970."""
    return values.cast(pa.int32() if pa.types.is_date(values.type) else pa.int64()).to_pylist()  # type: ignore[no-any-return]


def in_duckdb(query: str, **columns: pa.Array) -> list[tuple[Any, ...]]:
    """The rows of a query over `given`, a table of these columns."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("given", pa.table(columns))
        return connection.execute(query).fetchall()


@pytest.mark.parametrize(
    "written, base, args, array",
    [
        ("int4", "integer", (), False),
        ("numeric(10, 2)", "numeric", (10, 2), False),
        ("numeric(3,-2)", "numeric", (3, -2), False),
        ("DECIMAL(5)", "numeric", (5,), False),
        ("timestamp(3) with time zone", "timestamp with time zone", (3,), False),
        ("timestamp with time zone", "timestamp with time zone", (), False),
        ("timestamptz", "timestamp with time zone", (), False),
        ("time(0)", "time without time zone", (0,), False),
        ("character varying(10)[]", "character varying", (10,), True),
        ("integer[3][]", "integer", (), True),
        ('"char"', '"char"', (), False),
        ('"My ""Type"""', '"My ""Type"""', (), False),
        ("bit varying(5)", "bit varying", (5,), False),
        ("interval day to second(3)", "interval day to second", (3,), False),
        ("hstore", "hstore", (), False),
        ("double  precision", "double precision", (), False),
    ],
)
def test_a_type_is_read_as_format_type_and_people_write_it(written: str, base: str, args: tuple[int, ...], array: bool) -> None:
    found = parse_type(written)
    assert (found.base, found.args, found.array) == (base, args, array)
    assert parse_type(str(found)) == found


@pytest.mark.parametrize("written", ["", "numeric(", "1int", "int; drop table t", "numeric(a)", '"open'])
def test_what_is_not_the_name_of_a_type_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="not a Postgres type"):
        parse_type(written)


def test_the_table_in_the_docstring_is_what_the_functions_do() -> None:
    lines = (journal.types.__doc__ or "").split("\n\n")[1].splitlines()[1:]
    rows = [re.split(r" {2,}", line.strip()) for line in lines]
    seen = {}
    for row in rows:
        seen[row[0]] = (row[1], row[2])
    several = {"smallint integer bigint": ["smallint", "integer", "bigint"], "real, double precision": ["real", "double precision"]}
    names = {
        "numeric(p,s), p <= 38": "numeric(12,3)",
        "numeric(p,s), 38 < p <= 76": "numeric(40,3)",
        "timestamp": "timestamp without time zone",
        "time": "time without time zone",
    }
    arrow_names = {"float32": "float", "float64": "double", "date32": "date32[day]", "timestamp(us)": "timestamp[us]",
                   "timestamp(us, UTC)": "timestamp[us, tz=UTC]", "time64(us)": "time64[us]"}  # fmt: skip

    def expected(text: str, postgres: str) -> str:
        return text.replace("(p,s)", "(12, 3)" if "12" in postgres else "(40, 3)")

    for name, (arrow, duck) in seen.items():
        if name in several:
            arrows = arrow.replace(",", "").split()
            ducks = {"SMALLINT … BIGINT": ["SMALLINT", "INTEGER", "BIGINT"], "FLOAT, DOUBLE": ["FLOAT", "DOUBLE"]}[duck]
            cases = list(zip(several[name], arrows, ducks, strict=True))
        elif name in ("json, jsonb", 'text, varchar(n), "char", …', "everything else, all arrays"):
            kinds = {"j": ["json", "jsonb"], "t": ["text", "varchar(3)", '"char"', "character(3)", "name"]}
            rest = [
                "integer[]",
                "interval",
                "int4range",
                "inet",
                "money",
                "numeric(10,2)[]",
                "time with time zone",
                "bit(3)",
                "hstore",
                "xml",
            ]
            cases = [(kind, arrow, duck) for kind in kinds.get(name[0], rest)]
        else:
            cases = [(names.get(name, name), arrow, duck)]
        for kind, in_arrow, in_duckdb in cases:
            assert str(arrow_type(kind)) == arrow_names.get(in_arrow, expected(in_arrow, kind)), kind
            assert duckdb_type(kind) == expected(in_duckdb, kind).replace(", ", ","), kind


@pytest.mark.parametrize("kind", ["numeric(3,-2)", "numeric(2,4)", "numeric(77,0)", "geometry(Point,4326)"])
def test_a_type_that_nothing_is_like_stays_text(kind: str) -> None:
    assert (arrow_type(kind), duckdb_type(kind)) == (pa.string(), "VARCHAR")


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))))
def test_whole_numbers_are_exact(numbers: list[int | None]) -> None:
    found = typed(column(*(None if n is None else str(n) for n in numbers)), "bigint")
    assert found.values.to_pylist() == numbers
    assert not found.malformed.any()


@given(st.lists(st.integers(-(2**40), 2**40)), st.sampled_from([("smallint", 16), ("integer", 32)]))
def test_a_number_too_large_for_its_type_is_malformed_and_its_neighbours_are_not(numbers: list[int], kind: tuple[str, int]) -> None:
    found = typed(column(*map(str, numbers)), kind[0])
    fits = [-(2 ** (kind[1] - 1)) <= n < 2 ** (kind[1] - 1) for n in numbers]
    assert found.malformed.tolist() == [not fit for fit in fits]
    assert found.values.to_pylist() == [n if fit else None for n, fit in zip(numbers, fits, strict=True)]


@given(st.lists(st.one_of(st.none(), st.decimals(min_value=-(10**8) + 1, max_value=10**8 - 1, places=2))))
def test_decimals_are_exact(numbers: list[Decimal | None]) -> None:
    found = typed(column(*(None if n is None else f"{n:f}" for n in numbers)), "numeric(10,2)")
    assert found.values.to_pylist() == numbers
    assert not found.malformed.any()


@given(st.lists(st.floats()))
def test_floating_point_comes_back_bit_by_bit(numbers: list[float]) -> None:
    texts = ["NaN" if n != n else "Infinity" if n == float("inf") else "-Infinity" if n == float("-inf") else repr(n) for n in numbers]
    found = typed(column(*texts), "double precision")
    assert not found.malformed.any()
    bits = [struct.pack("d", n) if n == n else b"nan" for n in numbers]
    assert [struct.pack("d", n) if n == n else b"nan" for n in found.values.to_pylist()] == bits


@given(st.lists(st.one_of(st.none(), st.binary(max_size=20))), st.integers(0, 3))
def test_bytes_come_back_also_from_a_slice(blobs: list[bytes | None], start: int) -> None:
    text = column(*(None if b is None else "\\x" + b.hex() for b in blobs))
    found = typed(text.slice(start), "bytea")
    found.values.validate(full=True)
    assert found.values.to_pylist() == blobs[start:]
    assert not found.malformed.any()


@given(st.lists(st.dates()))
def test_dates_agree_with_python(days: list[dt.date]) -> None:
    assert typed(column(*(day.isoformat() for day in days)), "date").values.to_pylist() == days


@given(st.lists(st.datetimes()), st.booleans())
def test_timestamps_agree_with_python(moments: list[dt.datetime], strange: bool) -> None:
    texts = [f"{m:%H:%M:%S}" + (f".{m.microsecond:06d}".rstrip("0") if m.microsecond else "") for m in moments]
    texts = [f"{m.year:04d}-{m:%m-%d} {clock}" for m, clock in zip(moments, texts, strict=True)]
    micros = [(m - EPOCH) // dt.timedelta(microseconds=1) for m in moments]
    # one value that Arrow cannot read sends the whole column the other way
    more: list[str] = ["infinity"] if strange else []
    found = typed(column(*texts, *more), "timestamp")
    assert storage(found.values) == [*micros, *([INFINITY] if strange else [])]
    zoned = typed(column(*(text + "+00" for text in texts), *more), "timestamp with time zone")
    assert storage(zoned.values) == storage(found.values)


@given(st.lists(st.tuples(st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1)), st.integers(-15 * 60, 15 * 60)), min_size=1))
def test_a_time_zone_other_than_utc_is_taken_into_account(moments: list[tuple[dt.datetime, int]]) -> None:
    texts = []
    for moment, offset in moments:
        sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
        texts.append(f"{moment.year:04d}-{moment:%m-%d %H:%M:%S}{sign}{hours:02d}:{minutes:02d}")
    micros = [(m.replace(microsecond=0) - EPOCH) // dt.timedelta(microseconds=1) - offset * 60_000_000 for m, offset in moments]
    assert storage(typed(column(*texts), "timestamptz").values) == micros
    assert storage(typed(column(*texts, "10000-01-01 00:00:00+00"), "timestamptz").values)[:-1] == micros


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(-4712, 294_246), st.integers(1, 12), st.integers(1, 28), st.integers(0, 86_399), st.integers(0, 999_999)),
        min_size=1,
    )
)
@example([(0, 2, 29 - 1, 0, 0), (-3, 2, 28, 0, 0), (294_246, 12, 28, 86_399, 999_999), (-4712, 1, 1, 0, 0), (10_000, 1, 1, 0, 1)])
def test_moments_of_all_ages_agree_with_duckdb(moments: list[tuple[int, int, int, int, int]]) -> None:
    dates, stamps, duck = [], [], []
    for year, month, day, second, micro in moments:
        written, era = (year, "") if year > 0 else (1 - year, " BC")
        date = f"{written:04d}-{month:02d}-{day:02d}"
        clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{micro:06d}"
        dates.append(date + era)
        stamps.append(f"{date} {clock}{era}")
        duck.append(f"{date}{' (BC)' if era else ''} {clock}")
    expected = in_duckdb("SELECT epoch_us(t::TIMESTAMP), t::DATE - DATE '1970-01-01' FROM given", t=column(*duck))
    for kind, texts, at in (("timestamp", stamps, 0), ("date", dates, 1)):
        found = typed(column(*texts), kind)
        assert not found.malformed.any()
        assert storage(found.values) == [row[at] for row in expected]


def test_infinity_is_the_largest_value_as_in_duckdb() -> None:
    text = column("infinity", None, "-infinity", "2024-01-31")
    dates = typed(text, "date").values
    assert storage(dates) == [DATE_INFINITY, None, -DATE_INFINITY, 19753]
    stamps = typed(column("infinity", None, "-infinity"), "timestamptz").values
    assert storage(stamps) == [INFINITY, None, -INFINITY]
    assert in_duckdb("SELECT d::VARCHAR, t::VARCHAR FROM given", d=dates.slice(0, 3), t=stamps) == [
        ("infinity", "infinity"),
        (None, None),
        ("-infinity", "-infinity"),
    ]


def test_the_last_moment_that_fits_is_held_and_the_next_is_not() -> None:
    found = typed(
        column("294247-01-10 04:00:54.775806", "294247-01-10 04:00:54.775807", "294276-12-31 23:59:59.999999", "294247-01-11 00:00:00"),
        "timestamp",
    )
    assert found.malformed.tolist() == [False, True, True, True]
    assert storage(found.values) == [INFINITY - 1, None, None, None]


def test_the_end_of_the_day_is_not_its_beginning() -> None:
    found = typed(column("24:00:00", "00:00:00", "23:59:59.999999", None), "time")
    assert found.malformed.tolist() == [True, False, False, False]
    assert found.values.to_pylist() == [None, dt.time(0), dt.time(23, 59, 59, 999_999), None]


@pytest.mark.parametrize(
    "kind, wrong",
    [
        ("boolean", ["maybe", "T", "", "1"]),
        ("integer", ["", "1.5", "12a", "--1"]),
        ("numeric(5,2)", ["NaN", "Infinity", "1000.00", "1.234", "ten"]),
        (
            "date",
            [
                "2023-02-29",
                "2024-13-01",
                "2024-00-10",
                "2024-01-00",
                "0000-01-01 BC",
                "2024-1-1",
                "today",
                "2024-01-01 BC BC",
            ],
        ),
        (
            "timestamp",
            ["2024-02-30 00:00:00", "2024-01-01 25:00:00", "2024-01-01 00:60:00", "2024-01-01 00:00:61", "now", "0100-02-29 00:00:00 BC"],
        ),
        ("timestamptz", ["2024-01-01 24:00:01+00", "2024-01-01 00:00:00 MEZ", "12024-02-30 00:00:00+00"]),
        ("bytea", ["abc", "\\x0", "\\xgg", "\\xAB"]),
    ],
)
def test_malformed_text_is_found_and_its_neighbours_keep_their_values(kind: str, wrong: list[str]) -> None:
    good = {"boolean": "t", "integer": "7", "numeric(5,2)": "7.00", "date": "2024-02-29", "timestamp": "2024-02-29 12:00:00",
            "timestamptz": "2024-02-29 12:00:00+00", "bytea": "\\x07"}[kind]  # fmt: skip
    alone = typed(column(good), kind).values
    for text in wrong:
        found = typed(column(good, text, None, good), kind)
        assert found.malformed.tolist() == [False, True, False, False], text
        assert found.values.take([0]).equals(alone)
        assert found.values.take([3]).equals(alone)
        assert found.values[2].as_py() is None


@settings(max_examples=300)
@given(
    st.sampled_from(OFFERED),
    st.lists(st.one_of(st.none(), st.text(alphabet="0123456789-+: .BCinftyeE\\xabTZ", max_size=24), st.text(max_size=6)), max_size=8),
    st.integers(0, 2),
)
def test_a_value_is_never_lost_in_silence(kind: str, texts: list[str | None], start: int) -> None:
    found = typed(column(*texts).slice(start), kind)
    found.values.validate(full=True)
    assert found.values.type == arrow_type(kind)
    assert len(found.values) == len(found.malformed) == max(len(texts) - start, 0)
    for text, value, malformed in zip(texts[start:], np.asarray(found.values.is_null()), found.malformed, strict=True):
        assert bool(value) == (text is None or bool(malformed))


def test_a_column_of_infinities_is_cast_as_a_whole() -> None:
    text = column(*["2024-01-01 00:00:00+00", "infinity"] * 50_000)
    found = typed(text, "timestamptz")
    assert storage(found.values.slice(0, 2)) == [1_704_067_200_000_000, INFINITY]
    assert found.values.null_count == 0


SAMPLES: dict[str, list[str]] = {
    "boolean": ["true", "false", "NULL"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["'-9223372036854775808'", "9223372036854775807"],
    "oid": ["4294967295", "0"],
    "real": ["'NaN'", "'Infinity'", "'-Infinity'", "3.4028235e38", "1e-45", "0.1", "'-0'"],
    "double precision": ["'NaN'", "'Infinity'", "1.7976931348623157e308", "5e-324", "0.1", "123456789.12345679"],
    "numeric(10,2)": ["99999999.99", "-0.01", "0"],
    "numeric(38,10)": ["9999999999999999999999999999.9999999999"],
}


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_what_postgres_writes_is_read_as_what_it_means(database15: Database, kind: str) -> None:
    values = ", ".join(f"({value})" for value in SAMPLES[kind])
    rows = database15.rows(f"SELECT v::{kind}, v::{kind}::text FROM (VALUES {values}) AS s(v)")
    found = typed(column(*({"true": "t", "false": "f"}.get(text, text) for _, text in rows)), kind)
    assert not found.malformed.any()
    assert [_plain(value) for value in found.values.to_pylist()] == [_plain(value) for value, _ in rows]


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
def test_moments_agree_with_postgres_own_arithmetic(database18: Database, kind: str) -> None:
    unit = "('epoch'::date - 0)" if kind == "date" else "0"
    number = f"v - {unit}" if kind == "date" else "(extract(epoch FROM v) * 1000000)::numeric(30,0)"
    with database18.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute(
            f"""
            SELECT v::text, {number} FROM (
                SELECT ('4713-01-01 BC'::timestamp + (random() * 108000000) * '1 day'::interval)::{kind} FROM generate_series(1, 2000)
                UNION ALL SELECT (date '4713-01-01 BC' + n)::{kind} FROM generate_series(0, 3500000, 997) AS s(n)
            ) AS m(v)
            """.encode()
        ).fetchall()
    found = typed(column(*(text for text, _ in rows)), kind)
    for (text, expected), value, malformed in zip(rows, storage(found.values), found.malformed, strict=True):
        fits = abs(int(expected)) < (DATE_INFINITY if kind == "date" else INFINITY)
        assert (value, bool(malformed)) == ((int(expected), False) if fits else (None, True)), text


def _plain(value: Any) -> Any:
    return "NaN" if value != value else float(np.float32(value)) if isinstance(value, float) and abs(value) < 1e39 else value


def test_the_page_of_the_duckdb_sink_says_what_the_table_of_types_does() -> None:
    page = (Path(__file__).parents[1] / "docs" / "duckdb-sink.md").read_text("utf-8")
    table = page.partition("| Postgres | DuckDB | |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (\S+) \|", table, re.MULTILINE)
    assert len(rows) > 25
    assert [(kind, duckdb_type(kind)) for kind, _ in rows] == rows
    told = {parse_type(kind).base for kind, _ in rows}
    assert not {base for base in journal.types._DUCKDB if base not in told}
