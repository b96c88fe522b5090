"""The keys of a DuckDB sink's tables: how a row is found, and that each is there once, through copies and crashes."""

from __future__ import annotations

import uuid
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from journal.batch import CopyMarker, Op
from journal.schema import Column, TableSchema
from pipeline.errors import TransientError
from sinks.base import NO_ROWS, Cursor
from sinks.duckdb import DuckDBConfig, DuckDBSink
from tests.fix_duckdb import FilePlace, key_of
from tests.sink_batches import ORDERS, delete, insert, many, marker, read, update
from tests.sink_place import JOURNAL, Hand, counted, mirror
from tests.sink_types import VALUES

TARGET = mirror(ORDERS)


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind not in ("json", "numeric")])
def test_a_key_of_any_type_finds_its_row(place: FilePlace, hand: Hand, kind: str) -> None:
    target = mirror(TableSchema("keyed", (Column("id", kind, 1), Column("v", "text", 2)), ("id",)))
    values = [value for value in VALUES[kind] if len(value) < 1000]
    refused = {one.row for one in hand.write(target, *(insert(id=value, v="old") for value in values))}
    values = [value for i, value in enumerate(values) if i not in refused]
    assert values
    hand.write(target, *(update({"id": value, "v": "new"}) for value in values))
    assert counted(hand.live(target)) == hand.as_held(target, [{"id": value, "v": "new"} for value in values])
    keys = pa.table({"id": [row["id"] for row in hand.live(target)]})
    assert sum(rows.num_rows for rows in hand.sink.read(target, keys)) == len(values)
    assert key_of(hand, place, "keyed") == ["id"]
    hand.write(target, *(delete(id=value) for value in values))
    assert hand.live(target) == []


def test_the_key_is_the_primary_key(place: FilePlace, hand: Hand) -> None:
    schema = TableSchema("pairs", (Column("a", "integer", 1), Column("b", "text", 2), Column("c", "text", 3)), ("b", "a"))
    hand.write(mirror(schema), insert(a="1", b="x"))
    assert key_of(hand, place, "pairs") == ["b", "a"]


def test_a_first_copy_gets_its_key_when_it_is_over(place: FilePlace, hand: Hand) -> None:
    hand.mark(TARGET, marker(ORDERS, "start", hand.next, first=True))
    hand.write(TARGET, *(read(id=str(i), name="copied") for i in range(100)))
    assert key_of(hand, place) == []
    hand.write(TARGET, *(read(id=str(i), name="copied") for i in range(100, 200)))
    hand.mark(TARGET, marker(ORDERS, "end", 1, first=True))
    assert key_of(hand, place) == ["id"]
    hand.write(TARGET, insert(id="200", name="streamed"), update({"id": "7", "name": "streamed"}))
    names = hand.names(TARGET)
    assert (len(names), names["7"], names["8"]) == (201, "streamed", "copied")


def test_a_copy_that_is_begun_again_has_each_row_once(place: FilePlace, hand: Hand) -> None:
    hand.mark(TARGET, marker(ORDERS, "start", hand.next, first=True))
    hand.next += 1
    hand.write(TARGET, *(read(id=str(i), name="first") for i in range(10)))
    hand.sink.close()
    again = Hand(place)
    again.next = 5000
    again.mark(TARGET, marker(ORDERS, "start", 4999))
    again.write(TARGET, *(read(id=str(i), name="second") for i in range(5)), read(id="11", name="second"))
    again.mark(TARGET, marker(ORDERS, "end", 4999))
    assert again.names(TARGET) == dict.fromkeys(["0", "1", "2", "3", "4", "11"], "second")
    assert key_of(again, place) == ["id"]


def test_a_copy_goes_on_where_a_crash_left_it(place: FilePlace, hand: Hand) -> None:
    hand.mark(TARGET, marker(ORDERS, "start", hand.next, first=True))
    hand.write(TARGET, *(read(id=str(i)) for i in range(10)))
    place.crash(hand.sink)
    again = Hand(place)
    again.write(TARGET, *(read(id=str(i)) for i in range(10, 20)))
    again.sink.begin()
    again.sink.mark(TARGET, marker(ORDERS, "end", 1, first=True))
    place.crash(again.sink)
    last = Hand(place)
    last.mark(TARGET, marker(ORDERS, "end", 1, first=True))
    assert len(last.names(TARGET)) == 20
    assert key_of(last, place) == ["id"]


def test_changes_among_a_copy_are_taken_in_their_order(place: FilePlace, hand: Hand) -> None:
    hand.mark(TARGET, marker(ORDERS, "start", hand.next, first=True))
    hand.write(TARGET, *(read(id=str(i), name="copied") for i in range(5)))
    hand.write(TARGET, update({"id": "1", "name": "changed"}), delete(id="2"), insert(id="9", name="new"))
    hand.write(TARGET, read(id="5", name="copied"), read(id="1", name="copied again"))
    hand.mark(TARGET, marker(ORDERS, "end", 1, first=True))
    assert hand.names(TARGET) == {"0": "copied", "1": "copied again", "3": "copied", "4": "copied", "5": "copied", "9": "new"}
    assert key_of(hand, place) == ["id"]


