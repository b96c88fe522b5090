"""Shapes of texts that are known to be read as times, so that Python reads only the others.

Each shape holds nothing but valid times: months with their days, hours to 23, years from 1000. It leaves out the 29th of
February, leap seconds and all that is odd; those are read one by one.
"""

from __future__ import annotations

import re

from quality.kernels.re2_form import Re2Form

Shape = Re2Form

_YEAR = "[1-9][0-9]{3}"
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


ISO_MOMENT = _shape(f"{_YEAR}-{_days(True, '-')}(?:[ T]{_HOUR}:{_SIXTY}(?::{_SIXTY}(?:[.]{_MICROS})?)?{_ZONE}?)?")


def shape_of(pattern: str) -> Shape | None:
    """The shape of texts that strptime reads by a format; None for a format with other parts than numbers of date and time."""
    tokens = re.findall(r"%.|[^%]+", pattern, re.DOTALL)
    if "".join(tokens) != pattern or not pattern.isascii() or "\n" in pattern:
        return None
    body = ""
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if (
            token in ("%m", "%d")
            and at + 2 < len(tokens)
            and {token, tokens[at + 2]} == {"%m", "%d"}
            and not tokens[at + 1].startswith("%")
        ):
            body += _days(token == "%m", _literal(tokens[at + 1]))  # noqa: S105  (a directive, not a password)
            at += 3
            continue
        if token.startswith("%"):
            if token[1] not in _DIRECTIVES or tokens.count(token) > 1:
                return None
            body += _DIRECTIVES[token[1]]
        else:
            body += _literal(token)
        at += 1
    return _shape(body)


def _literal(text: str) -> str:
    return "".join(c if c.isalnum() else rf"\x{ord(c):02x}" for c in text)
