from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quality.report.model import Cause, DatasetReport, RuleLine, SinkLine
from quality.report.page import file_name, write_reports

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
    assert "99.99 %" in page
    assert "100 %" not in page


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
