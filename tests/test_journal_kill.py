"""Whatever kills the writer, and whenever: what was committed is in the journal whole, and nothing else is."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from journal.batch import ChangeBatch, CopyMarker
from journal.local import JournalReader, JournalWriter, journal_exists
from journal.quarantine import Wanted
from tests.journal_cases import SOURCE, opened, reading
from tests.journal_victim import transaction
from tests.nursery import Born
from tests.waiting import wait_for

_ROOT = Path(__file__).parent.parent


def victim(folder: Path, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.journal_victim", str(folder), str(seed)]
    return Born(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)


def killed(process: subprocess.Popen[str]) -> int:
    """The last transaction whose commit it had been told of."""
    process.kill()
    told, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    return int(told.split()[-1]) if told.split() else 0


def check(reader: JournalReader) -> int:
    """That the journal holds whole transactions up to its watermark, in everything that it keeps. Returns how many those are."""
    known = reader.resume(SOURCE)
    number = json.loads(known.watermark)["transactions"] if known.watermark else 0
    first = reader.first_seq()
    rows = Counter[int]()
    markers = 0
    last_ordinal = 0
    after = first - 1
    while (stretch := reader.read(after, max_bytes=100_000, sink="out")).last > after:
        after = stretch.last
        for _, entry in sorted(stretch.entries, key=lambda pair: _ordinal(pair[1])):
            if isinstance(entry, CopyMarker):
                markers += 1
            else:
                rows.update(entry.lsn.tolist())
        newest = max((int(entry.ordinal[-1]) for _, entry in stretch.entries if isinstance(entry, ChangeBatch)), default=last_ordinal)
        assert newest >= last_ordinal
        last_ordinal = newest
    assert after == reader.last_seq() == 4 * number
    whole = {one: 3 * (1 + one % 7) for one in range(1, number + 1)}
    oldest = (first - 1) // 4 + 1  # the transaction of which pruning may have left a part
    assert {one: count for one, count in rows.items() if one > oldest} == {one: n for one, n in whole.items() if one > oldest}
    totals = reader.totals()
    orders = sum(2 * (1 + one % 7) + 1 for one in range(1, number + 1))
    assert (totals["orders"].rows if totals else 0) == orders
    assert reader.open_quarantine().get("orders", 0) == (totals["orders"].quarantined if totals else 0) == number
    assert len(reader.quarantined(Wanted(), limit=10**6)) == number
    held = reader._db.execute("select count(*) from held").fetchone()[0]
    assert held <= 1
    assert reader._db.execute("pragma integrity_check").fetchall() == [("ok",)]
    return number


def _ordinal(entry: ChangeBatch | CopyMarker) -> int:
    return int(entry.ordinal[0]) if isinstance(entry, ChangeBatch) else entry.ordinal


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_instants(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    done = 0
    for round_ in range(4):
        process = victim(tmp_path, draw.randrange(1 << 30))
        assert process.stdout is not None
        for _ in range(draw.randrange(1, 40)):
            process.stdout.readline()
        told = killed(process)
        with reading(tmp_path) as reader:  # before any writer was there to mend anything
            number = check(reader)
        assert number >= max(told, done + 1)
        assert number <= done + 10_000
        done = number
        with opened(tmp_path) as writer:
            transaction(writer, number + 1)
            done += 1
        with reading(tmp_path) as reader:
            assert check(reader) == done, round_


def test_killed_before_each_statement(tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as writer:
        transaction(writer, 1)
    points = 80
    command = [sys.executable, "-m", "tests.journal_victim", str(tmp_path / "journal"), "0", str(points)]
    subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.DEVNULL, timeout=100)
    done = []
    for point in range(1, points + 1):
        with reading(tmp_path / f"journal-{point}") as reader:
            done.append(check(reader))
        if point % 9 == 0:
            with opened(tmp_path / f"journal-{point}") as writer:
                transaction(writer, done[-1] + 1)
            with reading(tmp_path / f"journal-{point}") as reader:
                assert check(reader) == done[-1] + 1
    assert done == sorted(done)
    assert done[0] == 1
    assert done[-1] > 3


def test_killed_while_the_journal_is_made(tmp_path: Path) -> None:
    for round_ in range(3):
        folder = tmp_path / str(round_)
        process = victim(folder, round_)
        wait_for(lambda folder=folder: folder.exists() and any(folder.iterdir()), message="the first file of the journal")  # type: ignore[misc]
        killed(process)
        if journal_exists(folder):
            with reading(folder) as reader:
                check(reader)
        with opened(folder) as writer:
            number = _done(writer)
            transaction(writer, number + 1)
        with reading(folder) as reader:
            assert check(reader) == number + 1


def _done(writer: JournalWriter) -> int:
    watermark = writer.resume(SOURCE).watermark
    return int(json.loads(watermark)["transactions"]) if watermark else 0


def test_a_log_that_ends_anywhere_gives_whole_transactions(tmp_path: Path) -> None:
    """What a power failure leaves: of what was written last, any part may be missing."""
    source = tmp_path / "journal"
    with opened(source) as writer:
        for number in range(1, 30):
            transaction(writer, number)
        for name in ("journal.db", "journal.db-wal"):
            (tmp_path / name).write_bytes((source / name).read_bytes())
    log = (tmp_path / "journal.db-wal").read_bytes()
    draw = random.Random(11)
    seen = set()
    for place in range(25):
        folder = tmp_path / f"cut-{place}"
        folder.mkdir()
        shutil.copy(tmp_path / "journal.db", folder)
        end = draw.randrange(len(log))
        torn = log[:end] + (b"" if place % 2 else draw.randbytes(min(4096, len(log) - end)) + log[end + 4096 :])
        (folder / "journal.db-wal").write_bytes(torn)
        with reading(folder) as reader:
            seen.add(check(reader))
        with opened(folder) as writer:
            transaction(writer, _done(writer) + 1)
        with reading(folder) as reader:
            check(reader)
    assert len(seen) > 5


def test_readers_are_not_disturbed_by_the_death_of_the_writer(tmp_path: Path) -> None:
    process = victim(tmp_path, 1)
    wait_for(lambda: journal_exists(tmp_path), message="the journal")
    with reading(tmp_path) as early:
        wait_for(lambda: early.last_seq() > 40, message="ten transactions")
        killed(process)
        number = check(early)
        with opened(tmp_path) as writer:
            transaction(writer, number + 1)
            assert check(early) == number + 1
