"""Several readers follow the journal while ingest writes it: nobody waits for anybody, nobody misses anything."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from journal import ledger, store
from journal.batch import ChangeBatch
from journal.ledger import Tally
from journal.local import JournalReader, JournalWriter
from tests.journal_cases import LINES, changes, opened, ordinals, reading, write

_COMMITS = 200


def follow(folder: Path, sink: str, stop: threading.Event, told: Callable[[int], None] = lambda seq: None) -> list[int]:
    """The ordinals that a sink gets, until it has all of a journal to which nothing is added any more."""
    found: list[int] = []
    open_group: list[int] = []
    newest: dict[str, int] = {}
    after = 0
    with reading(folder) as reader:
        while True:
            over = stop.is_set()
            stretch = reader.read(after, max_bytes=200_000, sink=sink)
            for _, entry in stretch.entries:
                read = ordinals([entry])
                assert read[0] > newest.get(entry.dataset, 0)
                newest[entry.dataset] = read[-1]
                open_group += read
            if stretch.whole:
                found += open_group
                open_group = []
                told(stretch.last)
            if stretch.last == after and over:
                assert not open_group
                return found
            if stretch.last == after:
                stop.wait(0.002)
            after = stretch.last


def test_a_journal_to_which_ingest_commits_while_it_is_opened_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_seq = store.last_seq
    with opened(tmp_path) as writer:
        write(writer, 1)

        def after_a_commit(db: sqlite3.Connection) -> int:
            write(writer, 1)
            return last_seq(db)

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(store, "last_seq", after_a_commit)
            reader = reading(tmp_path)
        with reader:
            assert ordinals([entry for _, entry in reader.read(0, max_bytes=200_000, sink="one").entries]) == [1, 2]


def test_counts_and_the_newest_entry_are_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer, 3)
        totals = ledger.totals

        def meanwhile(db: sqlite3.Connection) -> dict[str, Tally]:
            write(writer, 3)
            return totals(db)

        monkeypatch.setattr(ledger, "totals", meanwhile)
        last, found = reader.balance()
        assert (last, sum(total.rows for total in found.values())) == (1, 3)


def test_readers_get_everything_in_order_while_it_is_written(tmp_path: Path) -> None:
    stop = threading.Event()
    with opened(tmp_path) as writer, ThreadPoolExecutor(3) as pool:
        following = [pool.submit(follow, tmp_path, sink, stop) for sink in ("one", "two", "new")]
        for number in range(_COMMITS):
            if number % 20 == 7:
                for _ in range(30):
                    writer.append(changes(writer.next_ordinal, 50, width=500))
            write(writer, number % 5 + 1, sink="new" if number % 10 == 3 else None)
            write(writer, 2, schema=LINES)
        stop.set()
        one, two, new = (future.result(timeout=60) for future in following)
    assert sorted(new) == [*range(1, len(new) + 1)]
    assert sorted(one) == sorted(two)
    assert set(one) < set(new)
    assert len(one) == len(set(one))


def test_the_log_stays_short_though_somebody_always_reads(tmp_path: Path) -> None:
    stop = threading.Event()
    passed: dict[str, int] = {"one": 0, "two": 0}
    log = tmp_path / "journal.db-wal"
    largest = 0
    with opened(tmp_path) as writer, ThreadPoolExecutor(2) as pool:
        following = [pool.submit(follow, tmp_path, sink, stop, lambda seq, sink=sink: passed.update({sink: seq})) for sink in passed]  # type: ignore[misc]
        for _ in range(150):
            write(writer, 1000, width=500)
            writer.prune(min(passed.values()))
            largest = max(largest, log.stat().st_size)
        stop.set()
        for future in following:
            assert len(future.result(timeout=60)) == 150_000
        assert writer.prune(min(passed.values())) >= 0
    assert largest < 150_000_000
    assert not log.exists()


def test_a_reader_keeps_its_view_and_the_writer_its_pace(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer)
        with reader._view() as db:
            before = db.execute("select count(*) from entry").fetchall()
            for _ in range(20):
                write(writer)
            writer.prune(10)
            assert db.execute("select count(*) from entry").fetchall() == before
        assert reader.last_seq() == 21
        assert reader.first_seq() == 11


def test_a_reader_cannot_change_anything(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._db.execute("delete from entry")


def test_a_reader_that_was_there_first_gets_the_schemas_that_come_later(tmp_path: Path) -> None:
    def newest(reader: JournalReader, writer: JournalWriter) -> int:
        seq = write(writer, schema=LINES)
        [(_, entry)] = reader.read(seq - 1, max_bytes=1 << 20, sink="out").entries
        assert isinstance(entry, ChangeBatch)
        return len(entry.columns)

    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer)
        reader.read(0, max_bytes=1 << 20, sink="out")
        assert newest(reader, writer) == 2
