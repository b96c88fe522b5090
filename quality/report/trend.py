"""What happened when: numbers of a dataset by stretches of time, and the width of these that suits how much there is to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

_MOST = 60
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_WIDTHS = (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 3 * _HOUR, 12 * _HOUR, _DAY, 7 * _DAY)
LONGEST = 90 * _DAY
"""Seconds that a chart looks back at most."""


@dataclass(frozen=True, slots=True)
class Stretches:
    """Equal stretches of time: from `first` (seconds since 1970, a multiple of `width`), `number` of them, the last not over yet."""

    first: int
    width: int
    number: int

    @classmethod
    def over(cls, begun: float | None, now: float) -> Stretches:
        """As narrow as they can be without becoming too many, back to `begun` or as far as charts go."""
        begin = now if begun is None else min(max(begun, now - LONGEST), now)
        width = next((width for width in _WIDTHS if now // width - begin // width < _MOST), _WIDTHS[-1])
        first = int(begin // width) * width
        return cls(first, width, int(now // width) - first // width + 1)

    def place(self, at: float) -> int | None:
        """Which of them a moment is in, if any."""
        place = int((at - self.first) // self.width)
        return place if 0 <= place < self.number else None

    @property
    def starts(self) -> list[datetime]:
        """When each begins."""
        return [datetime.fromtimestamp(self.first + place * self.width, UTC) for place in range(self.number)]

    @property
    def word(self) -> str:
        """What one of them is called."""
        names = {60: "minute", 300: "5 minutes", 900: "15 minutes", 3600: "hour", 10_800: "3 hours", 43_200: "12 hours", 86_400: "day"}
        return names.get(self.width, "week")


@dataclass(frozen=True, slots=True)
class Moment:
    """One stretch of time. Lengths of time are in seconds; None where nothing is known.

    refused      changes that the contract let pass and single sinks refused; by_sink: records by the sink that refused them
    released     records that came out of quarantine into the sinks
    entered      records that went into quarantine; left: those that were resolved, superseded or discarded
    open         records that waited at its end; oldest: how long the one that waited longest had done so
    freshness    age of the newest change, delay: between a commit at the source and the last sink, both at their worst
    detect       from commit to quarantine, resolve: from quarantine to resolution: what half took at most, and (p95) 95 of 100
    budget       what was left of the error budget at its end, of 1
    """

    start: datetime
    rows: int = 0
    quarantined: int = 0
    dropped: int = 0
    released: int = 0
    entered: int = 0
    left: int = 0
    open: int | None = None
    oldest: float | None = None
    freshness: float | None = None
    delay: float | None = None
    detect: float | None = None
    detect_p95: float | None = None
    resolve: float | None = None
    resolve_p95: float | None = None
    budget: float | None = None
    refused: int = 0
    by_sink: Mapping[str, int] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        """Changes that did not reach every sink at once."""
        return self.quarantined + self.dropped + self.refused

    @property
    def success(self) -> float | None:
        """The share of changes that passed at once."""
        return None if self.rows <= 0 else max(0.0, 1 - self.bad / self.rows)


@dataclass(frozen=True, slots=True)
class Trend:
    """Moments in order, each `width` seconds (`word`) long."""

    width: int = 60
    word: str = "minute"
    moments: Sequence[Moment] = ()
