"""What is kept of how datasets did, and told as metrics: by the process `watch`, through all runs."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from dataflows.observe import WatchMetrics
from dataflows.sampling import Sampling
from dataflows.stopping import Stop
from dataflows.watch import Watched
from journal import trends
from journal.history import KEPT, History, Sample
from journal.local import JournalReader
from journal.refusals import SETTLED, changes_query
from journal.trends import TimeGrid, flow_query
from tests.report_place import Shop, held


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")


def test_history_spans_runs_and_stays_small(tmp_path: Path) -> None:
    start = 1_800_000_000.0
    with closing(History.open(tmp_path)) as history:
        for minute in range(0, 4 * 24 * 60, 7):
            at = start + minute * 60
            history.keep([Sample("orders", at, open=minute, oldest=float(minute % 50), within=minute % 2 == 0)])
    with closing(History.open(tmp_path)) as history:
        hours = history.since(start, 3 * 3600)
        assert len(hours) == 4 * 24 or len(hours) == 4 * 24 + 1
        assert hours[-1].open == (4 * 24 * 60 - 1) // 7 * 7
        assert sum(line.judged for line in hours) == len(range(0, 4 * 24 * 60, 7))
        assert max(line.oldest or 0 for line in hours) == 49
        fine = history.since(0, 60)
        assert fine[0].start >= start + 4 * 86_400 - KEPT[60] - 3600
        assert [line.start % 60 for line in fine] == [0] * len(fine)


def test_history_is_read_and_cut_by_time_however_many_datasets_there_are(tmp_path: Path) -> None:
    with closing(History.open(tmp_path)) as history:
        history.keep([Sample("orders", 1_800_000_000.0, 1)])
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        for query in ("select * from history where width = 60 and start >= 5", "delete from history where width = 60 and start < 5"):
            plan = " ".join(str(line[3]) for line in db.execute(f"explain query plan {query}"))
            assert "history_by_time (width=? AND start" in plan, plan


def test_what_is_unknown_at_one_look_does_not_hide_what_was_known_at_another(tmp_path: Path) -> None:
    with closing(History.open(tmp_path)) as history:
        history.keep([Sample("orders", 1_800_000_000.0, 1, freshness=5.0)])
        history.keep([Sample("orders", 1_800_000_001.0, 2, delay=2.0)])
        (line,) = history.since(0, 86_400)
    assert (line.open, line.freshness, line.delay, line.oldest, line.judged) == (2, 5.0, 2.0, None, 0)


def test_a_look_is_kept_and_told_as_metrics(shop: Shop) -> None:
    shop.fill(held(100), held(101, quarantined_at=time.time() - 500))
    metrics = WatchMetrics()
    Sampling(Watched(shop.pipeline, metrics, Stop())).tick(time.time())
    told = {
        line.split("{")[0]: float(line.split()[-1])
        for line in generate_latest(metrics.registry).decode().splitlines()
        if "ann@example.com" in line
    }
    assert told["sluice_quarantine_open"] == 2
    assert told["sluice_quarantine_age_seconds"] == pytest.approx(500, abs=60)
    assert told["sluice_quality_success_ratio"] == pytest.approx(0.8)
    assert told["sluice_quality_error_budget_remaining_ratio"] == pytest.approx(0.6)
    with closing(History.open(shop.pipeline.state)) as history:
        assert [(line.dataset, line.open, line.judged, line.within) for line in history.since(0, 86_400)] == [("orders", 2, 1, 1)]


def test_a_look_before_anything_was_read_does_nothing(shop: Shop) -> None:
    Sampling(Watched(shop.pipeline, WatchMetrics(), Stop())).tick(time.time())
    assert not shop.pipeline.state.exists() or not list(shop.pipeline.state.glob("state.db"))


def test_what_reports_ask_of_quarantine_is_read_from_an_index_alone(shop: Shop) -> None:
    shop.fill(held(100))
    pipeline = shop.pipeline
    asked: list[str] = []
    with JournalReader.open(pipeline.state, pipeline.name) as reader, reader.view() as (db, _):
        db.set_trace_callback(asked.append)
        trends.flows(db, TimeGrid(3600, 0, [1.0, 2.0]))
        trends.waiting(db)
        trends.groups(db)
        db.set_trace_callback(None)
        queries = [query for query in asked if "log2(1.0)" not in query]
        assert len(queries) == 4
        for query in queries:
            steps = [str(line[3]) for line in db.execute(f"explain query plan {query}") if "quarantine" in str(line[3])]
            assert steps
            assert all("COVERING INDEX" in step for step in steps), steps


def test_what_reports_ask_of_refused_rows_is_read_from_an_index_alone(shop: Shop) -> None:
    shop.fill()
    shop.refuse(held(1), held(2))
    with closing(sqlite3.connect(shop.pipeline.state / "state.db")) as db:
        asked = [flow_query(SETTLED, TimeGrid(3600, 0, [1.0]), "dataset, sink"), changes_query(TimeGrid(3600, 0, [1.0]))]
        for query in asked:
            plan = " ".join(str(line[3]) for line in db.execute(f"explain query plan {query}", {"sinks": '["lake"]'}))
            assert "SEARCH refused USING COVERING INDEX refused_by_time" in plan, plan
            assert "SCAN refused" not in plan, plan
