"""What every sink must do with values, sizes and names of every kind."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

from journal.batch import Op
from journal.schema import Column, TableSchema
from pipeline.errors import SinkShapeError
from tests.sink_batches import ORDERS, delete, insert, many, update
from tests.sink_place import Hand, counted, mirror
from tests.sink_types import VALUES, WRONG


class ValueConformance:
    text_identical: ClassVar[bool]

    def needs(self, capability: str) -> None:
        raise NotImplementedError

    @pytest.mark.parametrize("kind", VALUES)
    def test_values_are_held_as_they_are_or_refused(self, hand: Hand, kind: str) -> None:
        schema = TableSchema("kinds", (Column("id", "integer", 1), Column("v", kind, 2)), ("id",))
        target = mirror(schema)
        rows = [{"id": str(i), "v": value} for i, value in enumerate((*VALUES[kind], None))]
        refused = {one.row for one in hand.write(target, *(insert(**row) for row in rows))}
        assert not (refused and self.text_identical)
        held = [row for i, row in enumerate(rows) if i not in refused]
        assert len(rows) - 1 not in refused  # null is always possible
        assert counted(hand.live(target)) == (counted(held) if self.text_identical else hand.as_held(target, held))
        # the same by way of many rows at once
        n = 300
        column = pa.array([rows[i % len(rows)]["v"] for i in range(n) if i % len(rows) not in refused], pa.string())
        hand.sink.begin()
        batch = many(schema, [pa.array(range(1000, 1000 + len(column))), column], Op.UPDATE, first=hand.next)
        assert not hand.give(target, batch)
        hand.commit()
        found = {int(str(row["id"])): row["v"] for row in hand.live(target)}
        texts = {row["v"] for row in held}
        assert {found[1000 + i] for i in range(len(column))} == {found[int(str(row["id"]))] for row in held}
        assert not self.text_identical or {found[1000 + i] for i in range(len(column))} == texts

    @pytest.mark.parametrize("kind", WRONG)
    @pytest.mark.parametrize("size", [3, 1000])
    def test_a_value_that_does_not_fit_is_refused_and_its_neighbours_go_in(self, hand: Hand, kind: str, size: int) -> None:
        schema = TableSchema("wrong", (Column("id", "integer", 1), Column("v", kind, 2)), ("id",))
        target = mirror(schema)
        good = VALUES[kind][0]
        bad = {1, size - 1}
        values = [WRONG[kind] if i in bad else good for i in range(size)]
        hand.sink.begin()
        refused = hand.give(target, many(schema, [pa.array(range(size)), pa.array(values)], Op.INSERT, first=hand.next))
        hand.commit()
        assert {one.row for one in refused} == bad
        assert all(one.column in ("v", None) and one.message for one in refused)
        assert {int(str(row["id"])) for row in hand.live(target)} == set(range(size)) - bad

    def test_when_the_last_change_of_a_key_is_refused_the_one_before_it_counts(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a"))
        bad = {"id": "1", "name": "worse", "amount": "a lot"}
        refused = hand.write(target, update({"id": "1", "name": "better"}), update(bad), insert(id="2", name="b"))
        assert [one.row for one in refused] == [1]
        assert hand.names(target) == {"1": "better", "2": "b"}

    def test_a_row_of_ten_megabytes_goes_in(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        doc = "0123456789" * 1_000_000
        hand.write(target, insert(id="1", doc=doc))
        assert hand.names(target, "doc") == {"1": doc}

    def test_values_of_ten_megabytes_go_in_among_many_rows(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        docs = pa.array(["é" * 5_000_000 if i == 150 else f"d{i}" for i in range(300)])
        ids = pa.array(range(300))
        hand.sink.begin()
        hand.give(target, many(ORDERS, [ids, ids, ids, docs], Op.INSERT, first=hand.next))
        hand.next += 300
        hand.give(target, many(ORDERS, [ids, ids, ids, docs], Op.UPDATE, first=hand.next))
        hand.commit()
        assert hand.names(target, "doc") == {str(i): doc.as_py() for i, doc in enumerate(docs)}

    @pytest.mark.parametrize("n", [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
    def test_many_rows_go_in_are_changed_and_go(self, hand: Hand, n: int) -> None:
        target = mirror(ORDERS)
        ids = pa.array(np.arange(n))
        hand.sink.begin()
        hand.give(target, many(ORDERS, [ids, ids, ids, ids], Op.INSERT, first=1))
        half = ids.slice(0, n // 2)
        hand.give(target, many(ORDERS, [half, pa.nulls(n // 2), half, half], Op.UPDATE, first=n + 1))
        hand.give(target, many(ORDERS, [half.slice(0, n // 4)] * 4, Op.DELETE, first=2 * n + 1))
        hand.commit()
        found = pa.concat_tables(hand.sink.read(target, None))
        assert found.num_rows == n - n // 4
        assert found["name"].null_count == n // 4
        assert len(found["id"].unique()) == n - n // 4

    @pytest.mark.parametrize(
        "name",
        [
            'a "quoted" name',
            "it's",
            "select",
            "Capital Letters",
            "percent % %s {x} $1",
            "naïve 漢字 🙂",
            "x" * 63,
            "a.b",
            "a;--",
            "\\back",
            "c0",
            " ",
        ],
    )
    def test_hostile_names_are_only_names(self, hand: Hand, name: str) -> None:
        self.needs("any_name")
        columns = (Column(name, "text", 1), Column("ordinary", "integer", 2), Column(f"{name[:61]}2", "text", 3))
        schema = TableSchema(name, columns, (name,))
        for target in (mirror(schema, name), mirror(schema, f"{name[:59]}soft", on_delete="soft")):
            hand.write(target, insert(**{name: "k", "ordinary": "1", columns[2].name: "d"}), insert(**{name: "l"}))
            hand.write(target, update({name: "k", "ordinary": "2"}, absent=[columns[2].name]), delete(**{name: "l"}))
            assert hand.live(target) == [{name: "k", "ordinary": "2", columns[2].name: "d"}]
            hand.sink.begin()
            keys = pa.array([f"m{i}" for i in range(300)])
            hand.give(target, many(schema, [keys, pa.array([7] * 300), keys], Op.UPDATE, first=hand.next))
            hand.next += 300
            hand.commit()
            assert len(hand.live(target)) == 301

    def test_a_column_with_a_name_of_sluice_is_refused(self, hand: Hand) -> None:
        schema = TableSchema("clash", (Column("id", "integer", 1), Column("_sluice_position", "text", 2)), ("id",))
        hand.sink.begin()
        with pytest.raises(SinkShapeError, match="_sluice_position"):
            hand.sink.prepare(mirror(schema))
        hand.sink.rollback()