def test_of_copied_rows_with_one_key_the_newest_stays(place: FilePlace, hand: Hand) -> None:
    hand.mark(TARGET, marker(ORDERS, "start", hand.next, first=True))
    hand.write(TARGET, read(id="1", name="a"), read(id="2", name="b"))
    hand.write(TARGET, read(id="1", name="newer"))
    hand.mark(TARGET, marker(ORDERS, "end", 1, first=True))
    assert hand.names(TARGET) == {"1": "newer", "2": "b"}
    assert key_of(hand, place) == ["id"]


def test_a_key_for_which_memory_does_not_suffice_is_done_without_and_nothing_goes_wrong(tmp_path: Path) -> None:
    place = FilePlace(tmp_path / "warehouse.duckdb")
    schema = TableSchema("big", (Column("id", "uuid", 1), Column("v", "text", 2)), ("id",))
    target = mirror(schema)
    sink = DuckDBSink("out", DuckDBConfig(path=place.path, memory_limit="40MB"), "test")
    sink.open(JOURNAL)
    sink.begin()
    sink.prepare(target)
    sink.mark(target, CopyMarker(schema, "s", "t", "start", 0, first=True))
    n = 1_000_000
    chance = np.random.default_rng(0)
    ids = pa.array([str(uuid.UUID(int=int.from_bytes(chance.bytes(16), "big"))) for _ in range(n // 10)])
    for part in range(10):
        more = pa.array([f"{part}{text[1:]}" for text in ids.to_pylist()])
        assert not sink.write(target, many(schema, [more, more], Op.READ, first=part * len(ids) + 1), NO_ROWS)
    sink.mark(target, CopyMarker(schema, "s", "t", "end", 0, first=True))
    sink.commit(Cursor(JOURNAL, 1))
    sink.begin()
    changed = pa.array([f"5{text[1:]}" for text in ids.slice(0, 100).to_pylist()])
    assert not sink.write(target, many(schema, [changed, pa.array(["new"] * 100)], Op.UPDATE, first=2 * n), NO_ROWS)
    assert not sink.write(target, many(schema, [changed.slice(0, 10), changed.slice(0, 10)], Op.DELETE, first=3 * n), NO_ROWS)
    sink.commit(Cursor(JOURNAL, 2))
    sink.close()
    with duckdb.connect(str(place.path)) as connection:
        counts = connection.execute("SELECT count(*), count(DISTINCT id), count(*) FILTER (v = 'new') FROM big").fetchall()
        assert counts == [(n - 10, n - 10, 90)]
        assert (
            connection.execute("SELECT * FROM duckdb_constraints() WHERE table_name = 'big' AND constraint_type = 'PRIMARY KEY'").fetchall()
            == []
        )
    enough = DuckDBSink("out", DuckDBConfig(path=place.path, memory_limit="2GB"), "test")
    enough.open(JOURNAL)
    enough.begin()
    enough.prepare(target)
    enough.commit(Cursor(JOURNAL, 3))
    enough.close()
    with duckdb.connect(str(place.path)) as connection:
        assert (
            len(
                connection.execute(
                    "SELECT * FROM duckdb_constraints() WHERE table_name = 'big' AND constraint_type = 'PRIMARY KEY'"
                ).fetchall()
            )
            == 1
        )


def test_a_key_that_goes_and_comes_again_in_one_transaction_is_there_once(hand: Hand) -> None:
    hand.write(TARGET, insert(id="1", name="a"), insert(id="2", name="b"))
    hand.write(TARGET, delete(id="1"), insert(id="1", name="again"))
    hand.sink.begin()
    hand.put(TARGET, delete(id="2"))
    hand.put(TARGET, insert(id="2", name="again"), update({"id": "3", "name": "moved"}, old={"id": "1"}))
    hand.put(TARGET, insert(id="1", name="new"))
    hand.commit()
    assert hand.names(TARGET) == {"1": "new", "2": "again", "3": "moved"}


def test_a_row_that_is_new_at_the_source_and_there_already_is_written_over_at_the_second_try(hand: Hand) -> None:
    hand.write(TARGET, insert(id="1", name="a"), insert(id="2", name="b"))
    hand.sink.begin()
    hand.put(TARGET, insert(id="1", name="other"), insert(id="3", name="c"))
    with pytest.raises(TransientError, match="already"):
        hand.commit()
    hand.sink.rollback()
    held = hand.sink.open(JOURNAL)
    assert held is not None
    hand.cursor = held
    hand.write(TARGET, insert(id="1", name="other"), insert(id="3", name="c"))
    assert hand.names(TARGET) == {"1": "other", "2": "b", "3": "c"}


def test_after_an_error_nothing_of_the_transaction_can_be_committed(hand: Hand) -> None:
    hand.write(TARGET, insert(id="1", name="a"))
    hand.sink.begin()
    hand.put(TARGET, insert(id="2", name="b"), insert(id="1", name="other"))
    with pytest.raises(TransientError, match="already"):
        hand.commit()
    with pytest.raises(TransientError):
        hand.commit()
    hand.sink.rollback()
    assert hand.names(TARGET) == {"1": "a"}
