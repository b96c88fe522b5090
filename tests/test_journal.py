"""The journal: what is committed together is there together, in order, and for each reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from journal.batch import ChangeBatch, CopyMarker
from journal.local import JournalReader, journal_exists
from journal.schema import Column, TableSchema
from pipeline.errors import AlreadyRunningError, JournalError
from tests.journal_cases import LINES, ORDERS, SOURCE, assert_same, changes, everything, marker, opened, ordinals, reading, watermark, write

WIDER = replace(ORDERS, columns=(*ORDERS.columns, Column("currency", "text", 4)))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        batch = changes(1)
        writer.append(batch)
        assert writer.commit(SOURCE, "w") == 1
    with reading(tmp_path) as reader:
        stretch = reader.read(0, max_bytes=1 << 20, sink="out")
        assert (stretch.last, stretch.whole) == (1, True)
        [(seq, found)] = stretch.entries
        assert seq == 1
        assert isinstance(found, ChangeBatch)
        assert_same(found, batch)


def test_nothing_is_seen_before_the_commit_and_all_of_it_after(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        writer.mark(marker("start", first=True))
        writer.append(changes(1))
        writer.append(changes(4, schema=LINES))
        writer.count("orders", source=SOURCE, rows=3, first_ordinal=1, last_ordinal=3)
        assert reader.last_seq() == 0
        assert reader.read(0, max_bytes=1 << 20, sink="out").last == 0
        assert reader.resume(SOURCE).watermark is None
        assert reader.totals() == {}
        writer.commit(SOURCE, "w")
        assert reader.last_seq() == 3
        assert ordinals(everything(reader)) == [1, 2, 3, 4, 5, 6]
        assert reader.resume(SOURCE).watermark == "w"
        assert reader.totals()["orders"].rows == 3


def test_a_rollback_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer)
        writer.append(changes(4, schema=WIDER))
        writer.hold(changes(0))
        writer.count("orders", source=SOURCE, rows=3, first_ordinal=4, last_ordinal=9)
        writer.rollback()
        assert writer.next_ordinal == 4
        assert writer.held_tables(SOURCE) == frozenset()
        assert writer.resume(SOURCE).schemas == {"public.orders": ORDERS}
        writer.append(changes(4, schema=WIDER))
        assert writer.commit(SOURCE, "w") == 2
        assert ordinals(everything(reader)) == [1, 2, 3, 4, 5, 6]
        assert reader.totals()["orders"].rows == 3


def test_closing_rolls_back_and_what_was_committed_is_found_again(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        made = writer.id
        write(writer)
        writer.append(changes(4))
    with opened(tmp_path) as writer:
        assert writer.id == made
        assert writer.next_ordinal == 4
        assert writer.resume(SOURCE).watermark == watermark(3)
        assert write(writer) == 2
    with reading(tmp_path) as reader:
        assert ordinals(everything(reader)) == [1, 2, 3, 4, 5, 6]


def test_ordinals_must_go_on_increasing(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        write(writer)
        for wrong in (changes(3), replace(changes(4), ordinal=np.array([4, 6, 5])), replace(changes(4), ordinal=np.array([4, 4, 5]))):
            with pytest.raises(ValueError, match="increase"):
                writer.append(wrong)
        writer.count("orders", source=SOURCE, rows=6, quarantined=6, first_ordinal=4, last_ordinal=9)
        assert writer.next_ordinal == 10


def test_each_source_has_its_watermark(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.append(changes(1))
        writer.commit("one", "w1")
        writer.append(changes(4))
        writer.commit("other", "w2")
        writer.commit("one", "w3")
    with opened(tmp_path) as writer:
        assert [writer.resume(name).watermark for name in ("one", "other", "third")] == ["w3", "w2", None]
        assert writer.next_ordinal == 7


def test_entries_for_one_sink_are_passed_over_by_the_others(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer)
        write(writer, sink="new")
        write(writer)
        write(writer, sink="new")
        assert ordinals(everything(reader, "new")) == [*range(1, 13)]
        assert ordinals(everything(reader, "out")) == [1, 2, 3, 7, 8, 9]
        stretch = reader.read(3, max_bytes=1 << 20, sink="out")
        assert (stretch.entries, stretch.last, stretch.whole) == ([], 4, True)


def test_a_read_ends_where_ingest_committed_if_it_can(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        first = write(writer, 10)
        for _ in range(20):
            writer.append(changes(writer.next_ordinal, 100))
        last = writer.commit(SOURCE, "w")
        stretch = reader.read(0, max_bytes=20_000, sink="out")
        assert (stretch.last, stretch.whole) == (first, True)
        stretch = reader.read(first, max_bytes=20_000, sink="out")
        assert first < stretch.last < last
        assert not stretch.whole
        while stretch.last < last:
            assert not stretch.whole
            stretch = reader.read(stretch.last, max_bytes=20_000, sink="out")
        assert stretch.whole
        assert ordinals(everything(reader, max_bytes=20_000)) == [*range(1, 2011)]


def test_an_entry_that_is_larger_than_asked_for_is_read_all_the_same(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer, 1000)
        assert reader.read(0, max_bytes=1, sink="out").last == 1


def test_small_commits_are_read_as_one_batch_for_each_dataset(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        for _ in range(50):
            write(writer, 1)
            write(writer, 2, schema=LINES)
        entries = reader.read(0, max_bytes=1 << 20, sink="out").entries
        assert [(seq, entry.dataset, len(entry)) for seq, entry in entries if isinstance(entry, ChangeBatch)] == [
            (99, "orders", 50),
            (100, "lines", 100),
        ]
        assert sorted(ordinals([entry for _, entry in entries])) == [*range(1, 151)]


def test_nothing_of_a_dataset_is_read_past_its_marker_or_under_another_schema(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer, 1)
        write(writer, 1, schema=LINES)
        writer.mark(marker("start", writer.next_ordinal))
        write(writer, 1)
        write(writer, 1, schema=LINES)
        write(writer, 1, schema=WIDER)
        write(writer, 1, schema=WIDER)
        write(writer, 1)
        told = [
            (entry.phase if isinstance(entry, CopyMarker) else entry.ordinal.tolist(), len(entry.schema.columns))
            for entry in everything(reader)
            if entry.dataset == "orders"
        ]
        assert told == [([1], 3), ("start", 3), ([3], 3), ([5, 6], 4), ([7], 3)]


def test_a_marker_comes_back_as_it_was(tmp_path: Path) -> None:
    markers = [marker("start", 1, first=True), marker("abandoned", 1, sink="out"), marker("end", 1)]
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        for one in markers:
            writer.mark(one)
        writer.commit(SOURCE, "w")
        assert everything(reader) == markers


def test_copies_are_known_as_begun_until_their_end(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.mark(marker("start", first=True))
        writer.mark(marker("start", schema=LINES))
        writer.mark(marker("end", schema=LINES))
        writer.commit(SOURCE, "w")
    with opened(tmp_path) as writer:
        known = writer.resume(SOURCE)
        assert known.copied == {"public.lines"}
        assert known.begun == {"public.orders"}
        assert known.schemas == {"public.orders": ORDERS, "public.lines": LINES}
        writer.mark(marker("abandoned"))
        assert writer.resume(SOURCE).begun == {"public.orders"}
        writer.mark(marker("start"))
        writer.mark(marker("end"))
        assert writer.resume(SOURCE).copied == {"public.lines", "public.orders"}
        writer.mark(marker("start"))
        assert writer.resume(SOURCE).begun == {"public.orders"}


def test_a_copy_for_one_sink_changes_nothing_in_what_is_known_of_the_table(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        for phase in ("start", "end"):
            writer.mark(marker(phase))
        writer.mark(marker("start", sink="new"))
        assert writer.resume(SOURCE).copied == {"public.orders"}
        assert writer.resume(SOURCE).begun == frozenset()


def test_held_changes_are_let_go_once_and_in_order(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        held = [changes(0), changes(0, schema=WIDER), changes(0, 5)]
        for batch in held:
            writer.hold(batch)
            writer.hold(replace(batch, sink="new"))
            writer.hold(replace(batch, table="public.other"))
        writer.commit(SOURCE, "w")
    with opened(tmp_path) as writer:
        assert writer.held_tables(SOURCE) == {"public.orders", "public.other"}
        found = []
        for batch in writer.released(SOURCE, "public.orders", None):
            found.append(batch)
            writer.append(replace(batch, ordinal=np.arange(len(batch)) + writer.next_ordinal))
            writer.hold(batch)  # a gate may stop the table in the midst of it
        assert len(found) == len(held)
        for one, meant in zip(found, held, strict=True):
            assert_same(one, meant)
        writer.rollback()
        assert writer.next_ordinal == 1
        assert [len(batch) for batch in writer.released(SOURCE, "public.orders", "new")] == [3, 3, 5]
        assert [*writer.released(SOURCE, "public.orders", "new")] == []
        assert [len(batch) for batch in writer.released(SOURCE, "public.orders", None)] == [3, 3, 5]
        assert [*writer.released("other source", "public.other", None)] == []


@pytest.mark.parametrize("phase", ["start", "abandoned"])
def test_a_copy_that_begins_anew_forgets_what_was_held_for_it(tmp_path: Path, phase: str) -> None:
    with opened(tmp_path) as writer:
        writer.hold(changes(0))
        writer.hold(changes(0, sink="new"))
        writer.mark(marker(phase, sink="new"))
        assert [*writer.released(SOURCE, "public.orders", "new")] == []
        assert [len(batch) for batch in writer.released(SOURCE, "public.orders", None)] == [3]


def test_a_second_writer_is_told_who_has_the_journal(tmp_path: Path) -> None:
    import os

    with opened(tmp_path), pytest.raises(AlreadyRunningError, match=str(os.getpid())):
        opened(tmp_path)
    opened(tmp_path).close()


def test_readers_see_that_something_changed(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        reader.changed()
        assert not reader.changed()
        write(writer)
        assert reader.changed()
        assert not reader.changed()


def test_a_reader_that_looks_says_how_far_behind_it_is(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        assert reader.lag(0) == (0, 0.0)
        write(writer)
        writer.append(changes(4))
        writer.append(changes(7))
        writer.commit(SOURCE, "w")
        behind, seconds = reader.lag(1)
        assert behind == 2
        assert 0.0 <= seconds < 60
        assert reader.lag(3) == (0, 0.0)


def test_there_is_no_journal_before_ingest_made_it(tmp_path: Path) -> None:
    assert not journal_exists(tmp_path / "state")
    with pytest.raises(JournalError, match="no journal"):
        reading(tmp_path / "state")
    opened(tmp_path / "state").close()
    assert journal_exists(tmp_path / "state")


def test_a_journal_of_another_pipeline_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(JournalError, match="belongs to the pipeline commerce"):
        JournalReader.open(tmp_path, "billing")


def test_a_batch_of_many_megabytes_becomes_entries_that_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journal.local._MOST_BYTES", 10_000)
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        batch = changes(1, 1000)
        writer.append(batch)
        writer.hold(batch)
        assert writer.commit(SOURCE, "w") > 5
        [found] = everything(reader)
        assert isinstance(found, ChangeBatch)
        assert_same(found, batch)
        assert sum(len(part) for part in writer.released(SOURCE, "public.orders", None)) == 1000


def test_schemas_are_kept_once(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        for _ in range(10):
            write(writer)
            write(writer, schema=WIDER)
        assert writer._db.execute("select count(*) from schema").fetchone() == (2,)
        assert writer.resume(SOURCE).schemas == {"public.orders": WIDER}


def test_a_table_with_a_column_of_each_kind_of_name_is_known_again(tmp_path: Path) -> None:
    schema = TableSchema("ord\"ers' ; é", tuple(Column(name, "text") for name in ("a b", 'qu"ote', "é", "CASE", "")), ("a b",))
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer, schema=schema)
        assert reader.resume(SOURCE).schemas == {f"public.{schema.dataset}": schema}
        assert everything(reader)[0].schema == schema
