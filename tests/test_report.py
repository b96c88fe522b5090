from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest

from journal.lengths import Lengths
from quality.report.effectiveness import Budget, Effectiveness
from quality.report.levels import LevelLine
from quality.report.model import (
    Agreement,
    Cause,
    Cell,
    Change,
    Contact,
    DatasetReport,
    Incident,
    Pending,
    RuleLine,
    SinkLine,
    Step,
)
from quality.report.page import file_name, write_reports
from quality.report.trend import Moment, Trend

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script> & \"quotes\" 'and' ünïcode"


def _report(dataset: str = "orders", rows: int = 1000, quarantined: int = 7, sinks: tuple[SinkLine, ...] | None = None) -> DatasetReport:
    line = SinkLine("eu", rows, rows - quarantined - 400, 400, quarantined, 0, caught_up=True)
    cause = Cause("ab12", "positive", "amount", "amount > 0", quarantined, NOW, ["-1", HOSTILE], "sluice quarantine list f --group ab12")
    return DatasetReport(
        pipeline="shop",
        dataset=dataset,
        owner="owner@example.com",
        contract="Orders 1.0.0",
        written_at=NOW,
        rows_in=rows,
        quarantined=quarantined,
        dropped=0,
        open_quarantine=quarantined,
        first_position="1",
        last_position="1000",
        first_time=NOW,
        last_time=NOW,
        sinks=(line,) if sinks is None else sinks,
        rules=(RuleLine("positive", "amount", "quarantine", "duckdb", rows, quarantined),),
        causes=(cause,) if quarantined else (),
    )


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_a_page_needs_nothing_but_itself_and_lets_no_value_become_markup(tmp_path: Path) -> None:
    write_reports("shop", [_report(HOSTILE)], tmp_path)
    for path in tmp_path.glob("*.html"):
        tags = _Tags(path.read_text("utf-8")).seen
        assert not [tag for tag, _ in tags if tag in ("script", "link", "img", "iframe")]
        assert not [attrs for _, attrs in tags for name, value in attrs.items() if name in ("src", "href") and "//" in (value or "")]


def test_tables_have_headings_for_those_who_cannot_see_them(tmp_path: Path) -> None:
    write_reports("shop", [_report()], tmp_path)
    tags = _Tags((tmp_path / "orders.html").read_text("utf-8")).seen
    headings = [attrs.get("scope") for tag, attrs in tags if tag == "th"]
    assert {"col", "row"} == set(headings)
    assert next(attrs for tag, attrs in tags if tag == "html")["lang"] == "en"


def test_the_json_twin_has_the_numbers_of_the_page(tmp_path: Path) -> None:
    write_reports("shop", [_report()], tmp_path)
    told = json.loads((tmp_path / "orders.json").read_text("utf-8"))
    assert (told["verdict"], told["rows_in"], told["open_quarantine"]) == ("attention", 1000, 7)
    (sink,) = told["sinks"]
    assert (sink["sink"], sink["rows_in"], sink["delivered"], sink["filtered"], sink["quarantined"]) == ("eu", 1000, 593, 400, 7)
    assert sink["verdict"] == "balanced"
    page = (tmp_path / "orders.html").read_text("utf-8")
    for number in ("1,000", "593", "400", "7"):
        assert number in page


@pytest.mark.parametrize(
    "report, verdict",
    [
        (_report(quarantined=0), "good"),
        (_report(), "attention"),
        (_report(sinks=(SinkLine("eu", 1000, 1, 0, 7, 0, caught_up=True),)), "bad"),
        (_report(quarantined=0, sinks=(SinkLine("eu", 1000, 1, 0, 0, 0, caught_up=False),)), "good"),
    ],
)
def test_the_verdict_says_what_matters_most(report: DatasetReport, verdict: str) -> None:
    assert report.verdict == verdict


def test_a_share_is_never_rounded_up_to_everything(tmp_path: Path) -> None:
    write_reports("shop", [_report(rows=10_000_000, quarantined=1)], tmp_path)
    page = (tmp_path / "orders.html").read_text("utf-8")
    assert "99.99\u00a0%" in page
    assert not re.search(r"\b100\s%", page)


