"""What a contract promises in its slaProperties, and what can be measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from journal.lengths import Lengths
from quality.report.plot import duration, percent
from quality.service_level import ServiceLevel

DEFAULT_TARGET = 0.99
"""The share of changes that are to be good where a contract does not say."""

_MET, _MISSED, _UNKNOWN, _TOLD = "met", "missed", "unknown", "told"


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a dataset. Lengths of time in seconds, shares of 1; None where nothing is known.

    freshness   age of the newest change; delay: from a commit at the source to the last sink
    complete    share of changes that were not held back or dropped, those among them that were released since
    first_pass  share that passed at once
    detecting   from commit to quarantine, resolving: from quarantine to resolution, of the last 30 days
    """

    freshness: float | None = None
    delay: float | None = None
    complete: float | None = None
    first_pass: float | None = None
    detecting: Lengths = field(default_factory=Lengths)
    resolving: Lengths = field(default_factory=Lengths)


@dataclass(frozen=True, slots=True)
class LevelLine:
    """One promise: what is promised and what was measured, in words, and `state`: met, missed, unknown (yet), or told (not measured)."""

    property: str
    element: str | None
    promised: str
    measured: str
    state: str


def _seconds(promise: ServiceLevel) -> float | None:
    try:
        return promise.seconds()
    except ValueError:
        return None


def _share(promise: ServiceLevel) -> float | None:
    try:
        return promise.share()
    except ValueError:
        return None


def target_of(promises: Sequence[ServiceLevel]) -> tuple[float, bool]:
    """The share of changes that are to be good, and whether the contract says so: its completeness, or what its error rate leaves."""
    for promise in promises:
        name, share = _plain(promise.property), _share(promise)
        if share is not None and name == "completeness":
            return share, True
        if share is not None and name == "errorrate":
            return 1 - share, True
    return DEFAULT_TARGET, False


def freshness_of(promises: Sequence[ServiceLevel]) -> float | None:
    """How old the newest change may be, in seconds, where the contract says so."""
    return next((found for one in promises if _plain(one.property) == "freshness" and (found := _seconds(one))), None)


def delay_of(promises: Sequence[ServiceLevel]) -> float | None:
    """How long a change may take, in seconds, where the contract says so."""
    return next((found for one in promises if _plain(one.property) == "latency" and (found := _seconds(one))), None)


def level_lines(promises: Sequence[ServiceLevel], measured: Measured, now: datetime) -> list[LevelLine]:
    """A line for each promise."""
    return [_line(promise, measured, now) for promise in promises]


def _line(promise: ServiceLevel, measured: Measured, now: datetime) -> LevelLine:
    name = _plain(promise.property)
    lengths = {
        "freshness": (measured.freshness, "the newest change is {} old"),
        "latency": (measured.delay, "{} from the source to the last sink"),
        "timetodetect": _most(measured.detecting),
        "timetorepair": _most(measured.resolving),
        "timetoresolve": _most(measured.resolving),
    }
    written = f"{promise.value} {promise.unit}" if promise.unit else str(promise.value)
    if name in lengths and (limit := _seconds(promise)) is not None:
        found, said = lengths[name]
        return _judged(promise, f"at most {duration(limit)}", None if found is None else said.format(duration(found)), found, limit)
    if name in ("completeness", "errorrate") and (share := _share(promise)) is not None:
        if name == "completeness":
            found = measured.complete
            return _judged(promise, f"at least {_target(share)}", None if found is None else percent(found), found, share, least=True)
        found = None if measured.first_pass is None else 1 - measured.first_pass
        return _judged(promise, f"at most {_target(share)}", None if found is None else percent(found), found, share)
    if name == "retention" and (limit := _seconds(promise)) is not None:
        return LevelLine(promise.property, promise.element, f"at most {duration(limit)}", "then values leave the quarantine", _TOLD)
    if name in ("endofsupport", "endoflife", "generalavailability") and (day := _day(promise.value)) is not None:
        passed = day <= now
        if name == "generalavailability":
            return LevelLine(promise.property, promise.element, f"from {day:%Y-%m-%d}", "since then" if passed else "not yet", _TOLD)
        state = _MISSED if passed else _MET
        return LevelLine(
            promise.property, promise.element, f"not before {day:%Y-%m-%d}", "it has passed" if passed else "it is to come", state
        )
    return LevelLine(promise.property, promise.element, written, "not measured", _TOLD)


def _most(lengths: Lengths) -> tuple[float | None, str]:
    """What has to be within a promise: nearly all, for half of all within it are half of all late."""
    return lengths.p95, f"95 % within {{}}, half within {duration(lengths.median)}"


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
