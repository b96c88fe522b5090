"""Audits in the process `watch`, and by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from dataflows.audit_tick import AUDITING, AuditTick
from dataflows.contracts_in_force import put_in_force
from dataflows.observe import WatchMetrics
from dataflows.stopping import Stop
from dataflows.watch import Watched
from journal.locks import ProcessLock
from pipeline.errors import ConfigError
from tests.audit_place import AuditPlace
from tests.contract_text import contract_of
from tests.invoking import sluice

BODY = """\
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: amount, logicalType: integer, quality: [{id: positive, type: sql, query: amount > 0, mustBe: true}]}
    quality:
      - {id: enough, metric: rowCount, mustBeGreaterThan: 2}
    customProperties:
      - {property: audit, value: {every: 30s, window: 10}}
"""
TYPES = {"id": "bigint", "amount": "integer"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AuditPlace]:
    made = AuditPlace(tmp_path, BODY, TYPES)
    yield made
    made.close()


def watched(place: AuditPlace) -> Watched:
    return Watched(place.pipeline, WatchMetrics(), Stop())


def orders(place: AuditPlace, *amounts: int) -> None:
    first = place.commits * 100
    place.send(place.batch([[str(first + n), str(amount)] for n, amount in enumerate(amounts)]))


def test_a_dataset_is_audited_in_its_own_time_and_its_incidents_are_a_metric(place: AuditPlace) -> None:
    around = watched(place)
    tick = AuditTick(around)
    now = time.time()
    tick.tick(now)
    assert tick.period == 30
    orders(place, 1, 2, -3)
    tick.tick(now + 1)
    assert place.audits.windows("orders") == [], "it is not due"
    tick.tick(now + 31)
    assert set(place.incidents()) == {("rule", "enough")}
    assert b'sluice_incidents{dataset="orders",kind="rule"} 1.0' in generate_latest(around.metrics.registry)
    orders(place, 4, 5)
    tick.tick(now + 62)
    assert b'sluice_incidents{dataset="orders",kind="rule"} 0.0' in generate_latest(around.metrics.registry)


def test_a_contract_that_changes_is_read_again_and_what_it_does_not_ask_for_is_over(place: AuditPlace) -> None:
    tick = AuditTick(watched(place))
    now = time.time()
    orders(place, 1, 2)
    tick.tick(now)
    assert set(place.incidents()) == {("rule", "enough")}
    place.contract_file.write_text("nothing")
    with pytest.raises(ConfigError):
        tick.tick(now + 1)
    place.contract_file.write_text(contract_of(BODY.replace("id: enough", "id: some").replace("every: 30s", "every: 5s")))
    tick.tick(now + 2)
    assert place.incidents() == {}
    assert tick.period == 5


def test_a_dataset_is_audited_by_the_contract_that_is_in_force_not_by_one_that_waits_for_approval(place: AuditPlace) -> None:
    put_in_force(place.pipeline, place.journal)
    orders(place, 1, 2)
    breaking = contract_of(BODY.replace("      - {id: enough", "      - {id: other").replace("{name: amount", "{name: total"))
    place.contract_file.write_text(breaking.replace("amount > 0", "total > 0"))
    AuditTick(watched(place)).tick(time.time())
    assert set(place.incidents()) == {("rule", "enough")}
    assert [rule["id"] for rule in sluice("audit", "run", place.file, "--json").json["orders"]["rules"] if rule["id"] == "enough"] == [
        "enough"
    ]


def test_one_audit_at_a_time(place: AuditPlace) -> None:
    orders(place, 1, 2, 3)
    with ProcessLock(place.pipeline.state, AUDITING, "an audit"):
        AuditTick(watched(place)).tick(time.time())
        assert place.audits.windows("orders") == []
    AuditTick(watched(place)).tick(time.time())
    assert place.lines()["enough"].verdict == "passes"


def test_an_audit_by_hand_says_what_it_found_and_whether_anything_is_wrong(place: AuditPlace) -> None:
    orders(place, 1, 2, -3)
    done = sluice("audit", "run", place.file, "--json")
    assert done.code == 1
    found = done.json["orders"]
    assert (found["windows"], found["changes"], found["unaudited"]) == (1, 3, 0)
    assert {"id": "positive", "verdict": "agrees", "engine": "arrow", "rows": 3, "failed": 1} in [
        {name: rule[name] for name in ("id", "verdict", "engine", "rows", "failed")} for rule in found["rules"]
    ]
    assert [(one["kind"], one["rule"], one["detail"]["observed"]) for one in found["incidents"]] == [("rule", "enough", 2)]
    assert sluice("status", place.file, "--json").json["datasets"]["orders"]["incidents"] == 1
    assert "orders: 1 open incident(s)" in sluice("status", place.file).out
    orders(place, 4, 5)
    assert sluice("audit", "run", place.file, "--dataset", "orders").code == 0
    again = sluice("audit", "run", place.file, "--window", 1)
    assert (again.code, "rule: the rule enough does not hold on 1 rows" in again.out) == (1, True), "nothing came: the newest window"


def test_what_cannot_be_audited_is_refused(place: AuditPlace) -> None:
    refused = sluice("audit", "run", place.file, "--dataset", "order")
    assert refused.code == 2
    assert "orders" in refused.err
    for file in place.pipeline.state.glob("journal.db*"):
        file.unlink()
    nothing = sluice("audit", "run", place.file)
    assert nothing.code == 1
    assert "there is no journal" in nothing.err
    AuditTick(watched(place)).tick(time.time())


def test_a_record_that_is_released_is_audited_as_what_it_is_now(place: AuditPlace) -> None:
    orders(place, 1, 2, -3)
    tick = AuditTick(watched(place))
    now = time.time()
    tick.tick(now)
    [record] = sluice("quarantine", "list", place.file, "--json").json
    place.ringer.close()
    place.journal.close()
    for step in (
        ("fix", place.file, record["id"], "--set", "amount=3", "--by", "ann@example.com"),
        ("approve", place.file, record["id"], "--by", "bo@example.com"),
        ("replay", place.file, record["id"]),
    ):
        done = sluice("quarantine", *step)
        assert done.code == 0, done.err
    tick.tick(now + 31)
    assert place.incidents() == {}
    known = place.audits.place("orders")
    assert known is not None
    assert (known.passed, known.unaudited) == (3, 0)
    assert place.lines()["positive"].rows == 1
    place.start()