def test_a_report_with_no_data_yet_says_so(tmp_path: Path) -> None:
    nothing = DatasetReport("shop", "orders", None, None, NOW, 0, 0, 0, 0, None, None, None, None)
    paths = write_reports("shop", [nothing], tmp_path)
    assert {path.name for path in paths} == {"orders.html", "orders.json", "index.html", "index.json"}
    assert "Nothing has been read yet" in (tmp_path / "orders.html").read_text("utf-8")
    write_reports("shop", [], tmp_path / "empty")
    assert "Nothing has been read yet" in (tmp_path / "empty" / "index.html").read_text("utf-8")


@pytest.mark.parametrize("dataset", ["../../etc/passwd", "a/b", ".hidden", "ünï code", "quote'\"", "con%2e"])
def test_a_dataset_of_any_name_gets_a_file_in_the_folder(dataset: str, tmp_path: Path) -> None:
    write_reports("shop", [_report(dataset)], tmp_path / "out")
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".html", ".json"}
    assert (tmp_path / "out" / f"{file_name(dataset)}.html").parent == tmp_path / "out"
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]


def _rich() -> DatasetReport:
    """A report in which every part of a page has something to show."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    moments = [
        Moment(
            start + timedelta(days=n),
            100,
            n,
            1,
            released=0,
            entered=n,
            left=n // 2,
            open=n,
            oldest=60.0 * n,
            freshness=9.0,
            delay=1.0,
            detect=2.0,
            detect_p95=5.0,
            resolve=n,
            resolve_p95=2.0 * n,
            refused=1,
            by_sink={HOSTILE: 1},
            budget=0.5,
        )
        for n in range(20)
    ]
    return replace(
        _report(HOSTILE),
        trend=Trend(86_400, "day", moments),
        budget=Budget(0.99, True, 2_592_000, 1000, 10.0, 5),
        effectiveness=[Effectiveness("30 days", 2_592_000, 1000, 7, 2, 1, Lengths.of([1.0, 2.0]), Lengths.of([4.0, 5.0, 60.0]), 6)],
        levels=[LevelLine("freshness", HOSTILE, "at most 1 h", "2 h", "missed"), LevelLine("retention", None, "3 y", "no", "told")],
        freshness_level=3600.0,
        heat=[Cell("required", HOSTILE, 7, 1000), Cell("sql", "amount", 0, 1000)],
        contacts=[Contact(HOSTILE, HOSTILE, "javascript:alert(1)")],
        contract_file=HOSTILE,
        statuses={"open": 5, "patched": 2},
        oldest=start,
        pending=[Pending(HOSTILE, NOW, [Step(HOSTILE, HOSTILE)])],
        incidents=[Incident("disagreement", HOSTILE, NOW, NOW, 2, HOSTILE, [HOSTILE])],
        agreement=Agreement(5, 1000, 1, 1, NOW),
        changes=[Change("contract", HOSTILE, NOW, "12"), Change("schema", HOSTILE)],
        causes_left=3,
        list_command=HOSTILE,
    )  # fmt: skip


def _pages(folder: Path) -> list[str]:
    write_reports("shop", [_rich(), _report("orders", quarantined=0)], folder)
    return [path.read_text("utf-8") for path in folder.glob("*.html")]


def test_no_text_of_any_part_becomes_markup_or_a_place_to_go_to(tmp_path: Path) -> None:
    for page in _pages(tmp_path):
        tags = _Tags(page).seen
        assert not [tag for tag, _ in tags if tag in ("script", "link", "img", "iframe", "object", "form", "base")]
        assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
        targets = [value or "" for _, attrs in tags for name, value in attrs.items() if name in ("src", "href")]
        assert not [target for target in targets if "//" in target or ":" in target]
        assert "url(http" not in page
        assert "@import" not in page


def test_a_page_can_be_walked_through_without_seeing_it(tmp_path: Path) -> None:
    for page in _pages(tmp_path):
        tags = _Tags(page).seen
        names = [attrs["id"] for _, attrs in tags if "id" in attrs]
        assert len(names) == len(set(names))
        referred = [name for _, attrs in tags for name in (attrs.get("aria-labelledby") or "").split()]
        referred += [(attrs["href"] or "")[1:] for tag, attrs in tags if tag == "a" and (attrs["href"] or "").startswith("#")]
        assert set(referred) <= set(names)
        levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        order = [tag for tag, _ in tags]
        assert order.index("a") < order.index("header") < order.index("main") < order.index("footer")
        assert order.count("table") == order.count("caption")
        assert all(attrs.get("scope") in ("col", "row") for tag, attrs in tags if tag == "th")
        pictures = [attrs for tag, attrs in tags if tag == "svg"]
        assert pictures
        assert all(attrs.get("role") == "img" or attrs.get("aria-hidden") == "true" for attrs in pictures)
        moments = [attrs["datetime"] for tag, attrs in tags if tag == "time"]
        assert moments
        assert all(re.fullmatch(r"[0-9-]{10}T[0-9:]{8}Z", moment or "") for moment in moments)


def test_each_chart_has_its_numbers_beside_it(tmp_path: Path) -> None:
    page = (tmp_path / f"{file_name(HOSTILE)}.html") if _pages(tmp_path) else None
    assert page is not None
    text = page.read_text("utf-8")
    figures = text.split("<figure>")[1:]
    assert len(figures) == 8
    for figure in figures:
        assert figure.index("<svg") < figure.index("<details>") < figure.index('<th scope="row">')


def _luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    whole = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    parts = [int(whole[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_differ_enough_to_be_read_in_both_schemes_and_on_paper() -> None:
    style = (resources.files("quality.report") / "templates" / "style.css").read_text("utf-8")
    schemes = [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6});", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)]
    assert len(schemes) == 3
    for colours in schemes:
        grounds = [colours[name] for name in ("page", "card", "sunk")]
        for name in ("ink", "soft", "link", "good", "attention", "bad", "target"):
            assert all(_contrast(colours[name], ground) >= 4.5 for ground in grounds), name
        for state in ("good", "attention", "bad"):
            assert _contrast(colours[state], colours[f"{state}-tint"]) >= 4.5
            assert _contrast(colours["ink"], colours[f"{state}-tint"]) >= 4.5
        for name in ("first", "second", "target", "edge"):
            assert _contrast(colours[name], colours["card"]) >= 3, name
        for level in range(1, 5):
            assert _contrast(colours["heat-ink"], colours[f"heat-{level}"]) >= 4.5, level


def test_an_index_lists_first_what_needs_somebody(tmp_path: Path) -> None:
    write_reports("shop", [_report("a", quarantined=0), _report("b"), _report("c", sinks=(SinkLine("eu", 9, 1, 0, 0, 0, True),))], tmp_path)
    told = json.loads((tmp_path / "index.json").read_text("utf-8"))
    assert [(one["dataset"], one["verdict"]) for one in told["datasets"]] == [("c", "bad"), ("b", "attention"), ("a", "good")]
    assert (told["verdict"], told["pipeline"]) == ("bad", "shop")
    assert all((tmp_path / one["file"]).exists() for one in told["datasets"])


@pytest.mark.parametrize("dataset", ["index", "x" * 5000, "🎉" * 300, "..", "\ud800", " a", "CON", "a\nb\0c"])
def test_no_dataset_takes_the_place_of_another_file(dataset: str, tmp_path: Path) -> None:
    paths = write_reports("shop", [_report(dataset), _report("other")], tmp_path)
    assert len({*paths}) == len(paths) == 6
    assert all(path.parent == tmp_path and path.stat().st_size > 0 for path in paths)


def test_long_names_that_differ_at_the_end_have_files_of_their_own() -> None:
    assert file_name("x" * 5000 + "a") != file_name("x" * 5000 + "b")


def test_no_number_is_parted_from_its_unit_at_the_end_of_a_line(tmp_path: Path) -> None:
    page = next(page for page in _pages(tmp_path) if '<p class="latest">' in page)
    text = re.sub(r"<svg.*?</svg>|<style>.*?</style>|<details>.*?</details>|<[^>]+>", " ", page, flags=re.S)
    parted = [found.group() for found in re.finditer(r"\d (?:%|(?:min|ms|[ydhs])\b)", text)]
    assert not parted


def test_a_chart_says_its_latest_number_on_paper_too(tmp_path: Path) -> None:
    page = next(page for page in _pages(tmp_path) if '<p class="latest">' in page)
    titles = re.findall(r"<h3>([^<]*)</h3><p class=\"latest\"><span>latest</span> ([^<]*)</p>", page)
    assert dict(titles)["Waiting in quarantine"] == "19"
    assert dict(titles)["Time to resolve"] == "19\u00a0s"
    assert "Into quarantine and out" not in dict(titles)
