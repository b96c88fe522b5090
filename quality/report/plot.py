"""What all charts share: the frame they are drawn in, scales with round numbers, and how numbers and times are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

Value = float | None
"""A number of a chart; None, and what is not finite, is a gap."""

WIDTH, HEIGHT = 360, 168
LEFT, RIGHT, TOP, BOTTOM = 46, WIDTH - 12, 12, HEIGHT - 24
"""The edges of what is drawn; axes stand outside."""
_LARGEST = 1e18
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Scale:
    """From numbers between `low` and `high` to places between `first` and `last`; what lies outside is drawn at the edge."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        if self.high <= self.low:
            return (self.first + self.last) / 2
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 1)


def known(values: Iterable[Value]) -> list[float]:
    """The values that can be drawn."""
    return [value for value in values if value is not None and shown(value)]


def shown(value: Value) -> bool:
    """Whether a value can be drawn: it is a number, and not beyond anything that is counted or timed here."""
    return value is not None and abs(value) <= _LARGEST  # neither infinite nor NaN


def ticks(low: float, high: float, about: int = 3) -> list[float]:
    """Round numbers that reach from `low` or below to `high` or above."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):
        high = low + max(abs(low), 1.0)
    rough = (high - low) / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * one for one in _STEPS if size * one >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def y_scale(marks: Sequence[float]) -> Scale:
    """The scale of the numbers, upwards."""
    return Scale(marks[0], marks[-1], BOTTOM, TOP)


def x_scale(number: int) -> Scale:
    """The scale of `number` moments: the middles of as many columns."""
    half = column_width(number) / 2
    return Scale(0, max(number - 1, 0), LEFT + half, RIGHT - half)


def column_width(number: int) -> float:
    """How wide the column of one of so many moments is."""
    return (RIGHT - LEFT) / max(number, 1)


def frame(
    name: str, title: str, told: str, marks: Sequence[float], write: Callable[[float], str], times: Sequence[datetime]
) -> Iterator[str]:
    """The beginning of a chart: what it is for those who cannot see it, lines at the marks with their numbers, and times below."""
    yield (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-told">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-told">{escape(told)}</desc>'
    )
    y = y_scale(marks)
    for mark in marks:
        place = y(mark)
        kind = "zero" if mark == 0 else "grid"
        yield f'<line class="{kind}" x1="{LEFT}" x2="{RIGHT}" y1="{place}" y2="{place}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{place + 4}" text-anchor="end">{escape(write(mark))}</text>'
    yield from _moments(times)


def _moments(times: Sequence[datetime]) -> Iterator[str]:
    if not times:
        return
    x = x_scale(len(times))
    last = len(times) - 1
    chosen = sorted({0, last // 2, last}) if last > 3 else sorted({0, last})
    for place in chosen:
        anchor = "middle" if last == 0 or place not in (0, last) else "start" if place == 0 else "end"
        edge = x(place) if anchor == "middle" else LEFT if anchor == "start" else RIGHT
        yield f'<text class="tick" x="{edge}" y="{HEIGHT - 7}" text-anchor="{anchor}">{moment(times[place], times)}</text>'


def moment(time: datetime, times: Sequence[datetime]) -> str:
    """A time as precise as its neighbours ask for: hours and minutes within two days, else the day."""
    span = times[-1] - times[0]
    if span < timedelta(hours=20) and times[0].date() == times[-1].date():
        return time.strftime("%H:%M")
    if span < timedelta(days=4):
        return time.strftime("%b %-d, %H:%M")
    return time.strftime("%b %-d") if span < timedelta(days=330) else time.strftime("%b %Y")


def point(x: float, y: float) -> str:
    """A place in a path."""
    return f"{round(x, 1)} {round(y, 1)}"


def count(number: float) -> str:
    """A count for people, short: 950, 12.5k, 3M."""
    for limit, unit, letter in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(number) >= limit:
            return f"{float(f'{number / unit:.3g}'):,g}{letter}"
    return f"{number:,.0f}" if abs(number) >= 100 or float(number).is_integer() else f"{number:.3g}"


def percent(share: float | None) -> str:
    """A share as a percentage. Never rounded up to 100 %, which would say that nothing is wrong, nor down to 0 %."""
    if share is None or not math.isfinite(share):
        return "–"
    if share == 1:
        return "100 %"
    if 0 < share < 0.0001:
        return "<0.01 %"
    told = f"{min(share * 100, 99.99) if share < 1 else share * 100:.2f}"
    return f"{told} %"


_UNITS = ((31_536_000.0, "y"), (86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units: 3 d 4 h, 12 min, 0.4 s."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if abs(seconds) < 1:
        return "0 s" if seconds == 0 else f"{seconds:.1g} s" if abs(seconds) >= 0.001 else "<1 ms"
    left = round(abs(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        number, left = divmod(left, int(size))
        if number:
            parts.append(f"{number:,} {unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return ("−" if seconds < 0 else "") + " ".join(parts)


def duration_axis(high: float) -> tuple[list[float], Callable[[float], str]]:
    """Marks for lengths of time from nothing to `high` or above, in seconds, round in the unit that fits; and how they are written."""
    size, unit = next(((size, unit) for size, unit in _UNITS if high >= 2 * size), _UNITS[-1])
    marks = [mark * size for mark in ticks(0, max(high, 1e-3) / size)]
    return marks, lambda seconds: f"{seconds / size:.3g} {unit}" if seconds else "0"
