"""How large the journal gets: what is pruned and when, when it is full, and that the disk gets back what is free."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from journal import space
from journal.local import JournalWriter
from pipeline.errors import JournalError
from pipeline.model import JournalConfig
from tests.journal_cases import SOURCE, changes, everything, opened, ordinals, reading, write


def test_what_every_sink_has_passed_is_pruned(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        seqs = [write(writer) for _ in range(5)]
        assert writer.prune(None) == 0
        assert writer.prune(seqs[2]) == 3
        assert reader.first_seq() == seqs[3]
        assert writer.prune(seqs[2]) == 0
        assert writer.prune(seqs[4]) == 2
        assert reader.first_seq() == seqs[4] + 1
        assert write(writer) == seqs[4] + 1
    with opened(tmp_path) as writer:
        assert writer.prune(6) == 1
        assert write(writer) == 7


def test_a_reader_is_told_when_what_it_needs_was_pruned(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        for _ in range(4):
            write(writer)
        writer.prune(2)
        with pytest.raises(JournalError, match="forgotten the entries 1 to 2"):
            reader.read(0, max_bytes=1 << 20, sink="out")
        assert ordinals([entry for _, entry in reader.read(2, max_bytes=1 << 20, sink="out").entries]) == [*range(7, 13)]
        writer.prune(4)
        with pytest.raises(JournalError, match="forgotten the entries 3 to 4"):
            reader.read(2, max_bytes=1 << 20, sink="out")


def test_what_is_kept_for_its_retention_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "_STEP_ENTRIES", 1)
    limits = JournalConfig(1 << 40, 3600.0, 2_000_000)
    with JournalWriter.open(tmp_path, "commerce", limits) as writer, reading(tmp_path) as reader:
        while writer.size() <= 2_000_000:
            last = write(writer, 100, width=1000)
            writer.prune(None)
        assert reader.first_seq() == 1
        assert writer.prune(last - 1) > 0
        assert writer.size() <= 2_000_000
        assert 1 < reader.first_seq() < last  # no more than was asked for
        first = reader.first_seq()
        assert writer.prune(last - 1) == 0
        assert reader.first_seq() == first


def test_nothing_is_pruned_inside_an_open_transaction(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        seq = write(writer)
        writer.append(changes(writer.next_ordinal))
        assert writer.prune(seq) == 0
        writer.commit(SOURCE, "w")
        assert writer.prune(seq) == 1


class Clock:
    """In place of `time` in the modules of the journal."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.steady = 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("journal.local.time", made)
    monkeypatch.setattr("journal.reading.time", made)
    return made


def test_passed_changes_are_kept_for_the_time_of_retention(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path, retention=60.0) as writer:
        write(writer)
        clock.pass_(30)
        writer.append(changes(writer.next_ordinal))
        writer.append(changes(writer.next_ordinal))
        last = writer.commit(SOURCE, "w")
        clock.pass_(29)
        assert writer.prune(last) == 0
        clock.pass_(2)
        assert writer.prune(last) == 1
        clock.pass_(28)
        assert writer.prune(last) == 0
        clock.pass_(2)
        assert writer.prune(last) == 2


def test_retention_goes_on_while_nothing_runs(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path, retention=60.0) as writer:
        seq = write(writer)
    clock.wall += 61
    clock.steady = 5.0  # the machine was started again
    with opened(tmp_path, retention=60.0) as writer:
        assert writer.prune(seq) == 1


@pytest.mark.parametrize("jump", [-(10**9), 10**9])
def test_a_clock_that_jumps_prunes_nothing_early_and_nothing_never(tmp_path: Path, clock: Clock, jump: float) -> None:
    with opened(tmp_path, retention=60.0) as writer, reading(tmp_path) as reader:
        write(writer)
        clock.wall += jump
        seq = write(writer)
        clock.pass_(30)
        assert writer.prune(seq) == 0
        assert reader.lag(0)[1] >= 0.0
        clock.wall -= jump
        seq = write(writer)
        clock.pass_(31)
        assert writer.prune(seq) == 2
        clock.pass_(30)
        assert writer.prune(seq) == 1
        assert sum(minute.tally.rows for minute in reader.minutes("orders", 0)) == 9


def is_full(writer: JournalWriter) -> bool:
    return writer.full


def test_the_journal_is_full_until_a_tenth_is_free_again(tmp_path: Path) -> None:
    with opened(tmp_path, max_bytes=3_000_000, retention=3600.0) as writer:
        assert not is_full(writer)
        seqs = []
        while not is_full(writer):
            seqs.append(write(writer, 100, width=1000))
            writer.prune(None)
        assert writer.size() >= 3_000_000
        assert len(seqs) > 10
        writer.prune(seqs[0])
        assert is_full(writer)
        assert writer.prune(seqs[-1]) > 0  # in spite of the retention: there is no room for it
        assert not is_full(writer)
        assert writer.size() < 1_000_000


def test_a_full_journal_is_still_full_when_it_is_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        for _ in range(10):
            write(writer, 100, width=1000)
    with opened(tmp_path, max_bytes=1_000_000) as writer:
        assert writer.full


def test_room_is_used_again_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "_SPARE_BYTES", 1 << 20)
    file = tmp_path / "journal.db"
    with opened(tmp_path) as writer:
        seq = [write(writer, 1000, width=1000) for _ in range(10)][-1]
        writer._db.execute("pragma wal_checkpoint(truncate)").fetchall()
        large = file.stat().st_size
        assert large > 15_000_000
        deadline = time.monotonic() + 60
        while writer.prune(seq) or file.stat().st_size > 3_000_000:
            assert time.monotonic() < deadline
        assert file.stat().st_size < 3_000_000
        assert writer._db.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_in_steady_use_the_file_does_not_grow(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        for round_ in range(60):
            seq = write(writer, 1000, width=1000)
            reader.read(seq - 1, max_bytes=1 << 20, sink="out")
            writer.prune(seq)
            if round_ == 10:
                size = writer._db.execute("pragma page_count").fetchone()[0]
        assert writer._db.execute("pragma page_count").fetchone()[0] <= size * 1.2


def test_the_log_is_cut_back_though_a_reader_was_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "_LOG_BYTES", 1 << 20)
    log = tmp_path / "journal.db-wal"
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        write(writer)
        with reader._view() as db:
            db.execute("select * from entry").fetchall()
            for _ in range(40):
                seq = write(writer, 1000, width=1000)
            writer.prune(None)
            assert log.stat().st_size > 40_000_000
            assert writer.size() > 80_000_000  # a log that cannot be cut back takes room, too
        writer.prune(None)
        assert log.stat().st_size < 3_000_000
        assert ordinals(everything(reader))[-1] == 40_003
        assert writer.prune(seq) > 0


def test_a_transaction_larger_than_the_cache_is_one_group(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        for _ in range(40):
            writer.append(changes(writer.next_ordinal, 1000, width=1000))
        assert reader.last_seq() == 0
        writer.commit(SOURCE, "w")
        assert ordinals(everything(reader, max_bytes=4 << 20)) == [*range(1, 40_001)]
