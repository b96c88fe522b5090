"""Requests for more records than fit into a piece of work, and records that have to wait for their table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dataflows.pace import Pace
from journal import audit_trail
from journal.audit_trail import Line
from tests.lane_place import SOURCE, TABLE, Place, marker, put, request

_MANY = 650


@pytest.fixture
def newest(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, "newest")
    yield place
    place.close()


def _approved(place: Place, many: int) -> None:
    place.take(marker("start"), marker("end"), [put(str(n), -n) for n in range(1, many + 1)])
    place.ask("fix", *place.records(), set={"amount": "5"})
    place.ask("approve", *place.records(), by="bo@example.com")


def _lines(place: Place, action: str) -> list[Line]:
    with place.journal.view() as db:
        return [line for line in audit_trail.lines(db) if line.action == action]


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_replay_that_was_begun_goes_on_behind_what_is_done_and_delivers_each_record_once(newest: Place, pieces: int) -> None:
    _approved(newest, _MANY)
    asked = request("replay", *newest.records())
    begun = newest.begin(asked)
    for _ in range(pieces):
        next(begun)
    begun.close()  # as if the process had died there
    done = len(newest.records("resolved"))
    assert 0 < done < _MANY
    again = newest.begin(asked)
    with suppress(StopIteration):
        while True:
            next(again)
    assert Counter(newest.passed()) == dict.fromkeys(range(1, _MANY + 1), 1)
    told = _lines(newest, "replay")
    assert (sum(line.records for line in told), {line.by for line in told}) == (_MANY, {"ann@example.com"})
    resolved = _lines(newest, "resolved")
    assert {(line.by, line.detail["request"], line.detail["replay"]) for line in resolved} == {("ann@example.com", asked.id, told[0].n)}
    assert {one.replay for one in newest.records()} == {told[0].n}


def test_records_of_a_table_that_is_copied_wait_as_replaying(newest: Place) -> None:
    _approved(newest, 3)
    newest.copying.add((SOURCE, TABLE))
    answer = newest.ask("replay", *newest.records())
    assert (answer["done"], len(newest.records("replaying")), newest.passed()) == (3, 3, [])
    newest.copying.clear()
    assert newest.replay.step(2) == 2
    assert newest.replay.step(2) == 1
    assert (newest.replay.step(2), newest.passed()) == (0, [1, 2, 3])
    assert {(one.status, one.replay) for one in newest.records()} == {("resolved", answer["number"])}


def test_pieces_become_as_large_as_their_time_allows() -> None:
    pace = Pace(0.1)
    first = pace.size
    for _ in range(20):
        pace.took(pace.size, pace.size * 1e-5)
    assert 9_000 < pace.size <= 10_000
    pace.took(10, 1.0)
    assert pace.size > 9_000, "what is left at the end tells nothing"
    for _ in range(20):
        pace.took(pace.size, pace.size * 1.0)
    assert pace.size == first
