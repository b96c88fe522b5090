"""What every sink must tell in a history table."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa

from journal.batch import Op
from journal.schema import Column
from tests.sink_batches import EVENTS, ORDERS, Did, delete, insert, many, marker, read, truncate, update
from tests.sink_place import Hand, Place, counted, history


def told(place: Place, table: str = "orders") -> list[dict[str, Any]]:
    """The rows of a history in their order."""
    return sorted((dict(row) for row in place.table(table)), key=lambda row: int(row["_sluice_position"] or 0))


class HistoryConformance:
    def needs(self, capability: str) -> None:
        raise NotImplementedError

    def test_a_history_tells_every_change(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        target = history(ORDERS)
        hand.write(target, read(id="1", name="a", doc="d"), insert(id="2", name="b"))
        hand.write(target, update({"id": "1", "name": "A"}, absent=["doc"]), delete(id="2"), truncate(), insert(id="3", name="c"))
        rows = told(place)
        assert [row["_op"] for row in rows] == ["read", "insert", "update", "delete", "truncate", "insert"]
        assert [row["id"] for row in rows] == ["1", "2", "1", "2", None, "3"]
        assert [row["doc"] for row in rows] == ["d", None, "d", None, None, None]
        assert all(row["_sluice_committed_at"] for row in rows)
        assert [int(row["_sluice_position"]) for row in rows] == [1, 2, 3, 4, 5, 6]
        assert hand.names(target) == {"3": "c"}

    def test_a_history_tells_a_change_of_key_as_one_update(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        target = history(ORDERS)
        hand.write(target, insert(id="1", name="a", doc="d"))
        hand.write(target, update({"id": "5", "name": "a"}, old={"id": "1"}, absent=["doc"]))
        moved = told(place)[-1]
        assert (moved["_op"], moved["id"], moved["doc"]) == ("update", "5", "d")
        assert json.loads(moved["_sluice_old_key"]) == {"id": 1}
        assert hand.names(target) == {"5": "a"}

    def test_a_history_fills_what_was_left_out_from_the_newest_row_of_the_key(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        target = history(ORDERS, filtered=True)
        hand.write(target, insert(id="1", doc="first"), update({"id": "1", "doc": "second"}))
        hand.write(
            target, update({"id": "1", "name": "x"}, absent=["doc"]), update({"id": "1", "name": "y"}, recalled={"doc": "read again"})
        )
        hand.write(target, update({"id": "2", "name": "new here"}, recalled={"doc": "read again"}))
        hand.write(target, update({"id": "3", "name": "gone since"}, absent=["doc"]))
        assert [row["doc"] for row in told(place)] == ["first", "second", "second", "second", "read again"]

    def test_a_history_refuses_a_row_with_a_value_that_nobody_has(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        refused = hand.write(history(ORDERS), insert(id="1"), update({"id": "2"}, absent=["doc"]), insert(id="3"))
        assert [(one.row, one.column) for one in refused] == [(1, "doc")]
        assert [row["id"] for row in told(place)] == ["1", "3"]

    def test_rows_that_leave_the_filter_are_told_as_deletes_if_they_were_there(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        target = history(ORDERS, filtered=True)
        hand.write(target, insert(id="1", name="a"))
        hand.write(target, update({"id": "1", "name": "x"}), update({"id": "2", "name": "x"}), delete(id="3"), leaving=[0, 1])
        hand.write(target, update({"id": "1", "name": "y"}), delete(id="1"), leaving=[0])
        assert [(row["_op"], row["id"], row["name"]) for row in told(place)] == [("insert", "1", "a"), ("delete", "1", None)]
        assert hand.live(target) == []

    def test_a_key_that_was_left_is_not_there_any_more(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        target = history(ORDERS, filtered=True)
        hand.write(target, insert(id="1", name="a", doc="of one"))
        hand.write(target, update({"id": "2", "name": "a"}, old={"id": "1"}, absent=["doc"]))
        hand.write(target, delete(id="1"), update({"id": "1", "name": "another"}, recalled={"doc": "of another"}))
        assert [(row["_op"], row["id"], row["doc"]) for row in told(place)] == [
            ("insert", "1", "of one"), ("update", "2", "of one"), ("update", "1", "of another"),
        ]  # fmt: skip

    def test_a_history_can_ignore_deletes_and_truncates(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        target = history(ORDERS, on_delete="ignore", on_truncate="ignore")
        hand.write(target, insert(id="1"), delete(id="1"), truncate(), insert(id="2"))
        assert [row["_op"] for row in told(place)] == ["insert", "insert"]

    def test_a_change_that_comes_twice_is_told_once(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        target = history(ORDERS)
        for _ in range(2):
            hand.next = 1
            hand.write(target, insert(id="1"), update({"id": "1", "name": "b"}))
        assert len(told(place)) == 2

    def test_a_value_that_does_not_fit_a_history_is_refused_alone(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        target = history(ORDERS)
        refused = hand.write(target, insert(id="1"), insert(id="2", amount="a lot"), insert(id="3"))
        assert [one.row for one in refused] == [1]
        hand.sink.begin()
        amounts = pa.array(["a lot" if i == 200 else "1" for i in range(400)])
        refused = hand.give(target, many(ORDERS, [pa.array(range(400)), amounts, amounts, amounts], Op.INSERT, first=hand.next))
        hand.commit()
        assert [one.row for one in refused] == [200]
        assert len(told(place)) == 401

    def test_a_copy_that_is_made_again_tells_what_has_gone(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        target = history(ORDERS)
        hand.write(target, insert(id="1", name="a"), insert(id="2", name="b"), insert(id="3"), delete(id="3"))
        begun = hand.next
        hand.mark(target, marker(ORDERS, "start", begun))
        hand.next += 1
        hand.write(target, read(id="1", name="A"))
        hand.mark(target, marker(ORDERS, "end", begun))
        assert hand.names(target) == {"1": "A"}
        assert [(row["_op"], row["id"]) for row in told(place)[4:]] == [("delete", "2"), ("read", "1")]

    def test_without_a_key_a_history_counts_equal_rows(self, place: Place, hand: Hand) -> None:
        self.needs("history")
        self.needs("keyless")
        target = history(EVENTS)
        row, other = {"kind": "a", "note": None}, {"kind": "b", "note": "n"}
        hand.write(target, insert(**row), insert(**row), insert(**row), delete(**row))
        hand.write(target, update(other, old=row))
        assert [one["_op"] for one in told(place, "events")] == ["insert", "insert", "insert", "delete", "update"]
        assert counted(hand.live(target)) == hand.as_held(target, [row, other])
        wider = history(replace(EVENTS, columns=(*EVENTS.columns, Column("size", "integer", 3))))
        hand.write(wider, Did(Op.DELETE, {**row, "size": None}), insert(kind="c", note=None, size="1"))
        expected = [{**other, "size": None}, {"kind": "c", "note": None, "size": "1"}]
        assert counted(hand.live(wider)) == hand.as_held(wider, expected)
        begun = hand.next
        hand.mark(wider, marker(EVENTS, "start", begun))
        hand.next += 1
        hand.write(wider, *(read(**one) for one in (expected[0], expected[0])))
        hand.mark(wider, marker(EVENTS, "end", begun))
        assert counted(hand.live(wider)) == hand.as_held(wider, [expected[0], expected[0]])
