"""Files of older versions are brought up to date by whoever may write them, and nobody misreads them before."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from journal import store
from journal.changelog import Rows, name_of
from journal.local import JournalReader
from pipeline.errors import JournalError
from tests.journal_cases import SOURCE, opened, reading, write


def _of_format_two(folder: Path) -> None:
    """A journal as it was before records could be replayed."""
    with opened(folder) as writer:
        write(writer)
        writer.count("orders", source=SOURCE, rows=3, first_ordinal=4, last_ordinal=6, quarantined=2)
        writer.commit(SOURCE, "w")
    with closing(sqlite3.connect(folder / store.FILE)) as db:
        for table in ("audit", "sitting"):
            db.execute(f"drop table {table}")
        for index in ("quarantine_to_replay", "quarantine_by_replay"):
            db.execute(f"drop index {index}")
        for table, column in (("ledger", "released"), *(("quarantine", name) for name in ("replay", "erased_at", "given"))):
            db.execute(f"alter table {table} drop column {column}")
        db.execute("pragma user_version = 2")
        db.commit()


def test_a_journal_of_an_older_version_is_brought_up_to_date_by_ingest(tmp_path: Path) -> None:
    _of_format_two(tmp_path)
    with opened(tmp_path) as writer:
        writer.commit(SOURCE, "w2")
    with reading(tmp_path) as reader:
        assert reader.totals()["orders"].undelivered == 2


def test_a_reader_says_what_brings_an_older_journal_up_to_date(tmp_path: Path) -> None:
    _of_format_two(tmp_path)
    with pytest.raises(JournalError, match="older Sluice") as caught:
        JournalReader.open(tmp_path, "commerce")
    assert "sluice sync" in str(caught.value.hint)


def test_a_row_that_an_older_version_has_told_has_the_columns_of_then(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / store.FILE)) as db:
        rows = Rows(db)
        db.execute("insert into ledger values (1, 'orders', 'portal', '', 5, 2, 0, 5, 0, 0, 1, 5, null, null, 1)")
        told = rows.content("ledger", (1, "orders", "portal", ""))
        assert told is not None
        older = msgspec.msgpack.encode(msgspec.msgpack.decode(told)[:-1])
        rows.put(name_of("ledger", '[1,"orders","portal",""]'), older)
        assert db.execute("select quarantined, released from ledger").fetchall() == [(2, 0)]


def test_the_audit_trail_is_only_added_to(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / store.FILE)) as db:
        db.execute("insert into audit values (1, 0.0, 'ann', 'root', 'fix', 'orders', 1, 4, 4, '{}', '', 'x')")
        for change in ("update audit set by = 'bo'", "delete from audit"):
            with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                db.execute(change)
