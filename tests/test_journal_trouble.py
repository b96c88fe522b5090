"""Trouble with the journal's file: always an error that names it and says what to do, never a guess, never a loss."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from journal.local import JournalWriter
from pipeline.errors import AlreadyRunningError, JournalError, SluiceError, TerminalError, TransientError
from tests.journal_cases import ORDERS, SOURCE, changes, everything, opened, ordinals, reading, record, watermark, write


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A folder with a journal of some pages, closed."""
    with opened(tmp_path) as writer:
        for _ in range(5):
            write(writer, 1000, width=100)
        writer.quarantine([record(writer.id, writer.next_ordinal)])
        writer.commit(SOURCE, "w")
    assert not (tmp_path / "journal.db-wal").exists()
    return tmp_path


def both_ways(folder: Path) -> Iterator[JournalError]:
    """The errors of a writer and of a reader."""
    for way in (opened, reading):
        with pytest.raises(JournalError) as raised:
            way(folder)
        assert str(folder / "journal.db") in raised.value.message
        assert raised.value.hint
        yield raised.value


def test_a_file_that_is_no_database(journal: Path) -> None:
    (journal / "journal.db").write_bytes(b"these are not the pages you are looking for" * 1000)
    for error in both_ways(journal):
        assert "damaged" in error.message
        assert "docs/journal.md" in str(error.hint)


def test_an_empty_file(journal: Path) -> None:
    (journal / "journal.db").write_bytes(b"")
    for error in both_ways(journal):
        assert "not a journal" in error.message


