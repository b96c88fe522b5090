"""Shapes of texts that are known to be read as times, so that Python reads only the others.

Each shape holds nothing but valid times: months with their days, hours to 23, years from 1000. It leaves out the 29th of
February where no year is beside it, leap seconds and all that is odd; those are read one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from quality.kernels.re2_form import Re2Form

Shape = Re2Form

_YEAR = "[1-9][0-9]{3}"
_LEAP_YEAR = "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|1[26]|[3579][26])00)"
_MONTH = "(?:0[1-9]|1[0-2])"
_DAY = "(?:0[1-9]|1[0-9]|2[0-8])"  # every month has it
_HOUR, _SIXTY, _MICROS = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]", "[0-9]{1,6}"
_ZONE = "(?:Z|[+-](?:0[0-9]|1[0-3]):?(?:00|15|30|45))"

_DIRECTIVES = {
    "Y": _YEAR,
    "m": _MONTH,
    "d": _DAY,
    "H": _HOUR,
    "M": _SIXTY,
    "S": _SIXTY,
    "f": _MICROS,
    "y": "[0-9]{2}",
    "z": _ZONE,
    "%": "%",
}


def _days(month_first: bool, between: str) -> str:
    """A month and its day, in either order, with a literal between them."""
    kinds = (
        (_MONTH, _DAY),
        ("(?:0[13-9]|1[0-2])", "(?:29|30)"),
        ("(?:0[13578]|1[02])", "31"),
    )
    return "(?:" + "|".join(between.join((month, day) if month_first else (day, month)) for month, day in kinds) + ")"


def _shape(body: str) -> Shape:
    return Shape(rf"\A(?:{body})\z", body)


ISO_MOMENT = _shape(f"(?:{_YEAR}-{_days(True, '-')}|{_LEAP_YEAR}-02-29)(?:[ T]{_HOUR}:{_SIXTY}(?::{_SIXTY}(?:[.]{_MICROS})?)?{_ZONE}?)?")


def shape_of(pattern: str) -> Shape | None:
    """The shape of texts that strptime reads by a format; None for a format with other parts than numbers of date and time."""
    if not pattern.isascii() or "\n" in pattern:
        return None
    found = re.search(r"%m([^%]*)%d|%d([^%]*)%m", pattern)
    parts = [pattern] if found is None else [pattern[: found.start()], pattern[found.end() :]]
    seen = re.findall("%.", pattern)
    written = [_part(part, _DIRECTIVES) for part in parts]
    if None in written or len(set(seen)) < len(seen):
        return None
    if found is None:
        return _shape(str(written[0]))
    month_first = found[1] is not None
    between = _literal(found[1] if month_first else found[2])
    body = _days(month_first, between).join(map(str, written))
    if "%Y" in pattern:
        leap_day = between.join(("02", "29") if month_first else ("29", "02"))
        body += "|" + leap_day.join(str(_part(part, {**_DIRECTIVES, "Y": _LEAP_YEAR})) for part in parts)
    return _shape(body)


def _part(pattern: str, directives: Mapping[str, str]) -> str | None:
    """The shape of directives that have nothing to do with one another."""
    written = ""
    for token in re.findall(r"%.?|[^%]+", pattern):
        if not token.startswith("%"):
            written += _literal(token)
        elif token[1:] in directives:
            written += directives[token[1:]]
        else:
            return None
    return written


def _literal(text: str) -> str:
    return "".join(c if c.isalnum() else rf"\x{ord(c):02x}" for c in text)
