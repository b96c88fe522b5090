"""What audits found, as it is kept in the state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from journal import audits as module
from journal.audits import Audited, AuditPlace, Audits
from journal.state import State

LINE = Audited("orders", "j", 7, "mean", "passes", "gx", 100, 1000.0, observed={"mean": 1.5}, first_ordinal=1, last_ordinal=100)


@pytest.fixture
def audits(tmp_path: Path) -> Iterator[Audits]:
    with closing(Audits.open(tmp_path)) as made:
        yield made


def test_windows_and_the_place_are_kept_together_and_told_again_without_harm(audits: Audits) -> None:
    assert audits.windows("orders") == []
    assert audits.place("orders") is None
    for _ in range(2):
        audits.keep([LINE, replace(LINE, rule="")], AuditPlace("orders", "j", 7, 120, 100, 0, 1000.0))
    assert audits.windows("orders", 999.0) == [replace(LINE, rule=""), LINE]
    assert audits.windows("orders", rule="mean") == [LINE]
    assert audits.windows("orders", 1001.0) == []
    assert audits.windows("others") == []
    assert audits.place("orders") == AuditPlace("orders", "j", 7, 120, 100, 0, 1000.0)


def test_an_incident_goes_on_while_it_is_seen_and_another_one_begins_later(audits: Audits) -> None:
    audits.seen("orders", "rule", "mean", {"message": "1"}, 10.0)
    audits.seen("orders", "rule", "mean", {"message": "2"}, 20.0)
    audits.seen("orders", "rule", "rows", {"message": "3"}, 20.0)
    first, other = audits.incidents("orders")
    assert (first.since, first.last, first.count, first.detail) == (10.0, 20.0, 2, {"message": "2"})
    assert other.rule == "rows"
    audits.over("orders", "rule", 30.0, rules=["mean"])
    assert [one.rule for one in audits.incidents("orders")] == ["rows"]
    audits.seen("orders", "rule", "mean", {"message": "4"}, 40.0)
    again = audits.incidents("orders", open_only=False)
    assert [(one.rule, one.since, one.resolved_at) for one in again] == [("mean", 10.0, 30.0), ("rows", 20.0, None), ("mean", 40.0, None)]
    assert [one.since for one in audits.incidents(open_only=False, since=25.0)] == [40.0]


def test_incidents_end_with_the_rules_and_the_datasets_that_they_are_about(audits: Audits) -> None:
    for dataset in ("orders", "customers"):
        for rule in ("mean", "rows"):
            audits.seen(dataset, "rule", rule, {}, 10.0)
    audits.over_unknown("orders", ["rows"], 20.0)
    assert [one.rule for one in audits.incidents("orders")] == ["rows"]
    audits.over_but(["orders"], 30.0)
    assert audits.incidents("customers") == []
    assert len(audits.incidents()) == 1


def test_what_is_old_is_forgotten_but_no_incident_that_is_open(audits: Audits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_WINDOWS", 3)
    now = 1000.0 + module.KEPT_SECONDS
    audits.keep([replace(LINE, last=n, at=now - n) for n in range(5)] + [replace(LINE, last=9, at=500.0)])
    audits.keep([replace(LINE, dataset="others", at=now)])
    audits.seen("orders", "rule", "old", {}, 1.0)
    audits.over("orders", "rule", 2.0)
    audits.seen("orders", "rule", "open", {}, 1.0)
    audits.forget(now)
    assert [one.last for one in audits.windows("orders")] == [2, 1, 0]
    assert len(audits.windows("others")) == 1
    assert [one.rule for one in audits.incidents(open_only=False)] == ["open"]


def test_a_file_of_before_there_were_audits_has_none_and_gets_them(tmp_path: Path) -> None:
    with closing(State.open(tmp_path)) as state:
        state.source_status("db", {"state": "streaming"})
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        for table in ("audited", "incident", "audit_place"):
            db.execute(f"drop table {table}")
        db.execute("pragma user_version = 2")
        db.commit()
    with closing(Audits.open(tmp_path)) as audits:
        assert audits.incidents() == []
        audits.seen("orders", "rule", "mean", {}, 10.0)
        assert len(audits.incidents()) == 1
