"""What every sink must do when its dataset's columns change, and with tables that are not as it left them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from journal.schema import Column, TableSchema
from pipeline.errors import SinkShapeError
from tests.sink_batches import EVENTS, ORDERS, delete, insert, update
from tests.sink_place import JOURNAL, Hand, Place, counted, history, mirror

ID, NAME, AMOUNT, DOC = ORDERS.columns


def _schema(*columns: Column, key: tuple[str, ...] = ("id",)) -> TableSchema:
    return TableSchema("orders", columns, key)


class SchemaConformance:
    def needs(self, capability: str) -> None:
        raise NotImplementedError

    def test_a_plan_says_what_preparing_does_and_changes_nothing(self, place: Place) -> None:
        target = mirror(ORDERS)
        planning = place.sink()
        assert any("orders" in statement for statement in planning.plan([target]))
        assert planning.plan([target])  # it is still to be done
        hand = Hand(place)
        hand.write(target, insert(id="1", name="a"))
        assert not planning.plan([target])

    def test_a_plan_says_how_a_table_would_change(self, place: Place) -> None:
        self.needs("schema_change")
        planning = place.sink()
        Hand(place).write(mirror(ORDERS), insert(id="1", name="a"))
        wider = mirror(_schema(*ORDERS.columns, Column("more", "text", 9)))
        assert any("more" in statement for statement in planning.plan([wider]))
        assert "more" not in place.table("orders")[0]

    def test_an_added_column_gives_old_rows_its_default(self, hand: Hand) -> None:
        self.needs("schema_change")
        hand.write(mirror(ORDERS), insert(id="1", name="a"))
        wider = mirror(_schema(*ORDERS.columns, Column("state", "text", 5, default="it's \\new"), Column("note", "integer", 6)))
        hand.write(wider, insert(id="2", name="b", note="7"))
        assert hand.names(wider, "state") == {"1": "it's \\new", "2": None}
        assert hand.names(wider, "note") == {"1": None, "2": "7"}

    def test_a_dropped_column_goes_and_added_again_it_is_a_new_one(self, hand: Hand) -> None:
        self.needs("schema_change")
        hand.write(mirror(ORDERS), insert(id="1", name="a", doc="old"))
        hand.write(mirror(_schema(ID, NAME, AMOUNT)), insert(id="2", name="b"))
        again = mirror(_schema(ID, NAME, AMOUNT, replace(DOC, attnum=9)))
        hand.write(again, insert(id="3", doc="new"))
        assert hand.names(again, "doc") == {"1": None, "2": None, "3": "new"}

    def test_a_column_dropped_and_added_again_at_once_is_a_new_one(self, hand: Hand) -> None:
        self.needs("schema_change")
        hand.write(mirror(ORDERS), insert(id="1", name="a", doc="old"))
        again = mirror(_schema(ID, NAME, AMOUNT, Column("doc", "integer", 9)))
        hand.write(again, insert(id="2", doc="5"))
        assert hand.names(again, "doc") == {"1": None, "2": "5"}

    def test_a_renamed_column_keeps_its_values(self, hand: Hand) -> None:
        self.needs("schema_change")
        hand.write(mirror(ORDERS), insert(id="1", name="a", doc="d"))
        renamed = mirror(_schema(ID, replace(NAME, name="title"), AMOUNT, DOC))
        hand.write(renamed, update({"id": "1", "title": "A"}, absent=["doc"]), insert(id="2", title="b"))
        assert hand.names(renamed, "title") == {"1": "A", "2": "b"}
        assert hand.names(renamed, "doc") == {"1": "d", "2": None}

    def test_columns_that_swap_their_names_keep_their_values(self, hand: Hand) -> None:
        self.needs("schema_change")
        hand.write(mirror(ORDERS), insert(id="1", name="a", doc="d"))
        swapped = mirror(_schema(ID, replace(NAME, name="doc"), AMOUNT, replace(DOC, name="name")))
        hand.write(swapped, insert(id="2", name="b", doc="e"))
        assert hand.names(swapped, "name") == {"1": "d", "2": "b"}
        assert hand.names(swapped, "doc") == {"1": "a", "2": "e"}

    def test_a_renamed_key_is_still_the_key(self, hand: Hand) -> None:
        self.needs("schema_change")
        hand.write(mirror(ORDERS), insert(id="1", name="a"))
        renamed = mirror(_schema(replace(ID, name="number"), NAME, AMOUNT, DOC, key=("number",)))
        hand.write(renamed, update({"number": "1", "name": "A"}), insert(number="2", name="b"))
        assert {row["number"]: row["name"] for row in hand.live(renamed)} == {"1": "A", "2": "b"}

    def test_a_widened_column_keeps_its_values_and_takes_larger_ones(self, hand: Hand) -> None:
        self.needs("schema_change")
        hand.write(mirror(ORDERS), insert(id="1", name="a", amount="1.50"))
        wide = mirror(_schema(replace(ID, type="bigint"), NAME, replace(AMOUNT, type="numeric(20,2)"), DOC))
        hand.write(wide, insert(id="9876543210", amount="123456789012345678.25"), update({"id": "1", "name": "A", "amount": "1.50"}))
        assert hand.names(wide, "amount") == {"1": "1.50", "9876543210": "123456789012345678.25"}

    def test_a_narrowed_column_is_refused_and_nothing_is_lost(self, hand: Hand) -> None:
        self.needs("schema_change")
        hand.write(mirror(ORDERS), insert(id="1", name="a", amount="1.50"))
        hand.sink.begin()
        with pytest.raises(SinkShapeError) as met:
            hand.sink.prepare(mirror(_schema(ID, NAME, replace(AMOUNT, type="integer"), DOC)))
        hand.sink.rollback()
        assert met.value.hint
        assert "amount" in met.value.message
        assert hand.names(mirror(ORDERS), "amount") == {"1": "1.50"}

    def test_a_changed_shape_is_part_of_its_transaction(self, hand: Hand) -> None:
        self.needs("schema_change")
        self.needs("transactions")
        hand.write(mirror(ORDERS), insert(id="1", name="a"))
        wider = mirror(_schema(*ORDERS.columns, Column("state", "text", 5)))
        hand.sink.begin()
        hand.put(wider, insert(id="2", state="new"))
        hand.sink.rollback()
        hand.write(mirror(ORDERS), insert(id="3", name="c"))
        assert hand.names(mirror(ORDERS)) == {"1": "a", "3": "c"}
        hand.write(wider, insert(id="2", state="new"))
        assert hand.names(wider, "state") == {"1": None, "2": "new", "3": None}

    def test_rows_before_and_after_a_change_of_shape_go_in_together(self, hand: Hand) -> None:
        self.needs("schema_change")
        wider = mirror(_schema(*ORDERS.columns, Column("state", "text", 5)))
        hand.sink.begin()
        hand.put(mirror(ORDERS), insert(id="1", name="a"))
        hand.put(wider, insert(id="2", name="b", state="s"), update({"id": "1", "name": "A", "state": "t"}))
        hand.commit()
        assert hand.names(wider, "state") == {"1": "t", "2": "s"}

    def test_without_a_key_rows_are_still_found_after_a_change_of_shape(self, hand: Hand) -> None:
        self.needs("schema_change")
        self.needs("keyless")
        hand.write(mirror(EVENTS), insert(kind="a", note="n"), insert(kind="a", note="n"), insert(kind="b", note=None))
        wider = mirror(replace(EVENTS, columns=(*EVENTS.columns, Column("size", "integer", 3, default="7"))))
        hand.write(wider, delete(kind="a", note="n", size="7"))
        assert counted(hand.live(wider)) == hand.as_held(wider, [{"kind": k, "note": n, "size": "7"} for k, n in (("a", "n"), ("b", None))])
        narrower = mirror(TableSchema("events", wider.schema.columns[:1]))
        hand.write(narrower, delete(kind="b"))
        assert counted(hand.live(narrower)) == hand.as_held(narrower, [{"kind": "a"}])

    def test_another_key_is_followed(self, hand: Hand) -> None:
        self.needs("schema_change")
        hand.write(mirror(ORDERS), insert(id="1", name="a"), insert(id="2", name="b"))
        by_name = mirror(_schema(*ORDERS.columns, key=("name",)))
        hand.write(by_name, update({"id": "7", "name": "a"}), insert(id="8", name="c"))
        assert {row["name"]: row["id"] for row in hand.live(by_name)} == {"a": "7", "b": "2", "c": "8"}

    def test_a_table_that_is_not_ours_is_left_alone(self, place: Place, hand: Hand) -> None:
        self.needs("own_tables")
        place.make_foreign_table("orders")
        hand.sink.begin()
        with pytest.raises(SinkShapeError) as met:
            hand.sink.prepare(mirror(ORDERS))
        hand.sink.rollback()
        assert met.value.hint
        assert "orders" in met.value.message

    def test_a_table_of_another_sink_is_left_alone(self, place: Place, hand: Hand) -> None:
        self.needs("own_tables")
        hand.write(mirror(ORDERS), insert(id="1", name="a"))
        hand.sink.rest()
        other = Hand(place, "other")
        other.sink.begin()
        with pytest.raises(SinkShapeError):
            other.sink.prepare(mirror(ORDERS))
        other.sink.rollback()

    def test_a_mirror_does_not_become_a_history(self, hand: Hand) -> None:
        self.needs("history")
        hand.write(mirror(ORDERS), insert(id="1", name="a"))
        hand.sink.begin()
        with pytest.raises(SinkShapeError):
            hand.sink.prepare(history(ORDERS))
        hand.sink.rollback()

    def test_a_table_can_begin_and_cease_to_keep_what_is_deleted(self, hand: Hand) -> None:
        self.needs("soft_delete")
        hand.write(mirror(ORDERS), insert(id="1", name="a"), insert(id="2", name="b"))
        soft = mirror(ORDERS, on_delete="soft")
        hand.write(soft, delete(id="1"))
        assert hand.names(soft) == {"2": "b"}
        hand.write(mirror(ORDERS), insert(id="3", name="c"))
        assert hand.names(mirror(ORDERS)) == {"2": "b", "3": "c"}

    def test_a_table_that_was_dropped_is_made_anew_and_its_dataset_goes_there_differently(self, place: Place, hand: Hand) -> None:
        self.needs("dropped_tables")
        hand.cursor = replace(hand.cursor, routes={"orders": "as it is"})
        hand.write(mirror(ORDERS), insert(id="1", name="a"))
        hand.sink.close()
        place.drop_table("orders")
        held = hand.sink.open(JOURNAL)
        assert held is not None
        assert held.routes["orders"] != "as it is"
        hand.write(mirror(ORDERS), insert(id="2", name="b"))
        assert hand.names(mirror(ORDERS)) == {"2": "b"}
