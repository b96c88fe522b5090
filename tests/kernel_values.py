"""Hostile values of every type, and frames of them; patterns, bounds and conditions to ask about them."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from quality.frame import Frame

UTC = dt.UTC
DAY = dt.datetime(2020, 1, 31, 12, 30, 15, 250_000)

VALUES: Mapping[str, tuple[pa.DataType, Sequence[Any]]] = {
    "ints": (pa.int64(), (0, 1, 2, 3, 5, -1, -7, 10, 100, 2**31, -(2**40))),
    "small": (pa.int16(), (0, 1, 2, 3, -1, 32767, -32768)),
    "huge": (pa.int64(), (2**53, 2**53 + 1, 2**62, -(2**62), 2**63 - 1, -(2**63) + 1, 0, 1)),
    "floats": (pa.float64(), (0.0, -0.0, 1.0, 2.5, -3.25, 0.1, 0.3, 1e300, 5e-324, float("inf"), float("-inf"), float("nan"), 1e16)),
    "tame": (pa.float64(), (0.0, 1.0, 2.0, 2.5, -3.25, 0.1, 0.2, 0.7, 10.0)),
    "money": (pa.decimal128(12, 2), tuple(Decimal(v) for v in ("0.00", "0.10", "0.30", "1.00", "2.50", "-3.25", "99.99", "1000000000.00"))),
    "fine": (pa.decimal128(30, 8), tuple(Decimal(v) for v in ("0", "0.00000001", "1.10000000", "2.5", "-1", "123456789.5"))),
    "texts": (
        pa.string(),
        ("", "a", "b", "A", "ab", "abc", "1", "10", "2.5", " ", "a b", "a\n", "\n", "x_y", "50%", "a\\b", "true", "None", "nan", "EUR",
        "USD"),
    ),
    "strange": (pa.string(), ("é", "ß", "ſ", "٣", "１", "\x1c", "\u2028", "a\u0301", "🙂", "K", "İ", "a\x00b", "a\r\n", "\t", "Ä1",
    "x" * 300)),
    "dates_as_text": (
        pa.string(),
        (
            "2020-01-31", "2020-02-29", "2021-02-29", "2020-13-01", "2020-1-1", "20200131", "2020-01-31T12:00:00", "2020-01-31 12:00:00.5",
            "2020-01-31T12:00:00Z", "2020-01-31T12:00:00+02:00", "2020-01-31T25:00:00", "31/01/2020", "Jan 31 2020", "12:30", "2020", "1",
            "",
            "nonsense", "0000-01-01", "9999-12-31", "2020-01-31T24:00:00", "2020-01-31 23:59:60", "10000-01-01", "2020-06-31",
            "2020-01-31T12:00+1400",
        ),
    ),
    "json": (
        pa.string(),
        (
            "1", "-0", "01", "1.5e3", "NaN", "Infinity", "null", "true", '"a"', '"\\ud800"', '"\t"', "{}", '{"a": 1}', '{"a": "x"}',
            '{"a": 1, "a": 2}',
            "[1, 2]", "[1,]", "{'a': 1}", "", " ", "nonsense", "[[[[]]]]", '{"a": null}', "1 2", "\ufeff1",
        ),
    ),
    "flags": (pa.bool_(), (True, False)),
    "days": (pa.date32(), (dt.date(2020, 1, 31), dt.date(2020, 2, 29), dt.date(1969, 12, 31), dt.date(2024, 1, 1), dt.date(1, 1, 1))),
    "times": (pa.timestamp("us"), (DAY, dt.datetime(2020, 1, 31), dt.datetime(1969, 12, 31, 23, 59, 59),
    DAY + dt.timedelta(microseconds=1), dt.datetime(2024, 1, 1))),
    "zoned": (
        pa.timestamp("us", "UTC"),
        (DAY.replace(tzinfo=UTC), dt.datetime(2020, 1, 31, tzinfo=UTC), dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        dt.datetime(2024, 1, 1, tzinfo=UTC)),
    ),
    "bytes": (pa.binary(), (b"", b"a", b"1", b"ab", b"10")),
}  # fmt: skip


def frame(chance: random.Random, rows: int, nulls: float) -> Frame:
    """A frame with two columns of every kind, `kind` and `kind_2`; the second is like the first in every other row."""
    columns: dict[str, pa.Array] = {}
    for kind, (of, values) in VALUES.items():
        first = [None if chance.random() < nulls else chance.choice(values) for _ in range(rows)]
        second = [one if chance.random() < 0.5 else None if chance.random() < nulls else chance.choice(values) for one in first]
        columns[kind] = pa.array(first, of)
        columns[f"{kind}_2"] = pa.array(second, of)
    return Frame(columns, rows)


REGEXES = (
    "a", "^a", "a$", "^a$", r"\d", r"^\d+$", r"\w+", r"\s", r"^\S*$", r"\bA?a\b", r"[^a]", "(?i)a|k|s", "(?s).+", r"^.$", "", "^$",
    r"\Aa\Z", r"a\Z", "a|b$", "^(a|b)",
    "^a|b$|c", r"(a)\1", "(?=a)", "(?<!a)b", "a{2,}", "[a-c]{1,2}", r"[\w.]+@[\w.]+", r"\.", r"[+-]?\d+(\.\d+)?$", "(?m)^b", "(?m)a$",
    "é", "[à-ü]", r"\x1c", r"(?a)\w", r"(?a)\d",
    "^[A-Z]{3}$", "T|F", "-", "00", "(?:a|ab)(?:c|bcd)?$", r"\W", r"[^\W\d]", "(?i)^[a-z]+$", "a.b", r"a\\b", "%", "x_",
    "^(?:(?:a|b)$|c)", "(a$|b)$", r"(b$|a)\Z", "^(^a)", "a*$", "(?i)ß", "[[]", "a??b",
)  # fmt: skip
LIKES = ("a%", "%a", "%a%", "a", "_", "__", "%", "", "a_c", "x\\_y", "50\\%", "%\\%", "_%", "A%", "a\\\\b", "%é%", "%\n%", "a%c", "%_%")
FORMATS = (
    "%Y-%m-%d",
    "%Y",
    "%d/%m/%Y",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f",
    "%H:%M",
    "%Y%m%d",
    "%b %d %Y",
    "%Y-%m-%dT%H:%M:%S%z",
    "%m",
    "%y",
    "%%",
)
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "number"}, {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, {}, {"enum": [1, "a", None]},
        {"type": ["array", "null"]},
    {"$ref": "#/definitions/x", "definitions": {"x": {"type": "string"}}}, {"minimum": 1}, {"not": {}},
)  # fmt: skip
TYPES = (
    "int", "int64", "Int64", "Int64Dtype", "float", "float64", "str", "object", "bool", "boolean", "bool_", "datetime64",
    "datetime64[us]", "datetime64[us, UTC]",
    "DatetimeTZDtype", "Timestamp", "StringDtype", "bytes", "list", "O", "int16", "Decimal", "date", "none", "VARCHAR", "float32",
    "category",
)  # fmt: skip
BOUNDS: tuple[Any, ...] = (
    0, 1, 2.5, -1, 0.1, 0.3, 100, "5", 2**53, -(2**62), 1e300, float("inf"), 3, "2020-01-31", "2020-01-31T12:30:15.250000",
        "2020-01-31T12:00:00Z", "2024-01-01",
    dt.date(2020, 1, 31), DAY, DAY.replace(tzinfo=UTC), "1969-12-31 23:59", 0.00000001,
)  # fmt: skip
_QUERIES = (
    "ints > 1", "ints != 2 and texts == 'a'", "floats > 0 or ints.isnull()", "not (ints > 1)", "~(ints > 1)", "ints in [0, 1, 2]",
    "ints not in [0, 1, 2]", "texts in ['a', 'b']", "texts not in ['a', 'b']", "texts != 'a'", "floats != 1", "tame == 1.0",
    "0 < ints < 5", "ints > ints_2", "flags == True", "flags != True", "money > 1", "times > '2020-01-31'", "`ints` > 1 & texts > 'a'",
    "(ints > 1) | (texts == 'a')", "texts.str.len() > 0", "ints % 2 == 1", "ints + 1 > 2",
)  # fmt: skip
_OBJECTS: tuple[dict[str, Any], ...] = (
    {"type": "comparison", "column": {"name": "ints"}, "operator": ">", "parameter": 1},
    {"type": "comparison", "column": {"name": "texts"}, "operator": "IN", "parameter": ["a", "b"]},
    {"type": "nullity", "column": {"name": "floats"}, "is_null": True},
    {
        "type": "and",
        "conditions": [
            {"type": "nullity", "column": {"name": "ints"}, "is_null": False},
            {"type": "comparison", "column": {"name": "ints"}, "operator": "NOT_IN", "parameter": [1, 2.0]},
        ],
    },
    {
        "type": "or",
        "conditions": [
            {"type": "comparison", "column": {"name": "texts"}, "operator": "==", "parameter": "a"},
            {"type": "comparison", "column": {"name": "ints"}, "operator": "<=", "parameter": 0},
        ],
    },
)
CONDITIONS: tuple[tuple[Any, str | None], ...] = (
    *((query, "pandas") for query in _QUERIES),
    ("texts.notnull()", None),
    ('col("ints") > 1', "great_expectations"),
    ('col("texts") == "a"', "great_expectations__experimental__"),
    ('col("floats").notnull()', "great_expectations"),
    ('col("tame") <= 2.5e0', "great_expectations"),
    *((condition, None) for condition in _OBJECTS),
)
