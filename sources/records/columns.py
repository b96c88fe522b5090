"""Whole columns of texts, as messages have them, to Postgres' own text: the fast way for what most messages hold.

Each answer is a column and which of its values it is not sure of; those are read again, one by one (`scalars.py`), which decides.
So a pattern here may be too narrow, but never too wide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.types import PgType
from sources.records.scalars import FLOATS, INTEGERS, JSONS, TEXTS, Unfit, scalar_reader

Mask = npt.NDArray[np.bool_]
Converted = tuple[pa.StringArray, Mask | None]
Converter = Callable[[pa.StringArray], Converted]

_MONTH_DAY = "(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_NEAR = "[1-9][0-9]{3}"  # years that stay of four digits in any zone of _SHIFTED
_SHIFTED = f"[2-8][0-9]{{3}}-{_MONTH_DAY}[T ]{_CLOCK}[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]"
_UTC = f"{_NEAR}-{_MONTH_DAY}[T ]{_CLOCK}(?:Z|[+]00:00)"
_ZONED = f"^(?:{_UTC}|{_SHIFTED})$"
_UNZONED = f"^{_NEAR}-{_MONTH_DAY}[T ]{_CLOCK}$"
_DATE = f"^{_NEAR}-{_MONTH_DAY}$"
_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?$"
_UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_MANY_DIGITS = 10_000
_ARROW_DIGITS = 250  # RE2 repeats a class at most 1000 times


@lru_cache(maxsize=4096)
def text_converter(kind: PgType) -> Converter:
    """What reads a column of texts of a type; null stays null."""
    if kind.array:
        return lambda text: texts(text, kind)
    if kind.base in JSONS:
        return every_value_doubtful
    match kind.base:
        case base if base in INTEGERS:
            return lambda text: _integers(text, base)
        case "numeric":
            return numerics(kind)
        case base if base in FLOATS:
            return lambda text: _floats(text, base)
        case "boolean" | "bytea":
            return one_by_one(scalar_reader(kind, loose=True))
        case "timestamp with time zone":
            return lambda text: moments(text, zoned=True)
        case "timestamp without time zone":
            return lambda text: moments(text, zoned=False)
        case "date":
            return dates
        case "time without time zone":
            return times
        case "uuid":
            return uuids
    return lambda text: texts(text, kind)


def every_value_doubtful(text: pa.StringArray) -> Converted:
    """For what is rare enough to be looked at one by one."""
    return text, np.asarray(text.is_valid())


def one_by_one(reader: Callable[[Any], str | None]) -> Callable[[Any], Converted]:
    """For types that Arrow does not read: each value by itself."""

    def convert(values: Any) -> Converted:
        found: list[str | None] = []
        doubtful: list[int] = []
        for row, value in enumerate(values.to_pylist() if isinstance(values, pa.Array) else values):
            try:
                found.append(None if value is None else reader(value))
            except Unfit:
                doubtful.append(row)
                found.append(None)
        mask = np.zeros(len(found), np.bool_)
        mask[doubtful] = True
        return pa.array(found, pa.string()), mask if doubtful else None

    return convert


def texts(text: pa.StringArray, kind: PgType) -> Converted:
    """Any text as it is; a NUL in one of them, or a length that is limited, is looked at."""
    limited = not kind.array and kind.base in TEXTS and (kind.args or kind.base == "character")
    if limited:
        limit = kind.args[0] if kind.args else 1
        length = pc.utf8_length(text)
        odd = pc.not_equal(length, limit) if kind.base == "character" else pc.greater(length, limit)
        doubtful = _true(odd)
    else:
        doubtful = None
    data = text.buffers()[2]
    if data is not None and not np.frombuffer(data, np.uint8).all():
        nul = _true(pc.match_substring(text, "\0"))
        doubtful = nul if doubtful is None else doubtful | nul
    return text, doubtful


def numerics(kind: PgType) -> Converter:
    """For a column of decimal numbers as JSON writes them."""
    if not kind.args:
        return lambda text: (text, _doubtful_number(text, r"^-?(?:[1-9][0-9]*|0)(?:\.[0-9]+)?$"))
    precision, scale = (*kind.args, 0)[:2]
    if not 0 <= scale < precision <= _ARROW_DIGITS:
        return every_value_doubtful
    decimals = rf"(?:\.[0-9]{{1,{scale}}})?" if scale else ""
    pattern = rf"^-?(?:[1-9][0-9]{{0,{precision - scale - 1}}}|0){decimals}$"
    return lambda text: _padded(text, pattern, scale)


def _padded(text: pa.StringArray, pattern: str, scale: int) -> Converted:
    """Numbers with exactly `scale` decimals."""
    doubtful = _doubtful_number(text, pattern)
    if scale == 0:
        return text, doubtful
    point = np.asarray(pc.find_substring(text, ".").fill_null(0))
    decimals = np.where(point < 0, -1, np.asarray(pc.binary_length(text).fill_null(0)) - point - 1)
    missing = np.where(np.asarray(text.is_null()), 0, np.clip(scale - decimals, 0, scale + 1))
    if not missing.any():
        return text, doubtful
    endings = ["0" * count for count in range(scale + 1)] + ["." + "0" * scale]
    ends = pa.DictionaryArray.from_arrays(pa.array(missing, pa.int32()), pa.array(endings)).cast(pa.string())
    return pc.binary_join_element_wise(text, ends, ""), doubtful


def _integers(text: pa.StringArray, base: str) -> Converted:
    doubtful = _unlike(text, "^(?:-?[1-9][0-9]{0,17}|0)$")
    if base == "bigint":
        return text, doubtful
    low, high = INTEGERS[base]
    known = text if doubtful is None else pc.if_else(pa.array(doubtful), None, text)
    number = known.cast(pa.int64())
    outside = _true(pc.or_(pc.less(number, low), pc.greater(number, high)))
    return text, outside if doubtful is None else doubtful | outside


def _floats(text: pa.StringArray, base: str) -> Converted:
    known, doubtful = _known(text, _NUMBER)
    values = known.cast(pa.float64())
    if base == "real":
        values = values.cast(pa.float32())
    endless = pc.is_inf(values)
    if endless.true_count:
        doubtful = _true(endless) if doubtful is None else doubtful | _true(endless)
    return floats(values), doubtful


def moments(text: pa.StringArray, *, zoned: bool) -> Converted:
    """RFC 3339 with a zone, to UTC, or without one."""
    known, doubtful = _known(text, _ZONED if zoned else _UNZONED)
    target = pa.timestamp("us", "UTC") if zoned else pa.timestamp("us")
    try:
        moment = known.cast(target)
    except pa.ArrowInvalid:  # a February 30: what is left can fail in nothing else
        known, doubtful = _without_late_days(known, doubtful)
        moment = known.cast(target)
    return moment_texts(moment, zoned=zoned), doubtful


def moment_texts(moments: pa.TimestampArray, *, zoned: bool) -> pa.StringArray:
    """Microseconds since 1970 in UTC as Postgres writes them; years 1 to 9999."""
    written = moments.cast(pa.int64()).cast(pa.timestamp("us")).cast(pa.string())  # with a zone the cast is sixty times slower
    written = pc.ascii_rtrim(pc.ascii_rtrim(written, "0"), ".")  # there are six decimals always
    return pc.binary_join_element_wise(written, "+00", "") if zoned else written


def dates(text: pa.StringArray) -> Converted:
    """Days as RFC 3339 writes them."""
    known, doubtful = _known(text, _DATE)
    try:
        known.cast(pa.date32())
    except pa.ArrowInvalid:
        known, doubtful = _without_late_days(known, doubtful)
    return known, doubtful


def times(text: pa.StringArray) -> Converted:
    """Times of day without a zone."""
    known, doubtful = _known(text, f"^{_CLOCK}$")
    has_point = pc.match_substring(known, ".")
    return pc.if_else(has_point, pc.ascii_rtrim(pc.ascii_rtrim(known, "0"), "."), known), doubtful


def uuids(text: pa.StringArray) -> Converted:
    """Upper case becomes lower case."""
    return pc.ascii_lower(text), _unlike(text, _UUID)


def floats(values: pa.Array) -> pa.StringArray:
    """Numbers in the fewest digits that say which they are, and Postgres' words for what is none."""
    text = values.cast(pa.string())
    if pc.all(pc.is_finite(values), min_count=0).as_py():
        return text
    for arrow, word in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
        text = pc.if_else(pc.equal(text, arrow), word, text)
    return text


