"""Keys of records in quarantine: which newer changes of them have passed, and in which order the records of a key stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from msgspec import structs

from journal.batch import ChangeBatch, Op
from journal.key_hash import key_hashes
from journal.local import JournalWriter
from journal.quarantine import QuarantineRecord, Wanted, key_text
from journal.schema import Column, TableSchema
from journal.sitting import keys_of, old_key
from tests import journal_cases
from tests.journal_cases import SOURCE, marker, opened, reading

ORDERS = journal_cases.ORDERS


def _held(writer: JournalWriter, ordinal: int, key: str | None = "1", *, before: str | None = None) -> QuarantineRecord:
    """A record of an insert; with `before` of an update that has changed the key."""
    one = structs.replace(journal_cases.record(writer.id, ordinal), key={"id": key})
    return one if before is None else structs.replace(one, operation="update", before={"id": before})


def _changes(first: int, op: Op, *ids: str | None, old: Mapping[int, str] | None = None) -> ChangeBatch:
    n = len(ids)
    nothing = pa.nulls(n, pa.string())
    batch = replace(
        journal_cases.changes(first, n, op=op), columns=(pa.array(ids, pa.string()), nothing, nothing), ordinal=np.arange(first, first + n)
    )
    if old is None:
        return batch
    return replace(batch, old={0: pa.array([old.get(row) for row in range(n)])}, has_old=np.array([row in old for row in range(n)]))


def _pass(writer: JournalWriter, batch: ChangeBatch) -> None:
    writer.append(batch)
    writer.sitting.passed(batch)


def _newest(writer: JournalWriter, *ids: str) -> list[int]:
    return [writer.sitting.newest("orders", {"id": one}) for one in ids]


@pytest.mark.parametrize("op", [Op.INSERT, Op.UPDATE, Op.DELETE, Op.READ])
def test_a_change_that_passes_is_noted_for_the_keys_that_sit_and_for_no_others(tmp_path: Path, op: Op) -> None:
    with opened(tmp_path) as writer:
        writer.quarantine([_held(writer, 1), _held(writer, 2, "2")])
        _pass(writer, _changes(3, op, "3", "1", "4", "1"))
        assert _newest(writer, "1", "2", "3") == [6, 0, 0]


def test_an_update_that_changes_a_key_concerns_both_keys(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.quarantine([_held(writer, 1, "1"), _held(writer, 2, "2"), _held(writer, 3, "5", before="4")])
        _pass(writer, _changes(4, Op.UPDATE, "2", "9", old={0: "1", 1: "4"}))
        assert _newest(writer, "1", "2", "4", "5") == [4, 4, 5, 0]


def test_a_record_of_a_changed_key_knows_what_is_newer_of_each_of_its_keys(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        moved, put = _held(writer, 1, "2", before="1"), _held(writer, 2, "2")
        writer.quarantine([moved, put])
        assert writer.sitting.newer(moved) == (0, 0)
        _pass(writer, _changes(3, Op.DELETE, "2"))
        assert writer.sitting.newer(moved) == (3, 0)
        assert old_key(moved) == {"id": "1"}
        _pass(writer, _changes(4, Op.INSERT, "1"))
        assert writer.sitting.newer(moved) == (3, 4)
        assert writer.sitting.newer(put) == (3, 3)


def test_a_truncate_is_newer_than_every_key_of_its_dataset(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        keyless = structs.replace(_held(writer, 3), key={})
        writer.quarantine([_held(writer, 1), _held(writer, 2, "2"), keyless, structs.replace(_held(writer, 4), dataset="lines")])
        _pass(writer, _changes(5, Op.TRUNCATE, None))
        assert _newest(writer, "1", "2") == [5, 5]
        assert writer.sitting.newest("orders", {}) == 5
        assert writer.sitting.newest("lines", {"id": "1"}) == 0


def test_what_a_copy_has_not_brought_is_gone_and_what_it_has_brought_is_newer(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        elsewhere = structs.replace(_held(writer, 3, "3"), table="public.old_orders")
        writer.quarantine([_held(writer, 1), _held(writer, 2, "2"), elsewhere])
        writer.mark(marker("start", 4))
        _pass(writer, _changes(5, Op.READ, "2"))
        writer.quarantine([_held(writer, 6, "1")])  # the copy brings the bad row again
        writer.sitting.copied(marker("end", 4))
        assert _newest(writer, "1", "2", "3") == [4, 5, 0]


def test_records_of_a_key_are_counted_and_the_last_one_takes_it_away(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        first, second = _held(writer, 1), _held(writer, 2)
        writer.quarantine([first, second])
        _pass(writer, _changes(3, Op.UPDATE, "1"))
        writer.sitting.remove([first])
        writer.sitting.remove([first])
        assert _newest(writer, "1") == [3]
        writer.sitting.remove([second])
        assert _newest(writer, "1") == [0]
        _pass(writer, _changes(4, Op.UPDATE, "1"))
        assert _newest(writer, "1") == [0]


def test_the_records_of_a_key_stand_in_order_until_something_newer_passes(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        first, moved, third, other = _held(writer, 1), _held(writer, 2, "2", before="1"), _held(writer, 3, "2"), _held(writer, 4, "1")
        writer.quarantine([first, moved, third, other])
        sitting = writer.sitting

        def ahead(*records: QuarantineRecord) -> dict[int, set[int]]:
            return sitting.ahead([(one.dataset, key_text(key), one.ordinal) for one in records for key in keys_of(one)])

        assert ahead(first, moved, third, other) == {2: {1}, 3: {2}, 4: {2}}
        assert sitting.last("orders", '{"id": "1"}') == 4
        sitting.remove([first])
        assert ahead(moved) == {}
        _pass(writer, _changes(5, Op.READ, "1"))
        assert sitting.last("orders", '{"id": "1"}') == 0
        assert sitting.last("orders", '{"id": "2"}') == 3
        assert ahead(third) == {3: {2}}
        late = _held(writer, 6)
        writer.quarantine([late])
        assert (ahead(late), sitting.last("orders", '{"id": "1"}')) == ({}, 6)


def test_what_sits_is_what_was_committed_whatever_becomes_of_the_process(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.quarantine([_held(writer, 1)])
        writer.commit(SOURCE, "a")
        _pass(writer, _changes(2, Op.UPDATE, "1"))
        writer.quarantine([_held(writer, 3, "2")])
        writer.rollback()
        assert _newest(writer, "1", "2") == [0, 0]
        _pass(writer, _changes(2, Op.UPDATE, "1", "2"))
        assert _newest(writer, "1", "2") == [2, 0]
        writer.commit(SOURCE, "b")
    with opened(tmp_path) as writer:
        _pass(writer, _changes(4, Op.DELETE, "1"))
        assert _newest(writer, "1") == [4]


def test_keys_of_several_columns_and_hostile_values_are_told_apart(tmp_path: Path) -> None:
    schema = TableSchema("orders", (Column("a", "text"), Column("b", "text")), ("a", "b"))
    pairs: Sequence[tuple[str | None, str | None]] = [("", "x"), ("x", ""), ('"', "\\"), ("é🙂", "a" * 90 + "b" + "a" * 90), (None, "n")]
    with opened(tmp_path) as writer:
        writer.quarantine([structs.replace(_held(writer, 1 + i), key={"a": a, "b": b}) for i, (a, b) in enumerate(pairs)])
        batch = replace(
            journal_cases.changes(10, 5, schema=schema, op=Op.UPDATE),
            columns=tuple(pa.array(column, pa.string()) for column in zip(*pairs, strict=True)),
        )
        like = batch.take(np.array([3, 4]))
        like = replace(like, columns=(pa.array(["é🙂", ""]), pa.array(["a" * 90 + "c" + "a" * 90, "n"])))
        _pass(writer, like)
        found = [writer.sitting.newest("orders", {"a": a, "b": b}) for a, b in pairs]
        assert found == [0, 0, 0, 0, 0]
        _pass(writer, replace(batch, ordinal=np.arange(20, 25)))
        found = [writer.sitting.newest("orders", {"a": a, "b": b}) for a, b in pairs]
        assert found == [20, 21, 22, 23, 0]  # a key with a null is nobody's


def test_a_reader_tells_which_records_are_behind_newer_changes(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        records = [_held(writer, 1), _held(writer, 2, "3", before="2"), _held(writer, 3, "4")]
        writer.quarantine(records)
        _pass(writer, _changes(4, Op.UPDATE, "1", "2"))
        writer.commit(SOURCE, "a")
    with reading(tmp_path) as reader:
        assert reader.newer(reader.quarantined(Wanted())) == {records[0].id, records[1].id}


def test_many_keys_sit_in_little_memory_and_are_all_found(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        for first in range(0, 20_000, 500):
            writer.quarantine([_held(writer, 1 + at, str(at)) for at in range(first, first + 500)])
        batch = _changes(30_000, Op.UPDATE, *(str(at) for at in range(19_990, 20_010)))
        assert len(writer.sitting.candidates("orders", key_hashes(batch.columns[:1]))) == 10
        writer.commit(SOURCE, "a")
        writer.rollback()
        _pass(writer, batch)
        assert _newest(writer, "19990", "19999", "20000") == [30_000, 30_009, 0]


def test_a_fix_of_a_key_sits_under_the_key_that_it_says(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        lost = _held(writer, 1, None)
        writer.quarantine([lost])
        seven, eight = structs.replace(lost, patch={"id": "7"}), structs.replace(lost, patch={"id": "8", "amount": "1"})
        writer.sitting.mended([lost], [seven])
        _pass(writer, _changes(2, Op.UPDATE, "7", "8"))
        assert _newest(writer, "7", "8") == [2, 0]
        writer.sitting.mended([seven], [eight])
        _pass(writer, _changes(4, Op.DELETE, "7", "8"))
        assert _newest(writer, "7", "8") == [0, 5]
        writer.sitting.remove([eight])
        assert writer.sitting.last("orders", '{"id": "8"}') == 0


def test_of_a_changed_key_that_was_given_up_the_former_key_is_told_too(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.quarantine([_held(writer, 1, "5", before="4"), _held(writer, 2, "6")])
        with writer.changing() as db:
            db.execute("update quarantine set status = 'discarded'")
        writer.commit(SOURCE, "0/1")
        with reading(tmp_path) as reader:
            assert reader.discarded("orders") == [({"id": "5"}, 1), ({"id": "4"}, 1), ({"id": "6"}, 2)]
