"""Charts are well-formed pictures of any numbers: what cannot be drawn is left out, and nothing is drawn outside."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.report.charts import Line, duration_chart, flow_chart, line_chart, share_chart, sparkline
from quality.report.heat import heat_map
from quality.report.model import Cell
from quality.report.plot import HEIGHT, WIDTH, count, duration, duration_axis, known, percent, ticks

START = datetime(2026, 11, 21, tzinfo=UTC)
HOSTILE = "</title><script>alert(1)</script>&\"'"

values = st.one_of(st.none(), st.floats(width=64), st.integers(-(10**15), 10**15).map(float))


def _times(number: int) -> list[datetime]:
    return [START + timedelta(hours=place) for place in range(number)]


def _picture(text: str) -> ET.Element:
    assert "nan" not in text.lower().replace("finance", "")
    assert "inf" not in re.sub(r"[a-z]inf|inf[a-z]", "", text.lower())
    return ET.fromstring(text)  # noqa: S314


def _places(picture: ET.Element) -> list[tuple[float, float]]:
    """Every place that is drawn at."""
    found: list[tuple[float, float]] = []
    for part in picture.iter():
        for x, y in (("x", "y"), ("cx", "cy"), ("x1", "y1"), ("x2", "y2")):
            if x in part.attrib and y in part.attrib and "pattern" not in part.tag:
                found.append((float(part.attrib[x]), float(part.attrib[y])))
        numbers = [float(number) for number in re.findall(r"-?[0-9.]+", part.attrib.get("d", ""))]
        found += list(zip(numbers[::2], numbers[1::2], strict=True))
    return found


def _check(text: str) -> None:
    if not text:
        return
    picture = _picture(text)
    assert picture[0].tag == "title"
    assert picture[0].text
    assert all(-1 <= x <= WIDTH + 1 and -1 <= y <= HEIGHT + 1 for x, y in _places(picture))


@settings(deadline=None, max_examples=60)
@given(st.lists(values, max_size=70), st.one_of(st.none(), st.floats(0, 1e6)))
def test_a_line_of_any_numbers_is_drawn_inside_its_frame(numbers: list[float | None], target: float | None) -> None:
    goal = None if target is None else ("target", target)
    for filled in (False, True):
        _check(line_chart("a", "Any", _times(len(numbers)), [Line("one", numbers)], target=goal, filled=filled))
    _check(duration_chart("a", "Any", _times(len(numbers)), [Line("one", numbers)], target=goal))
    _check(share_chart("a", "Any", _times(len(numbers)), Line("one", numbers), target=("target", 0.99)))


@settings(deadline=None, max_examples=60)
@given(st.lists(values, max_size=70), st.lists(values, max_size=70))
def test_bars_of_any_numbers_are_drawn_inside_their_frame(came: list[float | None], went: list[float | None]) -> None:
    _check(flow_chart("a", "Any", _times(max(len(came), len(went))), came, went))


@settings(deadline=None, max_examples=60)
@given(st.lists(values, max_size=70))
def test_a_line_in_a_cell_is_drawn_inside_of_it(numbers: list[float | None]) -> None:
    text = sparkline(numbers, "any")
    if text:
        assert all(0 <= x <= 120 and 0 <= y <= 26 for x, y in _places(_picture(text)))
    else:
        assert not known(numbers)


def test_where_there_is_nothing_to_draw_there_is_no_picture() -> None:
    nothing: list[float | None] = [None, math.nan, math.inf]
    assert line_chart("a", "t", _times(3), [Line("one", nothing)]) == ""
    assert line_chart("a", "t", [], [Line("one", [])]) == ""
    assert flow_chart("a", "t", _times(2), [0, None], [math.nan, 0]) == ""
    assert sparkline([], "t") == ""


def test_one_point_is_a_dot() -> None:
    picture = _picture(line_chart("a", "t", _times(1), [Line("one", [5.0])]))
    assert [part.attrib["class"] for part in picture.iter("circle")]
    assert not list(picture.iter("path"))


def test_a_gap_stays_a_gap() -> None:
    picture = _picture(line_chart("a", "t", _times(5), [Line("one", [1, 2, None, 3, 4])]))
    assert len(list(picture.iter("path"))) == 2


def test_a_chart_says_what_it_shows_to_those_who_cannot_see_it() -> None:
    picture = _picture(line_chart("open", "Waiting", _times(3), [Line("records", [1, 30, 7])], target=("at most", 5)))
    assert picture.attrib["role"] == "img"
    named = picture.attrib["aria-labelledby"].split()
    assert [part.attrib["id"] for part in picture if part.tag in ("title", "desc")] == named
    assert picture[1].text == "records: from 1 to 30, last 7"


def test_kinds_are_told_apart_without_colour() -> None:
    lines = line_chart("a", "t", _times(2), [Line("one", [1, 2]), Line("two", [2, 1], "second", dashed=True)])
    assert [part.attrib["class"] for part in _picture(lines).iter("path")] == ["line first", "line second dashed"]
    bars = _picture(flow_chart("a", "t", _times(2), [3, 0], [0, 2]))
    up, down = (part for part in bars.iter("rect") if "bar" in part.attrib.get("class", ""))
    assert float(up.attrib["y"]) < float(down.attrib["y"])
    assert "hatch" in down.attrib["style"]


def test_no_text_becomes_markup() -> None:
    for text in (
        line_chart("a", HOSTILE, _times(2), [Line(HOSTILE, [1, 2])], lambda _: HOSTILE, target=(HOSTILE, 1)),
        flow_chart("a", HOSTILE, _times(2), [1, 2], [1, 2]),
        sparkline([1, 2], HOSTILE),
    ):
        assert "<script" not in text
        _picture(text)


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_ticks_reach_around_what_is_to_be_shown(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    marks = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-6)
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    assert 2 <= len(marks) <= 8


@pytest.mark.parametrize(
    "seconds, said",
    [
        (0, "0 s"),
        (0.4, "0.4 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (7200, "2 h"),
        (93_784, "1 d 2 h"),
        (None, "–"),
        (math.nan, "–"),
        (-90, "−1 min 30 s"),
    ],
)
def test_a_length_of_time_is_told_in_its_two_largest_units(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    "share, said",
    [(1, "100 %"), (0.99999, "99.99 %"), (0.5, "50.00 %"), (0, "0.00 %"), (0.000001, "<0.01 %"), (None, "–"), (math.nan, "–")],
)
def test_a_share_is_rounded_to_neither_end(share: float | None, said: str) -> None:
    assert percent(share) == said


@pytest.mark.parametrize(
    "number, said",
    [
        (0, "0"),
        (0.25, "0.25"),
        (2590.7, "2,591"),
        (950, "950"),
        (9999, "9,999"),
        (12_500, "12.5k"),
        (1_000_000, "1M"),
        (999_999_999, "1,000M"),
    ],
)
def test_counts_are_short(number: float, said: str) -> None:
    assert count(number) == said


def test_an_axis_of_time_keeps_to_one_unit() -> None:
    marks, write = duration_axis(66 * 60)
    assert [write(mark) for mark in marks] == ["0", "25 min", "50 min", "75 min"]


def test_the_heat_map_is_darkest_where_most_was_broken() -> None:
    found = heat_map([Cell("required", "email", 1000, 5000), Cell("required", "note", 3, 5000), Cell("format", "email", 0, 5000)])
    assert list(found.columns) == ["email", "note"]
    (email, note), (shape, none) = (row.cells for row in found.rows)
    assert none is None
    assert email is not None
    assert note is not None
    assert shape is not None
    assert [found.level(cell) for cell in (email, note, shape)] == [4, 1, 0]
