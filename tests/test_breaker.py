"""The breaker of a contract, from the row that trips it to the restart that lets the dataset go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest
from structlog.testing import capture_logs

from dataflows.audit_promises import breakers
from journal.state import State
from tests.audit_place import AuditPlace

TYPES = {"id": "bigint", "amount": "integer"}


def body(action: str, share: float = 0.2) -> str:
    return f"""\
    properties:
      - {{name: id, logicalType: integer, primaryKey: true}}
      - {{name: amount, logicalType: integer, quality: [{{id: positive, type: sql, query: amount > 0, mustBe: true}}]}}
    customProperties:
      - {{property: breaker, value: {{share: {share}, window: 10, action: {action}}}}}
"""


class MakePlace(Protocol):
    def __call__(self, action: str) -> AuditPlace: ...


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[MakePlace]:
    made: list[AuditPlace] = []

    def make(action: str) -> AuditPlace:
        made.append(AuditPlace(tmp_path, body(action), TYPES))
        return made[-1]

    yield make
    for place in made:
        place.close()


def send(place: AuditPlace, *amounts: int) -> None:
    first = place.commits * 100
    place.send(place.batch([[str(first + n), str(amount)] for n, amount in enumerate(amounts)]))


def restart(place: AuditPlace, contract: str | None = None) -> None:
    """Ingest starts again, which tries first what a contract had stopped before."""
    place.again(contract)
    for table in place.journal.held_tables("db"):
        place.step.release("db", table)
        place.step.commit_release("db")


def counts(place: AuditPlace) -> tuple[int, int]:
    """What came in, and what is in quarantine of it. What is kept is not counted yet."""
    with closing(place.reader()) as reader:
        tally = reader.totals()["orders"]
        return tally.rows, tally.quarantined


def test_a_dataset_that_is_paused_keeps_its_changes_and_says_what_to_do(make_place: MakePlace) -> None:
    place = make_place("pause")
    send(place, 1, 2, -1)
    send(place, -2, -3, 3)
    send(place, 4)
    assert counts(place) == (3, 1), "neither the batch that tripped it nor what came behind it"
    error = place.judge.stopped["orders"]
    assert "3 of the last 6 rows break rules that hold them back" in error
    assert "start ingest again" in error
    assert place.journal.held_tables("db") == {"public.orders"}


def test_a_restart_counts_anew_so_a_dataset_goes_on_whose_kept_changes_do_not_trip_it_by_themselves(make_place: MakePlace) -> None:
    place = make_place("pause")
    send(place, 1, 2, -1)
    send(place, -2, -3, 3)
    send(place, 4)
    restart(place)
    assert counts(place) == (7, 3)
    assert place.judge.stopped == {}
    assert place.journal.held_tables("db") == frozenset()


def test_kept_changes_that_trip_it_by_themselves_pause_it_again_until_the_contract_is_another_one(make_place: MakePlace) -> None:
    place = make_place("pause")
    send(place, -1, -2, -3)
    send(place, 1)
    restart(place)
    assert "orders" in place.judge.stopped
    assert place.journal.held_tables("db") == {"public.orders"}, "nothing is lost meanwhile"
    restart(place, body("pause", share=0.5))
    assert counts(place) == (4, 3)
    assert place.judge.stopped == {}


def test_one_that_warns_says_so_once_when_it_trips_and_once_when_it_is_over(make_place: MakePlace) -> None:
    place = make_place("warn")
    with capture_logs() as logs:
        for _ in range(3):
            send(place, -1, -2, -3, 1)
        tripped = dict(place.judge.tripped)
        for _ in range(2):
            send(place, *range(1, 10))
    assert [entry["event"] for entry in logs] == ["too many bad rows: they go on, with warnings", "enough rows are good again"]
    assert counts(place)[1] == 0
    place.audit()
    assert place.incidents() == {}, "that the gate let rows go is no fault of its, where the breaker says so"
    with closing(State.open(place.pipeline.state)) as state:
        for n, now_tripped in enumerate((tripped, tripped, place.judge.tripped)):
            state.source_status("db", {"state": "streaming", "tables": {}, "breakers": now_tripped})
            breakers(state, place.audits, ["orders"], time.time())
            assert len(place.incidents()) == (n < 2)
    [incident] = place.audits.incidents("orders", open_only=False)
    assert (incident.kind, incident.count) == ("breaker", 2)
    assert "of the last 12 rows" in incident.detail["message"]
