"""The charts of a page: each as a picture, and as a table of the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from quality.report.charts import Line, duration_chart, flow_chart, line_chart, share_chart, short_percent
from quality.report.model import DatasetReport
from quality.report.plot import duration, percent
from quality.report.trend import Moment, Trend


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart. `rows` are its numbers, under `headings`, the newest first; `key` says which shape means what, as (class, words);
    `latest` is the newest number, where one says it all."""

    name: str
    title: str
    says: str
    picture: Markup
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    key: Sequence[tuple[str, str]] = ()
    latest: str | None = None


def figures(report: DatasetReport) -> list[Figure]:
    """The charts of a dataset, those that have something to show."""
    trend = report.trend
    if not trend.moments:
        return []
    made = [
        _success(trend, report),
        _flow(trend),
        _open(trend),
        _age(trend),
        _freshness(trend, report.freshness_level),
        _budget(trend),
        _detect(trend),
        _resolve(trend),
    ]
    return [figure for figure in made if figure.picture]


def _success(trend: Trend, report: DatasetReport) -> Figure:
    goal = (f"target {short_percent(report.budget.target)}", report.budget.target) if report.budget else None
    title = "Passed at once"
    picture = share_chart("success", title, _times(trend), Line("passed", [m.success for m in trend.moments]), target=goal)

    def told(moment: Moment) -> Sequence[str]:
        return (*(f"{number:,}" for number in (moment.rows, moment.quarantined, moment.dropped, moment.refused)), percent(moment.success))

    rows = _rows(trend, lambda m: m.rows > 0, told)
    return _figure(
        "success",
        title,
        f"Share of changes that broke no rule and that no sink refused, by {trend.word}.",
        picture,
        ("Read", "Quarantined", "Dropped", "Refused by sinks", "Passed"),
        rows,
        said=-1,
    )


def _flow(trend: Trend) -> Figure:
    title = "Into quarantine and out"
    moments = trend.moments
    picture = flow_chart("flow", title, _times(trend), [m.entered for m in moments], [m.left for m in moments])
    sinks = sorted({sink for moment in moments for sink in moment.by_sink})

    def told(moment: Moment) -> Sequence[str]:
        return (f"{moment.entered:,}", *(f"{moment.by_sink.get(sink, 0):,}" for sink in sinks), f"{moment.left:,}")

    rows = _rows(trend, lambda m: bool(m.entered or m.left), told)
    alone = f", and what {' or '.join(sinks)} alone refused" if sinks else ""
    says = f"Records that came in (up{alone}) and that left: resolved, superseded or discarded (down, hatched), by {trend.word}."
    key = (("first", "came in"), ("second", "left"))
    return _figure("flow", title, says, picture, ("Came in", *(f"refused by {sink}" for sink in sinks), "Left"), rows, key, said=None)


def _open(trend: Trend) -> Figure:
    title = "Waiting in quarantine"
    seen = any(m.open for m in trend.moments)
    picture = line_chart("open", title, _times(trend), [Line("records", [m.open for m in trend.moments])], filled=True) if seen else ""
    rows = _rows(trend, lambda m: m.open is not None, lambda m: (f"{m.open:,}",))
    return _figure(
        "open", title, f"Records that somebody has to decide about, at the end of each {trend.word}.", picture, ("Waiting",), rows
    )


def _age(trend: Trend) -> Figure:
    title = "How long the oldest waits"
    seen = any(m.oldest for m in trend.moments)
    picture = duration_chart("age", title, _times(trend), [Line("oldest", [m.oldest for m in trend.moments])], filled=True) if seen else ""
    rows = _rows(trend, lambda m: m.oldest is not None, lambda m: (duration(m.oldest),))
    return _figure("age", title, "Time since the oldest record that waits was quarantined.", picture, ("Oldest",), rows)


def _freshness(trend: Trend, level: float | None) -> Figure:
    title = "Freshness"
    goal = None if level is None else (f"at most {duration(level)}", level)
    lines = [Line("age", [m.freshness for m in trend.moments])]
    delays = [m.delay for m in trend.moments]
    if any(delay is not None for delay in delays):
        lines.append(Line("delay", delays, "second", dashed=True))
    picture = duration_chart("freshness", title, _times(trend), lines, target=goal)
    rows = _rows(trend, lambda m: m.freshness is not None, lambda m: (duration(m.freshness), duration(m.delay)))
    says = "Age of the newest change, and the delay from the source's commit to the last sink, each at its worst."
    key = (("line-first", "age of the newest change"), ("line-second", "delay to the last sink")) if len(lines) > 1 else ()
    return _figure("freshness", title, says, picture, ("Age", "Delay"), rows, key)


def _budget(trend: Trend) -> Figure:
    title = "Error budget left"
    values = [None if m.budget is None else max(m.budget, -1.0) for m in trend.moments]
    marks = (-1.0, -0.5, 0.0, 0.5, 1.0) if any(value is not None and value < 0 for value in values) else (0.0, 0.5, 1.0)
    picture = line_chart("budget", title, _times(trend), [Line("left", values)], short_percent, marks=marks, filled=True)
    rows = _rows(trend, lambda m: m.budget is not None, lambda m: (_left(m.budget),))
    return _figure(
        "budget", title, "What may still go wrong within 30 days before the target is missed; below zero it is.", picture, ("Left",), rows
    )


def _detect(trend: Trend) -> Figure:
    says = "From the commit at the source to the quarantine."
    return _took("detect", "Time to detect", says, trend, [m.detect for m in trend.moments], [m.detect_p95 for m in trend.moments])


def _resolve(trend: Trend) -> Figure:
    says = "From the quarantine until a record was resolved, superseded or discarded."
    return _took("resolve", "Time to resolve", says, trend, [m.resolve for m in trend.moments], [m.resolve_p95 for m in trend.moments])


def _took(name: str, title: str, says: str, trend: Trend, half: Sequence[float | None], most: Sequence[float | None]) -> Figure:
    """How long something took: what half of the records took at most, and 95 of 100."""
    lines = [Line("half within", half), Line("95 % within", most, "second", dashed=True)]
    picture = duration_chart(name, title, _times(trend), lines)
    found = zip(trend.moments, half, most, strict=True)
    rows = [(_when(moment), duration(one), duration(other)) for moment, one, other in reversed(list(found)) if one is not None]
    key = (("line-first", "half within"), ("line-second", "95 % within"))
    return _figure(name, title, says, picture, ("Half within", "95 % within"), rows, key)


def _left(share: float | None) -> str:
    return "–" if share is None else "overspent" if share < 0 else percent(share)


def _times(trend: Trend) -> list[datetime]:
    return [moment.start for moment in trend.moments]


def _rows(trend: Trend, wanted: Callable[[Moment], bool], told: Callable[[Moment], Sequence[str]]) -> list[Sequence[str]]:
    return [(_when(moment), *told(moment)) for moment in reversed(trend.moments) if wanted(moment)]


def _when(moment: Moment) -> str:
    return f"{moment.start:%Y-%m-%d %H:%M}"


def _figure(
    name: str,
    title: str,
    says: str,
    picture: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    key: Sequence[tuple[str, str]] = (),
    said: int | None = 1,
) -> Figure:
    """`said`: the column of which the newest number is said beside the title."""
    # every text in a picture was escaped where it was drawn
    drawn = Markup(picture)  # noqa: S704
    return Figure(name, title, says, drawn, ("From (UTC)", *headings), rows, key, rows[0][said] if said is not None and rows else None)
