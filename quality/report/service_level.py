"""What a contract promises in its slaProperties, and what can be measured of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quality.report.plot import duration, percent

if TYPE_CHECKING:
    from quality.contract import ServiceLevel

DEFAULT_TARGET = 0.99
"""The share of changes that are to be good where a contract does not say."""

_MET, _MISSED, _UNKNOWN, _TOLD = "met", "missed", "unknown", "told"
_SECONDS = {
    1e-3: ("ms", "millisecond"),
    1.0: ("s", "sec", "second"),
    60.0: ("m", "min", "minute"),
    3600.0: ("h", "hr", "hour"),
    86_400.0: ("d", "day"),
    604_800.0: ("w", "wk", "week"),
    2_629_746.0: ("mo", "month"),
    31_556_952.0: ("y", "yr", "year"),
}
_LENGTHS = {name: size for size, names in _SECONDS.items() for name in names}
_WRITTEN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z%]*)\s*$")


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a dataset. Lengths of time in seconds, shares of 1; None where nothing is known.

    freshness   age of the newest change; delay: from a commit at the source to the last sink
    complete    share of changes that were not held back or dropped, those among them that were released since
    first_pass  share that passed at once
    detect      from commit to quarantine, resolve: from quarantine to resolution, both on average
    """

    freshness: float | None = None
    delay: float | None = None
    complete: float | None = None
    first_pass: float | None = None
    detect: float | None = None
    resolve: float | None = None


@dataclass(frozen=True, slots=True)
class LevelLine:
    """One promise: what is promised and what was measured, in words, and `state`: met, missed, unknown (yet), or told (not measured)."""

    property: str
    element: str | None
    promised: str
    measured: str
    state: str


def seconds_of(value: object, unit: str | None) -> float | None:
    """A length of time: 1 h, or '15 min' with no unit. None for what is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        found = _WRITTEN.match(value)
        if found is None:
            return None
        value, unit = float(found[1]), found[2] or unit
    if not isinstance(value, int | float) or not unit:
        return None
    name = unit.strip().lower()
    size = _LENGTHS.get(name) or _LENGTHS.get(name.removesuffix("s"))
    return None if size is None else float(value) * size


def share_of(value: object, unit: str | None) -> float | None:
    """A share of 1: 99.5 percent, 0.995, or '99.5%'. A bare number above 1 is percent."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        found = _WRITTEN.match(value)
        if found is None:
            return None
        value, unit = float(found[1]), found[2] or unit
    if not isinstance(value, int | float):
        return None
    share = float(value) / 100 if (unit or "").strip().lower() in ("percent", "%", "pct") or value > 1 else float(value)
    return share if 0 <= share <= 1 else None


def target_of(promises: Sequence[ServiceLevel]) -> tuple[float, bool]:
    """The share of changes that are to be good, and whether the contract says so: its completeness, or what its error rate leaves."""
    for promise in promises:
        name, share = _plain(promise.property), share_of(promise.value, promise.unit)
        if share is not None and name == "completeness":
            return share, True
        if share is not None and name == "errorrate":
            return 1 - share, True
    return DEFAULT_TARGET, False


def freshness_of(promises: Sequence[ServiceLevel]) -> float | None:
    """How old the newest change may be, in seconds, where the contract says so."""
    return next((found for one in promises if _plain(one.property) == "freshness" and (found := seconds_of(one.value, one.unit))), None)


def delay_of(promises: Sequence[ServiceLevel]) -> float | None:
    """How long a change may take, in seconds, where the contract says so."""
    return next((found for one in promises if _plain(one.property) == "latency" and (found := seconds_of(one.value, one.unit))), None)


def level_lines(promises: Sequence[ServiceLevel], measured: Measured, now: datetime) -> list[LevelLine]:
    """A line for each promise."""
    return [_line(promise, measured, now) for promise in promises]


def _line(promise: ServiceLevel, measured: Measured, now: datetime) -> LevelLine:
    name = _plain(promise.property)
    lengths = {
        "freshness": (measured.freshness, "the newest change is {} old"),
        "latency": (measured.delay, "{} from the source to the last sink"),
        "timetodetect": (measured.detect, "{} on average"),
        "timetorepair": (measured.resolve, "{} on average"),
        "timetoresolve": (measured.resolve, "{} on average"),
    }
    written = f"{promise.value} {promise.unit}" if promise.unit else str(promise.value)
    if name in lengths and (limit := seconds_of(promise.value, promise.unit)) is not None:
        found, said = lengths[name]
        return _judged(promise, f"at most {duration(limit)}", None if found is None else said.format(duration(found)), found, limit)
    if name in ("completeness", "errorrate") and (share := share_of(promise.value, promise.unit)) is not None:
        if name == "completeness":
            found = measured.complete
            return _judged(promise, f"at least {_target(share)}", None if found is None else percent(found), found, share, least=True)
        found = None if measured.first_pass is None else 1 - measured.first_pass
        return _judged(promise, f"at most {_target(share)}", None if found is None else percent(found), found, share)
    if name in ("endofsupport", "endoflife", "generalavailability") and (day := _day(promise.value)) is not None:
        passed = day <= now
        if name == "generalavailability":
            return LevelLine(promise.property, promise.element, f"from {day:%Y-%m-%d}", "since then" if passed else "not yet", _TOLD)
        state = _MISSED if passed else _MET
        return LevelLine(promise.property, promise.element, f"not before {day:%Y-%m-%d}", "it has passed" if passed else "it is to come", state)
    return LevelLine(promise.property, promise.element, written, "not measured", _TOLD)


def _judged(promise: ServiceLevel, promised: str, said: str | None, found: float | None, limit: float, *, least: bool = False) -> LevelLine:
    if found is None or said is None:
        return LevelLine(promise.property, promise.element, promised, "nothing is known yet", _UNKNOWN)
    met = found >= limit if least else found <= limit
    return LevelLine(promise.property, promise.element, promised, said, _MET if met else _MISSED)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _target(share: float) -> str:
    return f"{share * 100:.6g} %"


def _day(value: object) -> datetime | None:
    try:
        day = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return day if day.tzinfo else day.replace(tzinfo=UTC)
