"""Charts of values over time, as SVG: pure functions from numbers to markup.

Each has a title and a description, takes its colours from the page's style sheet by class, and tells kinds apart by shape as well as by
colour. Any number of moments; gaps stay gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from quality.report.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Scale,
    Value,
    column_width,
    count,
    duration_axis,
    frame,
    known,
    moment,
    point,
    shown,
    ticks,
    x_scale,
    y_scale,
)

_EMPTY = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: `kind` is its class; `dashed` tells it apart without colour."""

    label: str
    values: Sequence[Value]
    kind: str = "first"
    dashed: bool = False


def line_chart(
    name: str,
    title: str,
    times: Sequence[datetime],
    lines: Sequence[Line],
    write: Callable[[float], str] = count,
    *,
    marks: Sequence[float] | None = None,
    target: tuple[str, float] | None = None,
    filled: bool = False,
) -> str:
    """Lines over time. `target` is a level (and what it is called) to compare with. Empty where there is nothing to draw."""
    values = [value for line in lines for value in known(line.values)]
    if not values or not times:
        return _EMPTY
    goal = known([target[1]] if target else [])
    chosen = list(marks) if marks else ticks(min(0.0, *values, *goal), max(*values, *goal, 0.0))
    x, y = x_scale(len(times)), y_scale(chosen)
    told = "; ".join(_told(line, write) for line in lines)
    parts = [*frame(name, title, told, chosen, write, times)]
    for line in lines:
        parts += _line(line, times, x, y, write, filled=filled)
    if target and goal:
        parts += _target(target[0], y(goal[0]))
    return "".join([*parts, "</svg>"])


def duration_chart(
    name: str,
    title: str,
    times: Sequence[datetime],
    lines: Sequence[Line],
    *,
    target: tuple[str, float] | None = None,
    filled: bool = False,
) -> str:
    """Lengths of time over time, from nothing upwards."""
    highest = max([value for line in lines for value in known(line.values)] + known([target[1]] if target else []), default=0.0)
    marks, write = duration_axis(highest)
    return line_chart(name, title, times, lines, write, marks=marks, target=target, filled=filled)


def share_chart(name: str, title: str, times: Sequence[datetime], line: Line, *, target: tuple[str, float] | None = None) -> str:
    """A share of 1 over time, of which the uppermost part is shown where it is near 1."""
    values = [min(value, 1.0) for value in known([*line.values, *([target[1]] if target else [])])]
    lowest = min(values, default=0.0)
    marks = next(
        ([1 - part, 1 - part / 2, 1.0] for part in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if lowest >= 1 - part), [0.0, 0.5, 1.0]
    )
    return line_chart(name, title, times, [line], short_percent, marks=marks, target=target)


def short_percent(share: float) -> str:
    """A percentage at an axis."""
    return f"{share * 100:.4g} %"


def _told(line: Line, write: Callable[[float], str]) -> str:
    found = known(line.values)
    if not found:
        return f"{line.label}: nothing is known"
    return f"{line.label}: from {write(min(found))} to {write(max(found))}, last {write(found[-1])}"


def _line(line: Line, times: Sequence[datetime], x: Scale, y: Scale, write: Callable[[float], str], *, filled: bool) -> Iterator[str]:
    runs = _runs(line.values[: len(times)])
    for first, values in runs:
        places = [(x(first + step), y(value)) for step, value in enumerate(values)]
        if len(places) > 1:
            path = "M" + " L".join(point(*place) for place in places)
            if filled:
                base = y(max(y.low, 0.0))
                yield f'<path class="area {line.kind}" d="{path} L{point(places[-1][0], base)} L{point(places[0][0], base)} Z"/>'
            yield f'<path class="line {line.kind}{" dashed" if line.dashed else ""}" d="{path}"/>'
        else:
            yield f'<circle class="dot {line.kind}" cx="{places[0][0]}" cy="{places[0][1]}" r="3"/>'
    if runs:
        first, values = runs[-1]
        end = first + len(values) - 1
        yield f'<circle class="dot {line.kind}" cx="{x(end)}" cy="{y(values[-1])}" r="3.5"/>'
    yield from _hints(line, times, x, write)


