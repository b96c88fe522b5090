"""What every sink must survive: subclass `SinkConformance` and give it a `place` fixture, an empty target of the test's own.

    class TestMySink(SinkConformance):
        lacks = {"history": "it keeps only what is"}

        @pytest.fixture
        def place(self, tmp_path): ...

Each capability that a sink does not have is skipped by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pyarrow as pa
import pytest

from pipeline.errors import TerminalError, TransientError
from tests.sink_batches import ORDERS, delete, insert, update
from tests.sink_conformance_history import HistoryConformance
from tests.sink_conformance_mirror import MirrorConformance
from tests.sink_conformance_model import ModelConformance
from tests.sink_conformance_schema import SchemaConformance
from tests.sink_conformance_values import ValueConformance
from tests.sink_place import JOURNAL, Hand, Place, mirror

# looks: at the rows that it holds, and continues them. own_tables: it tells those that it made from others.
CAPABILITIES = (
    "transactions", "schema_change", "history", "soft_delete", "keyless", "fencing", "away", "permissions", "dropped_tables", "looks",
    "own_tables", "any_name",
)  # fmt: skip


class SinkConformance(MirrorConformance, ValueConformance, SchemaConformance, HistoryConformance, ModelConformance):
    lacks: ClassVar[Mapping[str, str]] = {}
    """Capabilities that the sink does not have, and why."""

    text_identical: ClassVar[bool] = False
    """Whether every value comes back as it went in, and none is refused."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def hand(self, place: Place) -> Hand:
        return Hand(place)

    def needs(self, capability: str) -> None:
        assert capability in CAPABILITIES
        if capability in self.lacks:
            pytest.skip(f"{capability}: {self.lacks[capability]}")

    def test_a_new_target_holds_nothing(self, place: Place) -> None:
        assert place.sink().open(JOURNAL) is None

    def test_the_target_says_what_it_holds(self, place: Place, hand: Hand) -> None:
        hand.write(mirror(ORDERS), insert(id="1"))
        hand.sink.close()
        held = place.sink().open(JOURNAL)
        assert held is not None
        assert (held.journal, held.seq) == (JOURNAL, 1)

    def test_a_target_that_another_journal_feeds_is_refused(self, place: Place, hand: Hand) -> None:
        hand.write(mirror(ORDERS), insert(id="1"))
        hand.sink.close()
        with pytest.raises(TerminalError, match="journal"):
            place.sink().open("another-journal")
        assert place.sink().open(JOURNAL) is not None

    def test_nothing_of_a_transaction_that_is_rolled_back_stays(self, place: Place, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a"))
        hand.sink.begin()
        hand.put(target, insert(id="2"), update({"id": "1", "name": "b"}))
        hand.sink.rollback()
        hand.sink.rollback()
        assert hand.names(target) == {"1": "a"}
        hand.write(target, insert(id="3", name="c"))
        assert hand.names(target) == {"1": "a", "3": "c"}

    @pytest.mark.parametrize("moment", ["before write", "in mid write", "before commit", "after commit, before the answer"])
    def test_a_crash_loses_nothing_and_doubles_nothing(self, place: Place, hand: Hand, moment: str) -> None:
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a"))
        hand.sink.begin()
        steps = [lambda: hand.put(target, insert(id="2", name="b")), lambda: hand.put(target, delete(id="1")), hand.commit]
        for step in steps[: ["before write", "in mid write", "before commit", "after commit, before the answer"].index(moment)]:
            step()
        place.crash(hand.sink)
        again = Hand(place)
        assert again.cursor.seq == (2 if moment.startswith("after") else 1)
        assert again.names(target) == ({"2": "b"} if moment.startswith("after") else {"1": "a"})
        if again.cursor.seq == 1:
            again.write(target, insert(id="2", name="b"), delete(id="1"))
        assert again.names(target) == {"2": "b"}

    def test_of_two_writers_the_older_one_is_fenced_off(self, place: Place, hand: Hand) -> None:
        self.needs("fencing")
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a"))
        newer = Hand(place)
        hand.sink.begin()

        def write_on() -> None:
            hand.put(target, insert(id="2", name="from the older one"))
            hand.commit()

        with pytest.raises(TerminalError):
            write_on()
        hand.sink.rollback()
        newer.write(target, insert(id="3", name="c"))
        assert newer.names(target) == {"1": "a", "3": "c"}

    def test_a_target_that_was_away_is_as_it_was_when_it_is_back(self, place: Place, hand: Hand) -> None:
        self.needs("away")
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a"))
        hand.sink.begin()
        hand.put(target, insert(id="2", name="lost"))

        def write_on() -> None:
            hand.put(target, insert(id="3", name="lost too"))
            hand.commit()

        with place.away():
            with pytest.raises(TransientError) as met:
                write_on()
            assert met.value.hint
            hand.sink.rollback()
            with pytest.raises(TransientError):
                hand.sink.open(JOURNAL)
        held = hand.sink.open(JOURNAL)
        assert held is not None
        assert held.seq == 1
        hand.write(target, insert(id="2", name="b"))
        assert hand.names(target) == {"1": "a", "2": "b"}

    def test_missing_permissions_are_named_with_what_to_do(self, place: Place) -> None:
        self.needs("permissions")
        with pytest.raises(TerminalError) as met:
            place.powerless().open(JOURNAL)
        assert met.value.hint

    def test_resting_changes_nothing(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a"))
        hand.sink.rest()
        hand.write(target, insert(id="2", name="b"))
        hand.sink.rest()
        assert hand.names(target) == {"1": "a", "2": "b"}

    def test_rows_are_read_by_key(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, *(insert(id=str(i), name=f"n{i}") for i in range(10)))
        found = [row for table in hand.sink.read(target, pa.table({"id": ["3", "7", "77"]})) for row in table.to_pylist()]
        assert {row["id"]: row["name"] for row in found} == {"3": "n3", "7": "n7"}

    def test_reading_goes_on_beside_a_writer(self, hand: Hand) -> None:
        target = mirror(ORDERS)
        hand.write(target, insert(id="1", name="a"))
        hand.sink.begin()
        hand.put(target, insert(id="2", name="not yet"))
        if "transactions" not in self.lacks:
            assert hand.names(target) == {"1": "a"}
        hand.commit()
        assert hand.names(target) == {"1": "a", "2": "not yet"}