@pytest.mark.parametrize("left", [0.3, 0.9])
def test_a_file_that_was_cut_short(journal: Path, left: float) -> None:
    file = journal / "journal.db"
    size = file.stat().st_size
    with file.open("r+b") as opened_file:
        opened_file.truncate(int(size * left) // 16384 * 16384)
    for error in both_ways(journal):
        assert "damaged" in error.message


def test_a_database_of_something_else(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "journal.db")
    db.execute("create table kept (name, value)")
    db.close()
    for error in both_ways(tmp_path):
        assert "not a journal" in error.message


def test_a_journal_of_a_newer_version(journal: Path) -> None:
    db = sqlite3.connect(journal / "journal.db")
    db.execute("pragma user_version = 99")
    db.close()
    for error in both_ways(journal):
        assert "newer" in error.message
        assert "upgrade" in str(error.hint)


@pytest.mark.parametrize("statement", ["drop table position", "drop table kept", "delete from entry where seq = 5", "delete from position"])
def test_a_journal_that_somebody_tampered_with(journal: Path, statement: str) -> None:
    db = sqlite3.connect(journal / "journal.db", isolation_level=None)
    db.execute(statement)
    db.close()
    for error in both_ways(journal):
        assert "damaged" in error.message


def test_an_entry_that_is_missing_in_the_middle_is_noticed_when_it_is_read(journal: Path) -> None:
    db = sqlite3.connect(journal / "journal.db", isolation_level=None)
    db.execute("delete from entry where seq = 3")
    db.close()
    with reading(journal) as reader, pytest.raises(JournalError, match="entry 3 is missing"):
        reader.read(0, max_bytes=1 << 30, sink="out")


@pytest.mark.parametrize("page", range(3, 40, 4))
def test_a_page_that_holds_something_else_never_passes_for_changes(journal: Path, page: int) -> None:
    file = journal / "journal.db"
    with reading(journal) as reader:
        meant = ordinals(everything(reader))
    whole = file.read_bytes()
    start = page * 16384 % len(whole)
    file.write_bytes(whole[:start] + os.urandom(16384) + whole[start + 16384 :])
    found = None
    with suppress(JournalError), reading(journal) as reader:
        found = ordinals(everything(reader))
        reader.totals()
        reader.causes()
    assert found in (None, meant)  # a page that is not read here may be anything


def test_a_value_with_one_bit_changed_is_noticed(journal: Path) -> None:
    file = journal / "journal.db"
    pages = bytearray(file.read_bytes())
    place = pages.index(b"amount 2500xxxx")
    pages[place] ^= 1
    file.write_bytes(pages)
    with reading(journal) as reader, pytest.raises(JournalError, match="the entries 1 to 5 cannot be read: a checksum is wrong"):
        everything(reader)


def test_the_log_of_a_journal_that_was_removed_is_not_taken_for_that_of_the_new_one(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        write(writer)
        log = (tmp_path / "journal.db-wal").read_bytes()
    (tmp_path / "journal.db").unlink()
    (tmp_path / "journal.db-wal").write_bytes(log)
    with opened(tmp_path) as writer:
        assert writer.next_ordinal == 1
        assert write(writer) == 1


def test_a_full_disk_loses_the_open_transaction_and_nothing_else(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer)
        pages = writer._db.execute("pragma page_count").fetchone()[0]
        writer._db.execute(f"pragma max_page_count = {pages + 3}")
        writer.append(changes(writer.next_ordinal))
        with pytest.raises(TransientError, match="no room") as raised:
            fill(writer)
        assert str(tmp_path / "journal.db") in raised.value.message
        assert writer.next_ordinal == 4
        assert ordinals(everything(reader)) == [1, 2, 3]
        writer._db.execute("pragma max_page_count = 1000000")
        assert write(writer, 100, width=1000) == 2
        assert ordinals(everything(reader)) == [*range(1, 104)]
        assert writer.resume(SOURCE).watermark == watermark(103)


def test_a_file_that_may_not_grow_is_trouble_that_passes(tmp_path: Path) -> None:
    """What a quota does (EFBIG, EDQUOT): the write fails in the midst of a commit."""
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer)
        with files_up_to(400_000), pytest.raises(TransientError, match=r"journal\.db could not be read or written"):
            fill(writer)
        done = reader.last_seq()
        assert ordinals(everything(reader)) == [*range(1, writer.next_ordinal)]
        assert write(writer, 100, width=1000) == done + 1
        assert writer._db.execute("pragma integrity_check").fetchall() == [("ok",)]


def fill(writer: JournalWriter) -> None:
    for _ in range(10):
        writer.append(changes(writer.next_ordinal, 100, width=1000))
    writer.commit(SOURCE, "never")


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_folder_where_the_journal_should_be(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(TerminalError, match=r"journal\.db cannot be opened"):
        opened(tmp_path)


def test_a_journal_that_could_not_be_opened_is_not_locked(journal: Path) -> None:
    file = journal / "journal.db"
    good = file.read_bytes()
    file.write_bytes(b"damaged" * 10_000)
    with pytest.raises(JournalError):
        opened(journal)
    file.write_bytes(good)
    try:
        opened(journal).close()
    except AlreadyRunningError:
        pytest.fail("the lock was kept")


def test_a_row_that_is_too_large_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)  # in place of a gigabyte
        writer.append(changes(1, 1, width=100_001))
        with pytest.raises(TerminalError, match="too large"):
            writer.commit(SOURCE, "w")
        assert write(writer) == 1


def test_errors_of_ours_are_what_they_are_for_every_code() -> None:
    from journal.trouble import told

    for name in (name for name in dir(sqlite3) if name.startswith("SQLITE_") and isinstance(getattr(sqlite3, name), int)):
        error = sqlite3.OperationalError("it said so")
        error.sqlite_errorcode = getattr(sqlite3, name)
        found = told(Path("/state/journal.db"), error)
        assert isinstance(found, SluiceError)
        assert "/state/journal.db" in found.message
        assert found.hint


def test_a_schema_is_the_one_that_was_written(journal: Path) -> None:
    with reading(journal) as reader:
        assert reader.resume(SOURCE).schemas == {"public.orders": ORDERS}
