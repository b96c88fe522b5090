"""With `order: strict` a change waits while an earlier one of its key is in quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from journal import audit_trail
from journal.local import JournalReader
from tests.history_place import Event, Table, contract
from tests.lane_place import TRUNCATE, Place, copied, delete, marker, put, update


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, "strict")
    yield place
    place.close()


def test_changes_of_a_key_wait_behind_its_record_and_those_of_others_pass(strict: Place) -> None:
    strict.take([put("a", -1), put("b", 2), update("a", 3), delete("a"), put("c", -4)])
    strict.take([put("a", 5), update("b", 6)])
    assert strict.waits() == {1: ["positive"], 3: ["1"], 4: ["3"], 5: ["positive"], 6: ["4"]}
    assert strict.passed() == [2, 7]
    waiting = strict.records()[1]
    assert waiting.reasons[0].message == f"waits behind {strict.records()[0].id}"
    assert (waiting.reasons[0].column, waiting.reasons[0].value, waiting.status) == (None, None, "open")
    assert len({one.group for one in strict.records() if len(one.reasons) == 1 and one.reasons[0].rule == "order"}) == 1


def test_a_row_that_breaks_a_rule_and_waits_has_both_reasons(strict: Place) -> None:
    strict.take([put("a", -1), update("a", -2), update("a", 3)])
    assert strict.waits() == {1: ["positive"], 2: ["positive", "1"], 3: ["2"]}


def test_a_key_change_that_waits_makes_its_new_key_wait_too(strict: Place) -> None:
    strict.take([put("b", 1), put("a", -2), update("b", 3, old="a"), update("b", 4), update("c", 5, old="b"), put("c", 6), put("d", 7)])
    assert strict.waits() == {2: ["positive"], 3: ["2"], 4: ["3"], 5: ["4"], 6: ["5"]}
    assert strict.passed() == [1, 7]


def test_batches_and_transactions_are_no_borders(strict: Place) -> None:
    strict.take([put("a", -1)], [update("a", 2)], [update("b", 3, old="a")])
    strict.take([update("b", 4)])
    assert strict.waits() == {1: ["positive"], 2: ["1"], 3: ["2"], 4: ["3"]}


def test_lanes_go_on_after_a_crash(strict: Place, tmp_path: Path) -> None:
    strict.take([put("a", -1), update("b", 2, old="a")])
    strict.close()
    again = Place(tmp_path, "strict")
    again.take([delete("b"), put("c", 1)])
    assert again.waits() == {1: ["positive"], 2: ["1"], 3: ["2"]}
    assert again.passed() == [4]
    again.close()


def test_a_truncate_ends_all_lanes(strict: Place) -> None:
    strict.take([put("a", -1), update("a", 2), TRUNCATE, put("a", 4), put("b", -5), update("b", 6), TRUNCATE, put("b", 8)])
    strict.take([update("a", 9), update("b", -10), update("b", 11)])
    assert strict.waits() == {1: ["positive"], 2: ["1"], 5: ["positive"], 6: ["5"], 10: ["positive"], 11: ["10"]}
    assert strict.passed() == [3, 4, 7, 8, 9]


def test_a_copied_row_ends_the_lane_of_its_key(strict: Place) -> None:
    strict.take([put("a", -1), put("b", -2), put("c", -3)])
    strict.take(marker("start"), [copied("a", 4), copied("b", -5)], [update("a", 6), update("b", 7)], marker("end"))
    strict.take([put("c", 8)])
    assert strict.waits() == {1: ["positive"], 2: ["positive"], 3: ["positive"], 5: ["positive"], 7: ["5"]}
    assert strict.passed() == [4, 6, 8]


def test_with_newest_nothing_waits(tmp_path: Path) -> None:
    place = Place(tmp_path, "newest")
    place.take([put("a", -1), update("a", 2), update("b", 3, old="a")])
    assert place.waits() == {1: ["positive"]}
    assert place.journal.sitting.newest("orders", {"id": "a"}) == 3
    place.close()


def test_what_waits_counts_as_quarantined(strict: Place) -> None:
    strict.take([put("a", -1), update("a", 2), put("b", 3)])
    with JournalReader.open(strict.folder, "commerce") as reader:
        total, rules = reader.totals()["orders"], reader.rule_totals("orders")
    assert (total.rows, total.quarantined) == (3, 2)
    assert (rules["order"].failed, rules["positive"].failed) == (1, 1)


def _statuses(place: Place) -> dict[int, str]:
    return {one.ordinal: one.status for one in place.records()}


def test_what_only_waited_goes_on_by_itself_in_order_once_the_first_is_mended(strict: Place) -> None:
    strict.take(marker("start"), marker("end"), [put("a", -1), update("a", 2), update("b", 3, old="a"), delete("b"), put("b", 5)])
    strict.mend(strict.records()[0], 1)
    assert set(_statuses(strict).values()) == {"resolved"}
    assert strict.passed() == [1, 2, 3, 4, 5]
    strict.take([update("b", 6)])
    assert strict.passed() == [1, 2, 3, 4, 5, 6]


def test_a_record_that_breaks_a_rule_itself_stops_the_lane_behind_it(strict: Place) -> None:
    strict.take(marker("start"), marker("end"), [put("a", -1), update("a", 2), update("a", -3), update("a", 4)])
    first, _, third, _ = strict.records()
    strict.mend(first, 1)
    assert _statuses(strict) == {1: "resolved", 2: "resolved", 3: "open", 4: "open"}
    strict.ask("discard", third, why="nobody needs it")
    assert _statuses(strict) == {1: "resolved", 2: "resolved", 3: "discarded", 4: "resolved"}
    assert strict.passed() == [1, 2, 4]


def test_a_replay_before_its_turn_waits_for_it_and_then_goes_on_by_itself(strict: Place) -> None:
    strict.take(marker("start"), marker("end"), [put("a", -1), update("a", -2), update("a", 3)])
    first, second, _ = strict.records()
    strict.mend(second, 2)
    assert _statuses(strict) == {1: "open", 2: "approved", 3: "open"}
    assert strict.waits()[2] == ["positive", "1"]
    assert strict.passed() == []
    strict.mend(first, 1)
    assert set(_statuses(strict).values()) == {"resolved"}
    assert strict.passed() == [1, 2, 3]


def test_what_fails_again_keeps_the_lane_waiting(strict: Place) -> None:
    strict.take(marker("start"), marker("end"), [put("a", -1), update("a", 2)])
    strict.mend(strict.records()[0], -5)
    assert _statuses(strict) == {1: "failed-again", 2: "open"}
    strict.mend(strict.records()[0], 5)
    assert set(_statuses(strict).values()) == {"resolved"}


def test_what_a_truncate_has_ended_is_superseded_when_its_turn_comes(strict: Place) -> None:
    strict.take(marker("start"), marker("end"), [put("a", -1), update("a", 2), TRUNCATE, put("a", 4)])
    strict.mend(strict.records()[0], 1)
    assert _statuses(strict) == {1: "superseded", 2: "superseded"}
    assert strict.passed() == [3, 4]


def test_a_change_of_two_keys_waits_for_the_records_of_both(strict: Place) -> None:
    strict.take(marker("start"), marker("end"), [put("a", -1), put("b", -2), update("b", 3, old="a"), update("b", 4)])
    first, second, *_ = strict.records()
    strict.mend(second, 2)
    assert _statuses(strict) == {1: "open", 2: "resolved", 3: "open", 4: "open"}
    strict.mend(first, 1)
    assert strict.passed() == [2, 1, 3, 4]


@pytest.mark.parametrize("action", ["quarantine", "drop"])
@pytest.mark.parametrize("together", [True, False])
def test_what_waits_is_compared_with_what_was_before_it_when_its_turn_comes(tmp_path: Path, action: str, together: bool) -> None:
    """Until then nobody knows what that will be, wherever one batch ends and the next begins."""
    rules = [("steps", action, ["insert", "update"])]
    place = Place(tmp_path, "strict", contract=contract("^[a-z]*$", rules, "strict"))
    table = Table()
    events: list[Event] = [("I", 1, "a", "x", 1), ("U", 1, "Z", "x", 2), ("U", 1, "c", "x", 3), ("U", 1, "a", "x", 4)]
    place.take(marker("start"), marker("end"))
    for some in [events] if together else [[event] for event in events]:
        place.take(*table.send(some))
    assert place.waits() == {2: ["known", "steps"] if action == "quarantine" else ["known"], 3: ["2"], 4: ["3"]}
    place.ask("fix", place.records()[0], set={"status": "b"})
    place.ask("approve", place.records()[0], by="bo@example.com")
    place.ask("replay", place.records()[0])
    assert place.passed() == [1, 2, 3], "b goes to c, and c to nothing"
    last = place.records()[-1]
    assert (last.status, last.resolution) == (("resolved", "dropped by the rule steps") if action == "drop" else ("failed-again", None))
    place.close()


def test_a_release_is_in_the_audit_trail(strict: Place) -> None:
    strict.take(marker("start"), marker("end"), [put("a", -1), update("a", 2)])
    strict.mend(strict.records()[0], 1)
    with strict.journal.view() as db:
        found = [(line.action, line.by) for line in audit_trail.of_record(db, 2)]
    assert found == [("released", "sluice"), ("resolved", "sluice")]
