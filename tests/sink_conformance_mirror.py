"""What every sink must make of changes in a mirror table."""

from __future__ import annotations

import random

import pytest

from journal.schema import Column, TableSchema
from tests.sink_batches import EVENTS, ORDERS, delete, insert, marker, read, truncate, update
from tests.sink_place import Hand, Place, counted, mirror


class MirrorConformance:
    def needs(self, capability: str) -> None:
        raise NotImplementedError

    def test_an_empty_batch_is_nothing(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        assert not hand.write(target)
        assert hand.live(target) == []

    def test_rows_are_inserted_updated_and_deleted(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a", amount="1.00"), read(id="2", name="b"), insert(id="3"))
        hand.write(target, update({"id": "1", "name": "A", "amount": None}), delete(id="2"))
        expected = [{"id": "1", "name": "A", "amount": None, "doc": None}, {"id": "3", "name": None, "amount": None, "doc": None}]
        assert counted(hand.live(target)) == hand.as_held(target, expected)

    def test_the_same_batch_twice_is_as_good_as_once(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        did = [
            insert(id="1", name="a"),
            insert(id="2", name="b"),
            update({"id": "1", "name": "A"}),
            delete(id="2"),
            insert(id="3", name="c"),
        ]
        hand.write(target, *did)
        hand.next -= len(did)
        hand.write(target, *did)
        assert hand.names(target) == {"1": "A", "3": "c"}

    def test_rows_with_a_single_value_which_is_null_are_rows(self, hand: Hand) -> None:
        target = mirror(TableSchema("lone", (Column("word", "text", 1),), ()))
        hand.write(target, insert(word=None), insert(word="a"), insert(word=None), insert(word=""))
        assert sorted(repr(row["word"]) for row in hand.live(target)) == ["''", "'a'", "None", "None"]

    def test_an_older_change_never_overwrites_a_newer_row(self, hand: Hand) -> None:
        self.needs("looks")
        target = mirror(ORDERS)
        hand.next = 1000
        hand.write(target, insert(id="1", name="newer"), insert(id="2", name="newer"))
        hand.next = 10
        hand.write(target, update({"id": "1", "name": "older"}), delete(id="2"), insert(id="3", name="its own"))
        assert hand.names(target) == {"1": "newer", "2": "newer", "3": "its own"}

    def test_deleting_what_is_not_there_is_nothing(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        assert not hand.write(target, insert(id="1", name="a"), delete(id="7"))
        assert hand.names(target) == {"1": "a"}

    def test_a_changed_key_moves_the_row(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a", doc="d"), insert(id="2", name="b"))
        hand.write(target, update({"id": "5", "name": "a", "doc": "d"}, old={"id": "1"}))
        assert hand.names(target, "doc") == {"5": "d", "2": None}

    def test_a_moved_row_keeps_what_the_log_left_out(self, hand: Hand) -> None:
        self.needs("looks")
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a", doc="one"), insert(id="2", name="b", doc="two"))
        moves = [("1", "3"), ("2", "1"), ("3", "2")]  # swapped by way of a third
        hand.write(target, *(update({"id": to, "name": "m"}, old={"id": old}, absent=["doc"]) for old, to in moves))
        assert hand.names(target, "doc") == {"1": "two", "2": "one"}

    def test_what_the_log_left_out_keeps_its_value(self, hand: Hand) -> None:
        self.needs("looks")
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a", amount="1.00", doc="kept"))
        hand.write(target, update({"id": "1", "name": "A", "amount": None}, absent=["doc"]))
        assert counted(hand.live(target)) == hand.as_held(target, [{"id": "1", "name": "A", "amount": None, "doc": "kept"}])

    def test_what_was_read_again_counts_only_where_the_sink_has_no_row(self, hand: Hand) -> None:
        self.needs("looks")
        target = mirror(ORDERS, filtered=True)
        hand.write(target, insert(id="1", doc="of its time"))
        hand.write(target, update({"id": "1"}, recalled={"doc": "read again"}), update({"id": "2"}, recalled={"doc": "read again"}))
        assert hand.names(target, "doc") == {"1": "of its time", "2": "read again"}

    def test_a_row_with_a_value_that_nobody_has_is_refused(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        refused = hand.write(target, insert(id="1", name="a"), update({"id": "2", "name": "b"}, absent=["doc"]))
        assert [(one.row, one.column) for one in refused] == [(1, "doc")]
        assert hand.names(target) == {"1": "a"}
        behind_a_filter = mirror(ORDERS, filtered=True)
        assert not hand.write(behind_a_filter, update({"id": "2", "name": "b"}, absent=["doc"]))
        assert hand.names(target) == {"1": "a"}

    def test_a_row_without_a_key_is_refused(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        refused = hand.write(target, insert(id="1", name="a"), insert(id=None, name="b"), insert(id="3", name="c"))
        assert [(one.row, one.column) for one in refused] == [(1, "id")]
        assert hand.names(target) == {"1": "a", "3": "c"}

    def test_rows_that_leave_the_filter_go(self, hand: Hand) -> None:
        target = mirror(ORDERS, filtered=True)
        hand.write(target, insert(id="1", name="a"), insert(id="2", name="b"))
        hand.write(target, update({"id": "1", "name": "x"}), update({"id": "7", "name": "x"}), leaving=[0, 1])
        assert hand.names(target) == {"2": "b"}

    def test_a_truncate_empties_the_table_in_its_place(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a"))
        hand.write(target, insert(id="2", name="b"), truncate(), insert(id="1", name="after"))
        assert hand.names(target) == {"1": "after"}

    def test_truncates_and_deletes_can_be_ignored(self, hand: Hand) -> None:
        target = mirror(ORDERS, on_delete="ignore", on_truncate="ignore")
        hand.write(target, insert(id="1", name="a"), insert(id="2", name="b"), delete(id="2"))
        hand.write(target, truncate(), insert(id="3", name="c"), update({"id": "1", "name": "A"}))
        assert hand.names(target) == {"1": "A", "2": "b", "3": "c"}

    def test_a_soft_delete_keeps_the_row_and_says_when(self, place: Place, hand: Hand) -> None:
        self.needs("soft_delete")
        target = mirror(ORDERS, on_delete="soft")
        hand.write(target, insert(id="1", name="a", doc="d"), insert(id="2", name="b"), insert(id="3", name="c"))
        hand.write(target, delete(id="1"), delete(id="9"), update({"id": "2", "name": "x"}), leaving=[2])
        assert hand.names(target) == {"3": "c"}
        rows = {str(row["id"]): row for row in place.table("orders")}
        assert sorted(rows) == ["1", "2", "3"]
        assert (rows["1"]["name"], rows["1"]["doc"], rows["2"]["name"]) == ("a", "d", "b")
        assert rows["1"]["_sluice_deleted_at"] is not None
        assert rows["3"]["_sluice_deleted_at"] is None
        hand.write(target, insert(id="1", name="back"))
        assert hand.names(target) == {"1": "back", "3": "c"}
        assert {row["id"]: row["_sluice_deleted_at"] is None for row in place.table("orders")} == {"1": True, "2": False, "3": True}

    def test_what_is_softly_deleted_lends_no_value_to_a_row_that_comes_back(self, hand: Hand) -> None:
        self.needs("soft_delete")
        target = mirror(ORDERS, on_delete="soft", filtered=True)
        hand.write(target, insert(id="1", name="a", doc="old"), insert(id="2", name="b", doc="old"))
        hand.write(target, update({"id": "1", "name": "x"}), update({"id": "2", "name": "x"}), leaving=[0, 1])
        hand.write(target, update({"id": "1", "name": "in"}, recalled={"doc": "new"}), update({"id": "2", "name": "in"}, absent=["doc"]))
        assert hand.names(target, "doc") == {"1": "new"}

    def test_without_a_key_equal_rows_are_counted(self, hand: Hand) -> None:
        self.needs("keyless")
        target = mirror(EVENTS)
        row, other = {"kind": "a", "note": None}, {"kind": "a", "note": ""}
        hand.write(target, insert(**row), insert(**row), insert(**other), insert(**row))
        hand.write(target, delete(**row), update(other, old=row))
        assert counted(hand.live(target)) == hand.as_held(target, [row, other, other])
        hand.write(target, delete(**row), delete(**row), truncate(), insert(**row))
        assert counted(hand.live(target)) == hand.as_held(target, [row])

    def test_without_a_key_a_soft_delete_marks_one_row(self, place: Place, hand: Hand) -> None:
        self.needs("keyless")
        self.needs("soft_delete")
        target = mirror(EVENTS, on_delete="soft")
        row = {"kind": "a", "note": None}
        hand.write(target, insert(**row), insert(**row))
        hand.write(target, delete(**row))
        assert counted(hand.live(target)) == hand.as_held(target, [row])
        assert len(place.table("events")) == 2

    def test_a_copy_that_is_made_again_sweeps_what_the_source_has_no_longer(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, *(insert(id=str(i), name="old") for i in range(5)))
        begun = hand.next
        hand.mark(target, marker(ORDERS, "start", begun))
        hand.next += 1
        hand.write(target, *(read(id=str(i), name="new") for i in range(3)), read(id="8", name="new"))
        assert len(hand.live(target)) == 6
        hand.mark(target, marker(ORDERS, "end", begun))
        assert hand.names(target) == {"0": "new", "1": "new", "2": "new", "8": "new"}

    def test_a_first_copy_and_one_that_is_given_up_sweep_nothing(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a"))
        for phase, first in (("start", True), ("end", True), ("start", False), ("abandoned", False)):
            hand.mark(target, marker(ORDERS, phase, hand.next, first=first))
            hand.next += 1
        assert hand.names(target) == {"1": "a"}

    def test_a_sweep_of_a_soft_sink_marks_and_one_that_ignores_deletes_keeps(self, place: Place, hand: Hand) -> None:
        self.needs("soft_delete")
        soft, keeping = mirror(ORDERS, "soft", on_delete="soft"), mirror(ORDERS, "keeping", on_delete="ignore")
        for target in (soft, keeping):
            hand.write(target, insert(id="1", name="a"))
            hand.mark(target, marker(ORDERS, "start", hand.next))
            hand.mark(target, marker(ORDERS, "end", hand.next))
            hand.next += 1
        assert hand.names(soft) == {}
        assert len(place.table("soft")) == 1
        assert hand.names(keeping) == {"1": "a"}

    @pytest.mark.parametrize("seed", range(3))
    def test_small_transactions_and_large_ones_come_to_the_same(self, hand: Hand, seed: int) -> None:
        self.needs("looks")
        chance = random.Random(seed)
        one, other = mirror(ORDERS, "one"), mirror(ORDERS, "other")
        did = []
        for i in range(600):
            key = str(chance.randrange(150))
            if i < 150:
                did.append(insert(id=str(i), name=f"n{i}", doc=f"d{i}"))
            elif chance.random() < 0.5:
                did.append(update({"id": key, "name": f"u{i}"}, absent=["doc"]))
            else:
                did.append(update({"id": key, "name": f"w{i}", "doc": f"e{i}"}))
        hand.write(one, *did[:150])
        hand.write(one, *did[150:])
        for i in range(0, 600, 50):
            hand.write(other, *did[i : i + 50])
        assert counted(hand.live(one)) == counted(hand.live(other))