def _hints(line: Line, times: Sequence[datetime], x: Scale, write: Callable[[float], str]) -> Iterator[str]:
    """What a pointer that rests on a moment is told."""
    width = round(column_width(len(times)), 2)
    for place, (time, value) in enumerate(zip(times, line.values, strict=False)):
        if value is not None and shown(value):
            said = escape(f"{moment(time, times)}: {line.label} {write(value)}")
            left = round(x(place) - width / 2, 1)
            yield f'<rect class="hint" x="{left}" y="{TOP}" width="{width}" height="{BOTTOM - TOP}"><title>{said}</title></rect>'


def _runs(values: Sequence[Value]) -> list[tuple[int, list[float]]]:
    """Stretches of values without a gap, each with the place of its first."""
    runs: list[tuple[int, list[float]]] = []
    open_ = False
    for place, value in enumerate(values):
        if value is None or not shown(value):
            open_ = False
        elif open_:
            runs[-1][1].append(value)
        else:
            runs.append((place, [value]))
            open_ = True
    return runs


def _target(label: str, place: float) -> Iterator[str]:
    below = place < TOP + 18
    yield f'<line class="target" x1="{LEFT}" x2="{RIGHT}" y1="{place}" y2="{place}"/>'
    yield f'<text class="target-name" x="{LEFT + 4}" y="{place + (13 if below else -5)}">{escape(label)}</text>'


def flow_chart(name: str, title: str, times: Sequence[datetime], came: Sequence[Value], went: Sequence[Value]) -> str:
    """What came in, upwards, and what left, downwards and hatched. Empty where nothing did."""
    ups = [max(value, 0.0) if value is not None and shown(value) else 0.0 for value in came[: len(times)]]
    downs = [max(value, 0.0) if value is not None and shown(value) else 0.0 for value in went[: len(times)]]
    if not times or not any([*ups, *downs]):
        return _EMPTY
    marks = ticks(-max(downs, default=0.0), max(ups, default=0.0))
    x, y = x_scale(len(times)), y_scale(marks)
    told = f"Came in: {sum(ups):,.0f}; left: {sum(downs):,.0f}"
    parts = [*frame(name, title, told, marks, lambda mark: count(abs(mark)), times)]
    parts.append(
        f'<defs><pattern id="{name}-hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="second" width="2.5" height="5"/></pattern></defs>'
    )
    width = max(column_width(len(times)) - 2, 1.0) if len(times) > 1 else 40.0
    for place, time in enumerate(times):
        at = f'x="{round(x(place) - width / 2, 1)}" width="{round(width, 1)}"'
        said = moment(time, times)
        if place < len(ups) and ups[place]:
            parts.append(_bar(at, y(ups[place]), y(0), "first", "", f"{said}: {ups[place]:,.0f} came in"))
        if place < len(downs) and downs[place]:
            parts.append(_bar(at, y(0), y(-downs[place]), "second", f"{name}-hatch", f"{said}: {downs[place]:,.0f} left"))
    return "".join([*parts, "</svg>"])


def _bar(at: str, top: float, bottom: float, kind: str, pattern: str, hint: str) -> str:
    style = f' style="fill:url(#{pattern})"' if pattern else ""
    height = max(round(bottom - top, 1), 1.0)
    return f'<rect class="bar {kind}" {at} y="{top}" height="{height}"{style}><title>{escape(hint)}</title></rect>'


def sparkline(values: Sequence[Value], told: str, *, low: float | None = None, high: float | None = None) -> str:
    """A line without axes for a cell of a table; `told` says what it shows. Empty where there is nothing to draw."""
    found = known(values)
    if not found:
        return _EMPTY
    bottom, top = min(found) if low is None else low, max(found) if high is None else high
    y = Scale(bottom, top, 23, 3)
    x = Scale(0, max(len(values) - 1, 0), 3, 117)
    parts = []
    for first, run in _runs(values):
        places = [point(x(first + step), y(value)) for step, value in enumerate(run)]
        if len(places) > 1:
            parts.append(f'<path class="line first" d="M{" L".join(places)}"/>')
        else:
            parts.append(f'<circle class="dot first" cx="{x(first)}" cy="{y(run[0])}" r="2"/>')
    end = max(place for place, value in enumerate(values) if shown(value))
    last = values[end]
    parts.append(f'<circle class="dot first" cx="{x(end)}" cy="{y(last if last is not None else bottom)}" r="2.5"/>')
    return f'<svg class="spark" viewBox="0 0 120 26" role="img"><title>{escape(told)}</title>{"".join(parts)}</svg>'