def booleans(values: pa.BooleanArray) -> pa.StringArray:
    """`t` and `f`."""
    return pc.if_else(values, "t", "f")


def _known(text: pa.StringArray, pattern: str) -> tuple[pa.StringArray, Mask | None]:
    """The values that match, null for the others, and which those are."""
    doubtful = _unlike(text, pattern)
    return (text if doubtful is None else pc.if_else(pa.array(doubtful), None, text)), doubtful


def _without_late_days(known: pa.StringArray, doubtful: Mask | None) -> tuple[pa.StringArray, Mask]:
    late = _true(pc.greater_equal(pc.utf8_slice_codeunits(known, 8, 10), "29"))
    return pc.if_else(pa.array(late), None, known), late if doubtful is None else late | doubtful


def _doubtful_number(text: pa.StringArray, pattern: str) -> Mask | None:
    """Besides what is no such number: a zero with a sign, and so many digits that Postgres has a limit for them."""
    doubtful = _unlike(text, pattern)
    odd = pc.or_(pc.starts_with(text, "-0"), pc.greater(pc.binary_length(text), _MANY_DIGITS))
    if not odd.true_count:
        return doubtful
    odd = pc.or_(pc.match_substring_regex(text, r"^-0(?:\.0*)?$"), pc.greater(pc.binary_length(text), _MANY_DIGITS))
    return _true(odd) if doubtful is None else doubtful | _true(odd)


def _unlike(text: pa.StringArray, pattern: str) -> Mask | None:
    """bool[n] of the values that do not match; None where all do."""
    fits = pc.match_substring_regex(text, pattern)
    return None if fits.false_count == 0 else ~np.asarray(fits.fill_null(True))


def _true(values: pa.BooleanArray) -> Mask:
    return np.asarray(values.fill_null(False))
