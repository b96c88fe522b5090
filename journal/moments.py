"""Dates and timestamps that Arrow does not read: infinity, years before Christ, years of more than four digits.

Whole columns at once: a table of validity ranges has `infinity` in every second row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]

INFINITY = 2**63 - 1  # of timestamps in DuckDB, in microseconds; the negative one is -INFINITY
DATE_INFINITY = 2**31 - 1  # of dates, in days

_DAY = 86_400_000_000  # microseconds
_PLAIN_DATE = r"^\d{4}-\d\d-\d\d$"
_PLAIN_TIMESTAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?([+-]\d\d(:?\d\d)?)?$"
_WRITTEN = (
    r"^(?P<year>\d{4,7})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?: (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?"
    r"(?:(?P<sign>[+-])(?P<zone_hour>\d\d)(?::?(?P<zone_minute>\d\d))?)?(?P<bc> BC)?$"
)
_MONTHS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def parse_moments(text: pa.StringArray, target: pa.DataType) -> tuple[pa.Array, Mask]:
    """Postgres' text of dates or timestamps as `target` (date32 or timestamp(us)), and bool[n] of those which it does not hold.

    Infinity becomes the largest value, as in DuckDB.
    """
    dates = pa.types.is_date(target)
    storage = np.zeros(len(text), np.int64)
    plain = _true(pc.match_substring_regex(text, _PLAIN_DATE if dates else _PLAIN_TIMESTAMP))
    plain_values = pc.if_else(pa.array(plain), text, None)
    try:
        values = plain_values.cast(target)
    except pa.ArrowInvalid:  # a thirteenth month, a year 0: Postgres does not write such, but others may
        plain[:] = False
    else:
        storage[plain] = np.asarray(values.cast(pa.int32() if dates else pa.int64()).filter(pa.array(plain)))
    largest = DATE_INFINITY if dates else INFINITY
    positive, negative = _true(pc.equal(text, "infinity")), _true(pc.equal(text, "-infinity"))
    storage[positive], storage[negative] = largest, -largest
    rest = np.flatnonzero(~plain & ~positive & ~negative & np.asarray(text.is_valid()))
    malformed = np.zeros(len(text), np.bool_)
    if len(rest):
        storage[rest], malformed[rest] = _computed(text.take(pa.array(rest)), dates)
    null = malformed | np.asarray(text.is_null())
    return pa.array(storage, pa.int64(), mask=null).cast(pa.int32() if dates else pa.int64()).cast(target), malformed


def _computed(text: pa.StringArray, dates: bool) -> tuple[Longs, Mask]:
    """Days or microseconds since 1970 UTC of each text, and which of them are no moment or do not fit."""
    found = pc.extract_regex(text, _WRITTEN)
    bad = np.asarray(found.is_null())

    def number(name: str) -> Longs:
        part = pc.struct_field(found, name)
        return np.asarray(pc.if_else(pc.equal(part, ""), "0", part).fill_null("0").cast(pa.int64()))

    def has(name: str, value: str) -> Mask:
        return _true(pc.equal(pc.struct_field(found, name), value))

    written, month, day = number("year"), number("month"), number("day")
    bad |= (written < 1) | (month < 1) | (month > 12) | (day < 1)
    year = np.where(has("bc", " BC"), 1 - written, written)  # 1 BC is the year 0 of astronomers
    month = np.clip(month, 1, 12)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    bad |= day > _MONTHS[month - 1] + (leap & (month == 2))
    days = _days(year, month, day)
    if dates:
        bad |= ~has("hour", "") | ~has("sign", "") | (np.abs(days) >= DATE_INFINITY)
        return days, bad
    clock = (number("hour") * 60 + number("minute")) * 60 + number("second")
    bad |= (number("hour") > 23) | (number("minute") > 59) | (number("second") > 59)
    micros = number("fraction") * 10 ** (6 - np.clip(np.asarray(pc.binary_length(pc.struct_field(found, "fraction")).fill_null(0)), 0, 6))
    ahead = (number("zone_hour") * 60 + number("zone_minute")) * 60 * np.where(has("sign", "-"), -1, 1)
    rest = (clock - ahead) * 1_000_000 + np.where(has("fraction", ""), 0, micros)
    days, rest = days + rest // _DAY, rest % _DAY
    limit = INFINITY // _DAY
    bad |= (np.abs(days) > limit) | ((days == limit) & (rest >= INFINITY - limit * _DAY))
    return np.where(bad, 0, days) * _DAY + np.where(bad, 0, rest), bad


def _days(year: Longs, month: Longs, day: Longs) -> Longs:
    """Days since 1970-01-01 in the proleptic Gregorian calendar: years that begin in March, in eras of 400 years."""
    shifted = year - (month <= 2)
    era, of_era = shifted // 400, shifted % 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days: Longs = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + day_of_year - 719_468
    return days


def _true(answer: pa.BooleanArray) -> Mask:
    return np.asarray(answer.fill_null(False))
