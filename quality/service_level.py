"""What an owner promises of a dataset as a whole (`slaProperties`), in seconds and shares."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_DAY = 86_400.0
_UNITS = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "d": _DAY,
    "day": _DAY,
    "w": 7 * _DAY,
    "week": 7 * _DAY,
    "mo": 30 * _DAY,
    "month": 30 * _DAY,
    "y": 365 * _DAY,
    "yr": 365 * _DAY,
    "year": 365 * _DAY,
}
_ISO = re.compile(
    r"P(?:(?P<y>\d+)Y)?(?:(?P<mo>\d+)M)?(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?"
    r"(?:T(?:(?P<h>\d+)H)?(?:(?P<min>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
"""ISO 8601's durations. A year counts as 365 days, a month as 30."""
_WRITTEN = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-z%]*)")

SHARES = ("completeness",)
HEEDED = ("freshness", "latency", "retention", *SHARES)
"""Promises that something comes of: what they say has to be understood."""


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """One promise of the service level, such as freshness 24 h."""

    property: str
    value: object
    unit: str | None = None
    element: str | None = None
    line: int = 0

    def seconds(self) -> float:
        """A duration: a number with its unit (here or in `unit`), or as ISO 8601 writes it. Raises ValueError for anything else."""
        text = str(self.value).strip()
        iso = _ISO.fullmatch(text.upper())
        if iso is not None and any(iso.groups()):
            return sum(float(number) * _UNITS[unit] for unit, number in iso.groupdict().items() if number)
        number, unit = self._written(text)
        length = _UNITS.get(unit.lower()) or _UNITS.get(unit.lower().removesuffix("s"))
        if length is None:
            raise ValueError(f"{self.property} {text!r} has no unit of time" if not unit else f"{self.property} has no unit {unit!r}")
        return number * length

    def share(self) -> float:
        """A part of the whole, 0 to 1: a number up to 1, or a percentage. Raises ValueError for anything else."""
        number, unit = self._written(str(self.value).strip())
        share = number / 100 if unit.lower() in ("%", "percent") or number > 1 else number
        if (unit and unit.lower() not in ("%", "percent")) or not 0 <= share <= 1:
            raise ValueError(f"{self.property} {self.value!r} is no share")
        return share

    def _written(self, text: str) -> tuple[float, str]:
        found = None if isinstance(self.value, bool) else _WRITTEN.fullmatch(text)
        if found is None or not math.isfinite(float(found["number"])):
            raise ValueError(f"{self.property} cannot be {self.value!r}")
        return float(found["number"]), found["unit"] or (self.unit or "").strip()
