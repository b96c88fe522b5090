"""Rows that come back to a sink: whatever is killed between the steps, they are settled once, and only when the target holds them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from journal.batch import Op
from journal.erasing import erase_refused
from journal.quarantine import Reason, Wanted
from journal.returns import Outcome, RefusedKeys, Returns
from journal.state import State
from tests.journal_cases import changes, record

JOURNAL = "4f1c2a9e-0000"


class Place:
    """A state in which the sink eu has refused the rows 1 to 3, in entry 5."""

    def __init__(self, folder: Path) -> None:
        self.state = State.open(folder)
        self.returns = Returns(folder)
        self.refused = [record(JOURNAL, ordinal, sink="eu") for ordinal in (1, 2, 3)]
        self.state.keep_refused("eu", self.refused, 5)
        self.committed(5)

    def committed(self, seq: int) -> None:
        """The target holds everything up to an entry, and says so."""
        self.state.sink_progress("eu", state="running", error=None, journal=JOURNAL, seq=seq, cursor="{}")
        self.returns.settle("eu")

    @property
    def statuses(self) -> list[str]:
        return [one.status for one in self.state.refused(Wanted())]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    with closing(made.state), closing(made.returns):
        yield made


def test_a_row_is_settled_when_the_target_holds_it_and_not_before(place: Place) -> None:
    one = place.refused[0].id
    place.returns.approve([one], "bo@example.com")
    place.returns.send(place.refused[:1])
    assert place.returns.under_way("eu", [1, 2, 7]) == {1: one}
    place.returns.became({one: Outcome("resolved")})
    place.committed(8)  # which may be behind the entry: nobody knows yet where that is
    assert place.statuses == ["replaying", "open", "open"]
    place.returns.sent([one], 9)
    place.committed(8)
    assert place.statuses == ["replaying", "open", "open"]
    place.returns.became({one: Outcome("resolved")})  # the sink's process died before its commit, and was offered the entry again
    place.committed(9)
    assert place.statuses == ["resolved", "open", "open"]
    assert place.returns.under_way("eu", [1]) == {}
    assert place.state.open_refused() == {("eu", "orders"): 2}


def test_a_row_that_is_refused_again_says_why_of_now(place: Place) -> None:
    one = place.refused[0].id
    place.returns.send(place.refused[:1])
    place.returns.became({one: Outcome("refused", Reason("sink", "amount", "still too large"))})
    place.returns.sent([one], 9)
    place.committed(9)
    found = place.state.refused_record(one)
    assert found is not None
    assert (found.status, found.attempts, found.reasons[0].message) == ("failed-again", 1, "still too large")


def test_a_row_that_a_sink_passed_over_may_be_sent_again(place: Place) -> None:
    one = place.refused[0].id
    place.returns.send(place.refused[:1])
    place.returns.sent([one], 9)
    place.committed(9)
    assert place.statuses == ["approved", "open", "open"]


def test_with_several_workers_the_one_that_is_behind_counts(place: Place) -> None:
    one = place.refused[0].id
    place.returns.send(place.refused[:1])
    place.returns.sent([one], 9)
    place.state.sink_progress("eu/1", state="running", error=None, journal=JOURNAL, seq=6, cursor="{}")
    place.committed(9)
    assert place.statuses[0] == "replaying"


def _noted(place: Place) -> set[str]:
    return {key for key in ('{"id": "1"}', '{"id": "2"}', '{"id": "3"}') if place.returns.newest("eu", "orders", key)}


def test_what_a_sink_has_written_is_forgotten_once_nothing_of_its_key_waits(place: Place) -> None:
    keys = RefusedKeys(place.returns, "eu")
    keys.load()
    keys.written(replace(changes(1, 3, op=Op.UPDATE), ordinal=np.array([10, 11, 12])))
    assert len(_noted(place)) == 3
    place.returns.discard([place.refused[0].id], "it was a test", time.time())
    RefusedKeys(place.returns, "eu").load()
    assert len(_noted(place)) == 2
    place.returns.raise_keys("us", "orders", [("x", 7)])
    place.returns.discard([one.id for one in place.refused], "they were tests", time.time())
    RefusedKeys(place.returns, "eu").load()
    assert not _noted(place)
    assert place.returns.newest("us", "orders", "x") == 7, "of another sink"


def test_what_a_sink_has_written_is_forgotten_when_the_last_row_has_come_back(place: Place) -> None:
    keys = RefusedKeys(place.returns, "eu")
    keys.load()
    keys.written(replace(changes(1, 3, op=Op.UPDATE), ordinal=np.array([10, 11, 12])))
    names = [one.id for one in place.refused]
    for some, left in ((names[:2], 3), (names[2:], 0)):
        place.returns.approve(some, "bo@example.com")
        place.returns.send([one for one in place.refused if one.id in some])
        place.returns.sent(some, 7)
        place.returns.became({name: Outcome("superseded") for name in some})
        place.committed(7)
        assert len(_noted(place)) == left


def test_the_keys_of_what_is_erased_are_forgotten_too(place: Place, tmp_path: Path) -> None:
    place.returns.raise_keys("eu", "orders", [('{"id": "1"}', 10), ('{"id": "2"}', 11)])
    erase_refused(tmp_path, [place.refused[0].id], "she asked for it", time.time())
    assert _noted(place) == {'{"id": "2"}'}


def test_what_a_sink_has_written_since_overtakes_what_it_refused(place: Place) -> None:
    keys = RefusedKeys(place.returns, "eu")
    keys.load()
    keys.written(replace(changes(2, 2, op=Op.UPDATE), ordinal=np.array([10, 11])))  # of the keys 2 and 3
    batch = changes(1, 3)
    assert keys.overtaken(batch, {0, 1, 2}) == {1, 2}
    again = RefusedKeys(place.returns, "eu")  # of a process that was killed since
    again.load()
    again.written(replace(changes(9, 1, op=Op.TRUNCATE), ordinal=np.array([12])))
    assert again.overtaken(batch, {0, 1, 2}) == {0, 1, 2}
