"""The arguments of one expectation, read and checked as Great Expectations reads them.

Its models are pydantic's (version 1): a number may be written as text, a flag as yes or no, nothing unknown is allowed. A suite
parameter has no value here and is refused; so is what Great Expectations would silently round or cut.
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
import re
from collections.abc import Mapping, Sequence

from quality.kernels.errors import BadExpectation

Bound = float | dt.date | dt.datetime

_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})
_FALSE = frozenset({"0", "off", "f", "false", "n", "no"})
_DATE = re.compile(r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})", re.ASCII)
_MOMENT = re.compile(
    _DATE.pattern
    + r"[T ](?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:\.(?P<micro>\d{1,6})\d{0,6})?)?"
    + r"(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)?",
    re.ASCII,
)
_FORMATS = ("BOOLEAN_ONLY", "BASIC", "SUMMARY", "COMPLETE")


class Arguments:
    """What a contract gives to one expectation. Each reader checks one argument; `finish` refuses what nobody read.

    All readers raise BadExpectation.
    """

    def __init__(self, kind: str, given: Mapping[str, object]) -> None:
        self.kind = kind
        self._given = given
        self._read: set[str] = set()

    def get(self, name: str) -> object:
        """The value as it was given, or None."""
        self._read.add(name)
        value = self._given.get(name)
        if isinstance(value, Mapping) and "$PARAMETER" in value:
            raise BadExpectation(f"{name} is a suite parameter, which has no value here", name, hint="write the value itself")
        return value

    def given(self, name: str) -> bool:
        return name in self._given

    def fail(self, name: str, what: str) -> BadExpectation:
        return BadExpectation(f"{name} {what}, not {_shown(self._given.get(name))}", name)

    def _need(self, name: str) -> object:
        value = self.get(name)
        if value is None:
            if name in self._given:
                raise BadExpectation(f"{name} must have a value", name)
            close = difflib.get_close_matches(name, [str(key) for key in self._given], n=1)
            raise BadExpectation(f"{self.kind} needs {name}", name, hint=f"{close[0]} is not one of its arguments" if close else None)
        return value

    def column(self, name: str = "column") -> str:
        value = self._need(name)
        if not isinstance(value, str) or not value:
            raise self.fail(name, "must be the name of a column")
        return value

    def columns(self, name: str = "column_list") -> tuple[str, ...]:
        """At least two names of columns."""
        value = self._need(name)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
            raise self.fail(name, "must be a list of names of columns")
        if len(value) < 2:
            raise self.fail(name, "must name at least two columns")
        return tuple(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.get(name)
        return default if value is None else self._flag(name, value)

    def needed_flag(self, name: str) -> bool:
        return self._flag(name, self._need(name))

    def _flag(self, name: str, value: object) -> bool:
        if isinstance(value, (bool, int)) and value in (0, 1):
            return bool(value)
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        raise self.fail(name, "must be true or false")

    def number(self, name: str, *, least: float = -math.inf, most: float = math.inf) -> float | None:
        value = self.get(name)
        return None if value is None else self._number(name, value, least, most)

    def needed_number(self, name: str, *, least: float = -math.inf, most: float = math.inf) -> float:
        return self._number(name, self._need(name), least, most)

    def _number(self, name: str, value: object, least: float, most: float) -> float:
        number = _float(value)
        if number is None:
            raise self.fail(name, "must be a number")
        if number < least or number > most:
            raise self.fail(name, f"must be between {least:g} and {most:g}" if most < math.inf else f"must be at least {least:g}")
        return number

    def whole(self, name: str) -> int | None:
        value = self.get(name)
        return None if value is None else self._whole(name, value)

    def needed_whole(self, name: str) -> int:
        return self._whole(name, self._need(name))

    def _whole(self, name: str, value: object) -> int:
        if isinstance(value, int):
            return int(value)
        number = _float(value)
        if number is None or not number.is_integer():
            raise self.fail(name, "must be a whole number")
        return int(value) if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value) else int(number)

    def bound(self, name: str) -> Bound | None:
        """A number, a date or a time; text is read as the first of these that it can be."""
        value = self.get(name)
        if value is None or isinstance(value, (dt.date, dt.datetime)):
            return value
        number = _float(value)
        if number is not None:
            return number
        if isinstance(value, str):
            try:
                return _moment(value)
            except ValueError:
                pass
        raise self.fail(name, "must be a number, a date or a time (2024-01-31, 2024-01-31T12:00:00)")

    def text(self, name: str) -> str:
        value = self._need(name)
        if not isinstance(value, str):
            raise self.fail(name, "must be text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """One text or more."""
        value = self._need(name)
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(item, str) for item in value):
            raise self.fail(name, "must be a list of at least one text")
        return tuple(value)

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        value = self.get(name) if self.given(name) else default
        if not isinstance(value, str) or value not in options:
            raise self.fail(name, f"must be one of {', '.join(options)}")
        return value

    def values(self, name: str = "value_set") -> list[object]:
        """Any list of values."""
        value = self._need(name)
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise self.fail(name, "must be a list of values")
        return list(value)

    def mapping(self, name: str) -> Mapping[str, object]:
        value = self._need(name)
        if not isinstance(value, Mapping):
            raise self.fail(name, "must be a mapping")
        return value

    def mostly(self) -> float:
        """The share of the rows that must pass: 1 unless said."""
        self._read.add("mostly")
        return self.needed_number("mostly", least=0.0, most=1.0) if self.given("mostly") else 1.0

    def ordered(self, name_of_least: str, least: object, name_of_most: str, most: object) -> None:
        """Refuses two bounds that do not compare, or whose order is wrong."""
        if least is None or most is None:
            return
        try:
            crossed = bool(least > most)  # type: ignore[operator]  # what does not compare is what is asked
        except TypeError as error:
            raise BadExpectation(f"{name_of_least} and {name_of_most} cannot be compared with one another", name_of_most) from error
        if crossed:
            raise BadExpectation(f"{name_of_least} cannot be greater than {name_of_most}", name_of_least)

    def finish(self) -> None:
        """Checks what every expectation takes and does not change a verdict, and refuses what this one does not take."""
        self.flag("catch_exceptions")
        self._check("severity", lambda value: value in ("critical", "warning", "info"), "must be critical, warning or info")
        self._check("meta", lambda value: isinstance(value, Mapping), "must be a mapping")
        self._check("notes", lambda value: isinstance(value, (str, list)), "must be text, or a list of texts")
        for name in ("id", "description", "batch_id"):
            self._check(name, lambda value: isinstance(value, str), "must be text")
        self._check("result_format", _is_format, f"must be one of {', '.join(_FORMATS)}")
        self._check("windows", lambda value: isinstance(value, list), "must be a list")
        self._check("rendered_content", lambda value: isinstance(value, list), "must be a list")
        for name in self._given:
            if name not in self._read:
                own = sorted(
                    self._read - {"id", "meta", "notes", "description", "batch_id", "windows", "rendered_content", "result_format"}
                )
                close = difflib.get_close_matches(str(name), own, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(own)}"
                raise BadExpectation(f"{self.kind} has no argument {name}", str(name), hint=hint)

    def _check(self, name: str, suits: object, what: str) -> None:
        value = self.get(name)
        if value is not None and callable(suits) and not suits(value):
            raise self.fail(name, what)


def _is_format(value: object) -> bool:
    return value in _FORMATS if isinstance(value, str) else isinstance(value, Mapping) and value.get("result_format") in _FORMATS


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _float(value: object) -> float | None:
    if not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _moment(text: str) -> dt.date | dt.datetime:
    found = _DATE.fullmatch(text)
    if found is not None:
        return dt.date(int(found["year"]), int(found["month"]), int(found["day"]))
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    zone: dt.tzinfo | None = None
    if found["zone"]:
        digits = found["zone"].lstrip("+-").replace(":", "")
        away = dt.timedelta() if digits == "Z" else dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
        zone = dt.timezone(-away if found["zone"][0] == "-" else away)
    micro = int((found["micro"] or "").ljust(6, "0") or 0)
    day = dt.date(int(found["year"]), int(found["month"]), int(found["day"]))
    return dt.datetime.combine(day, dt.time(int(found["hour"]), int(found["minute"]), int(found["second"] or 0), micro), zone)
