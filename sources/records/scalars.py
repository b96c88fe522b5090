"""One value at a time: how the text that a message holds for a Postgres type becomes Postgres' own text, or why it cannot.

This is what decides. The columns of a batch are read by faster means (`columns.py`), and every value that these are not sure of
comes here. `written` is the text as the message has it: a string's characters, or a number's digits.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache

import pyarrow as pa

from journal.types import PgType, parse_type

INTEGERS = {"smallint": (-(2**15), 2**15 - 1), "integer": (-(2**31), 2**31 - 1), "bigint": (-(2**63), 2**63 - 1), "oid": (0, 2**32 - 1)}
FLOATS = {"real": 3.4028235677973366e38, "double precision": 1.7976931348623158e308}
TEXTS = {"text", "character varying", "character"}
JSONS = {"json", "jsonb"}

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_DATE = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_CLOCK = r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
_ZONE = r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
_LOOSE_ZONE = r"([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)"
_MOMENT = re.compile(rf"{_DATE}[Tt ]{_CLOCK}{_ZONE}?")
_LOOSE_MOMENT = re.compile(rf"{_DATE}[Tt ]{_CLOCK}{_LOOSE_ZONE}?")
_DAY = re.compile(_DATE)
_TIME = re.compile(_CLOCK)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGITS_BEFORE, _DIGITS_AFTER = 131072, 16383  # of a numeric: https://www.postgresql.org/docs/current/datatype-numeric.html

Reader = Callable[[str], str]


class Unfit(ValueError):  # noqa: N818  (reads as what it says of a value)
    """A value that its type does not hold; the message says why, to the owner of the data."""


@lru_cache(maxsize=4096)
def scalar_reader(kind: PgType, *, loose: bool = False) -> Reader:
    """What reads the text of one value of a type; it raises Unfit.

    `loose` is for formats that have only text, such as csv: zones as Postgres writes them (+00), t and f.
    """
    if kind.array or kind.base in JSONS:
        return plain_text
    match kind.base:
        case base if base in INTEGERS:
            low, high = INTEGERS[base]
            return lambda written: integer_text(written, base, low, high)
        case base if base in FLOATS:
            return lambda written: float_text(written, base)
        case "numeric":
            return lambda written: numeric_text(written, kind)
        case "boolean":
            return _loose_boolean if loose else boolean_text
        case "timestamp with time zone":
            return lambda written: moment_text(written, zoned=True, loose=loose)
        case "timestamp without time zone":
            return lambda written: moment_text(written, zoned=False, loose=loose)
        case "date":
            return date_text
        case "time without time zone":
            return time_text
        case "uuid":
            return uuid_text
        case "bytea":
            return bytea_text
        case "character varying" | "character":
            return lambda written: limited_text(written, kind)
    return plain_text


def integer_text(written: str, base: str, low: int, high: int) -> str:
    """A whole number in the range of its type; `5.0` and `1e3` are none."""
    if not _INTEGER.fullmatch(written):
        raise Unfit(f"expected {base}, got {shown(written)}")
    if len(written) > 20 or not low <= int(written) <= high:
        raise Unfit(f"{shown(written)} is out of range for {base}")
    return "0" if written == "-0" else written


def numeric_text(written: str, kind: PgType) -> str:
    """Every digit as it is written, without an exponent; with a scale as many decimals as that. Never rounded."""
    found = _NUMBER.fullmatch(written)
    if found is None:
        raise Unfit(f"expected {kind}, got {shown(written)}")
    sign, whole, fraction, exponent = found[1], found[2], found[3] or "", found[4] or "0"
    if len(exponent) > 7 or abs(int(exponent)) > _DIGITS_BEFORE or len(written) > 2 * _DIGITS_BEFORE:
        raise Unfit(f"{shown(written)} is out of range for {kind}")
    whole, fraction = _shifted(whole, fraction, int(exponent))
    if kind.args:
        whole, fraction = _fitted(written, whole, fraction, kind)
    if len(whole) > _DIGITS_BEFORE or len(fraction) > _DIGITS_AFTER:
        raise Unfit(f"{shown(written)} is out of range for {kind}")
    if not (whole + fraction).strip("0"):
        sign = ""
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def _shifted(whole: str, fraction: str, exponent: int) -> tuple[str, str]:
    """The digits with the point moved by the exponent."""
    if exponent >= 0:
        moved = fraction[:exponent].ljust(exponent, "0") if exponent else ""
        whole, fraction = whole + moved, fraction[exponent:]
    else:
        padded = whole.rjust(-exponent + 1, "0")
        whole, fraction = padded[:exponent], padded[exponent:] + fraction
    return whole.lstrip("0") or "0", fraction


def _fitted(written: str, whole: str, fraction: str, kind: PgType) -> tuple[str, str]:
    """The digits with exactly the decimals of the type."""
    precision, scale = (*kind.args, 0)[:2]
    rest = fraction[max(scale, 0) :].strip("0")
    cut = whole[scale:] if scale < 0 else ""
    if rest or cut.strip("0"):
        raise Unfit(f"{shown(written)} has more decimals than {kind} holds")
    fraction = fraction[: max(scale, 0)].ljust(max(scale, 0), "0")
    significant = (whole[:scale] if scale < 0 else whole + fraction).lstrip("0")
    if len(significant) > precision:
        raise Unfit(f"{shown(written)} is out of range for {kind}")
    return whole, fraction


def float_text(written: str, base: str) -> str:
    """The nearest number that the type holds, in the fewest digits that say which."""
    if not _NUMBER.fullmatch(written):
        raise Unfit(f"expected {base}, got {shown(written)}")
    value = float(written)
    if not abs(value) < FLOATS[base]:
        raise Unfit(f"{shown(written)} is out of range for {base}")
    return floating(value, base)


def floating(value: float, base: str) -> str:
    """As columns of floats are written: the fewest digits that say which it is."""
    text: str = pa.array([value], pa.float32() if base == "real" else pa.float64()).cast(pa.string())[0].as_py()
    return text


def boolean_text(written: str) -> str:
    """`t` or `f` for true and false."""
    if written not in ("true", "false"):
        raise Unfit(f"expected boolean, got {shown(written)}")
    return written[0]


def _loose_boolean(written: str) -> str:
    lower = written.lower()
    if lower not in ("true", "false", "t", "f"):
        raise Unfit(f"expected boolean, got {shown(written)}")
    return lower[0]


def moment_text(written: str, *, zoned: bool, loose: bool = False) -> str:
    """RFC 3339; a timestamp with time zone needs one, and a timestamp without must have none."""
    kind = "timestamp with time zone" if zoned else "timestamp without time zone"
    found = (_LOOSE_MOMENT if loose else _MOMENT).fullmatch(written)
    if found is None:
        raise Unfit(f"expected {kind} (RFC 3339), got {shown(written)}")
    zone = found[8]
    if zoned and zone is None:
        raise Unfit(f"{shown(written)} has no time zone")
    if not zoned and zone is not None:
        raise Unfit(f"{shown(written)} has a time zone, which {kind} does not hold")
    micros = _micros(found[7], written)
    leap = int(found[6] == "60")  # the second that RFC 3339 allows and Postgres counts as the next minute's first
    try:
        year, month, day, hour, minute, second = (int(found[part]) for part in range(1, 7))
        moment = datetime(year, month, day, hour, minute, second - leap, micros) + timedelta(seconds=leap)
        if zone is not None:
            moment = moment.replace(tzinfo=_offset(zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Unfit(f"{shown(written)} is no moment that there is") from error
    return _clocked(f"{moment.year:04}-{moment:%m-%d %H:%M:%S}", moment.microsecond) + ("+00" if zoned else "")


def date_text(written: str) -> str:
    """A day as RFC 3339 writes it."""
    found = _DAY.fullmatch(written)
    try:
        if found is not None:
            return date(int(found[1]), int(found[2]), int(found[3])).isoformat()
    except ValueError:
        pass  # no such day, which is said below
    raise Unfit(f"expected date (YYYY-MM-DD), got {shown(written)}")


def time_text(written: str) -> str:
    """A time of day without zone; 24:00:00 is the end of the day, as in Postgres."""
    found = _TIME.fullmatch(written)
    if found is None or int(found[2]) > 59 or int(found[3]) > 59 or (int(found[1]) > 23 and not written.startswith("24:00:00")):
        raise Unfit(f"expected time (HH:MM:SS), got {shown(written)}")
    micros = _micros(found[4], written)
    if found[1] == "24" and micros:
        raise Unfit(f"expected time (HH:MM:SS), got {shown(written)}")
    return _clocked(written[:8], micros)


def _micros(fraction: str | None, written: str) -> int:
    if fraction is None:
        return 0
    if fraction[6:].strip("0"):
        raise Unfit(f"{shown(written)} is finer than a microsecond, which would have to be rounded")
    return int(fraction[:6].ljust(6, "0"))


def _clocked(seconds: str, micros: int) -> str:
    return f"{seconds}.{micros:06}".rstrip("0") if micros else seconds


def _offset(zone: str) -> timezone:
    if zone in "Zz":
        return UTC
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError("no such offset")
    return timezone((-1 if zone[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))


def uuid_text(written: str) -> str:
    """The 36 characters of RFC 9562, in lower case."""
    if not _UUID.fullmatch(written):
        raise Unfit(f"expected uuid, got {shown(written)}")
    return written.lower()


def bytea_text(written: str) -> str:
    """Base64 with its padding, to Postgres' hexadecimal form."""
    try:
        return "\\x" + base64.b64decode(written.encode("ascii"), validate=True).hex()
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Unfit(f"expected bytea (base64), got {shown(written)}") from error


def plain_text(written: str) -> str:
    """Any text without a NUL, which Postgres cannot hold."""
    if "\0" in written:
        raise Unfit("holds a NUL character, which no text in Postgres can")
    return written


def limited_text(written: str, kind: PgType) -> str:
    """A text of at most so many characters; character(n) is padded with blanks."""
    limit = kind.args[0] if kind.args else (1 if kind.base == "character" else None)
    if limit is not None and len(written) > limit:
        raise Unfit(f"has {len(written)} characters, more than {kind} holds")
    return plain_text(written.ljust(limit) if limit is not None and kind.base == "character" else written)


def shown(written: str, limit: int = 80) -> str:
    """A value for a reason: short, and in one line."""
    return repr(written if len(written) <= limit else written[:limit] + "…")


def pg_type(text: str) -> PgType:
    """A type by the words for it; one of an extension that is not written like Postgres' own is text to us."""
    try:
        return parse_type(text)
    except ValueError:
        return PgType("text")
