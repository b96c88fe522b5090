"""One DuckDB file between a sink and its readers; a sink that is killed; a file that cannot be used."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

import sinks.duckdb
from pipeline.errors import AlreadyRunningError, Refused, TerminalError, TransientError
from sinks import duckdb_file
from sinks.duckdb import DuckDBConfig, DuckDBSink
from tests.duckdb_victim import COPIED, ROWS
from tests.fix_duckdb import FilePlace
from tests.nursery import Born
from tests.sink_batches import ORDERS, insert
from tests.sink_place import JOURNAL, Hand, mirror
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent
TARGET = mirror(ORDERS)


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.duckdb_victim", *arguments]
    return Born(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def reader(file: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which reads the file as soon as it can and then keeps it."""
    process = started("hold", str(file))
    try:
        yield process
    finally:
        process.communicate()


def holds(process: subprocess.Popen[str]) -> int:
    """Waits until the reader has the file; how many rows it sees."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_a_resting_sink_lets_others_read_and_goes_on_when_they_are_done(place: FilePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_file, "PATIENCE", 0.1)
    hand = Hand(place)
    hand.write(TARGET, insert(id="1", name="a"))
    hand.sink.rest()
    with reader(place.path) as other:
        assert holds(other) == 1
        with pytest.raises(TransientError, match=rf"is held by python.* \(process {other.pid}\)") as met:
            hand.sink.begin()
        assert met.value.hint
        hand.sink.rollback()
    hand.write(TARGET, insert(id="2", name="b"))
    assert hand.names(TARGET) == {"1": "a", "2": "b"}


def test_a_sink_waits_a_moment_for_a_reader(place: FilePlace) -> None:
    hand = Hand(place)
    hand.write(TARGET, insert(id="1", name="a"))
    hand.sink.rest()
    with reader(place.path) as other:
        holds(other)
        assert other.stdin is not None
        other.stdin.close()
        hand.write(TARGET, insert(id="2", name="b"))
        other.stdin = None
    assert hand.names(TARGET) == {"1": "a", "2": "b"}


def test_a_sink_that_writes_without_end_gives_readers_their_turn(place: FilePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks.duckdb, "_HOLD", 0.2)
    hand = Hand(place)
    hand.write(TARGET, insert(id="0"))
    with reader(place.path) as other:
        seen: list[int] = []
        deadline = time.monotonic() + 60
        n = 1
        while not seen:
            assert time.monotonic() < deadline
            try:
                hand.write(TARGET, insert(id=str(n)))
                n += 1
            except TransientError:  # the reader has it
                hand.sink.rollback()
                seen.append(holds(other))
                assert other.stdin is not None
                other.stdin.close()
                other.stdin = None
        assert seen[0] == n
    hand.sink.open(JOURNAL)
    hand.write(TARGET, insert(id="last"))


def test_verify_reads_from_another_process_beside_a_sink_at_work(place: FilePlace) -> None:
    hand = Hand(place)
    hand.write(TARGET, insert(id="1", name="a"))
    script = (
        "from pathlib import Path; from sinks.duckdb import *; from tests.sink_batches import ORDERS; from tests.sink_place import mirror\n"
        f"sink = DuckDBSink('out', DuckDBConfig(path=Path({str(place.path)!r})), 'test')\n"
        "print(sum(t.num_rows for t in sink.read(mirror(ORDERS), None)))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    hand.write(TARGET, insert(id="2", name="b"))
    hand.sink.rest()
    assert process.communicate(timeout=60)[0] == "2\n"


def test_a_newer_writer_is_noticed_when_the_file_is_taken_again(place: FilePlace) -> None:
    older = Hand(place)
    older.write(TARGET, insert(id="1"))
    older.sink.rest()
    newer = Hand(place)
    newer.write(TARGET, insert(id="2"))
    newer.sink.rest()
    with pytest.raises(AlreadyRunningError):
        older.sink.begin()
    older.sink.rollback()


def test_nothing_is_lost_or_doubled_whenever_the_process_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    chance = random.Random(7)
    last = 36
    told = 0
    kills = 0
    while True:
        process = started("deliver", str(file), str(last))
        assert process.stdout is not None
        lines = 0
        limit = chance.randrange(4, 12)
        while (line := process.stdout.readline()) and lines < limit:
            told = int(line)
            lines += 1
        if not line:
            assert process.wait() == 0, process.stderr.read() if process.stderr else ""
            break
        time.sleep(chance.random() * 0.02)  # no wait for anything: the kill is to come at any instant
        process.kill()
        process.communicate()
        kills += 1
        held = DuckDBSink("out", DuckDBConfig(path=file), "test").open(JOURNAL)
        assert held is not None
        assert held.seq >= told
        check(file, held.seq)
    assert kills > 2
    check(file, last)
    with duckdb.connect(str(file)) as connection:
        keys = connection.execute(
            "SELECT constraint_column_names FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' AND table_name = 'orders'"
        )
        assert keys.fetchall() == [(["id"],)]


def check(file: Path, seq: int) -> None:
    """What the victim has delivered with its transaction `seq`."""
    with duckdb.connect(str(file)) as connection:
        rows = connection.execute("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM orders").fetchall()[0]
        assert rows == (seq * ROWS, seq * ROWS, ROWS, (seq + 1) * ROWS - 1)
        changed = connection.execute(
            "SELECT name, count(*), min(id) FROM orders WHERE name LIKE 'by %' GROUP BY name ORDER BY 3"
        ).fetchall()
        assert changed == [(f"by {n}", ROWS, (n - 1) * ROWS) for n in range(COPIED + 1, seq + 1)]


def test_a_full_disk_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    process = started("fill", str(tmp_path / "warehouse.duckdb"))
    out, errors = process.communicate(timeout=100)
    lines = out.splitlines()
    assert lines[-1] == str(40 * 5000), (out, errors)
    assert "cannot be written" in lines[0]
    assert "make room" in lines[0]
    assert any(line.startswith("back at") for line in lines)


def opened(path: Path) -> None:
    DuckDBSink("out", DuckDBConfig(path=path), "test").open(JOURNAL)


def planned(path: Path) -> None:
    DuckDBSink("out", DuckDBConfig(path=path), "test").plan([])


@pytest.mark.parametrize("asked", [opened, planned])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, asked: Callable[[Path], None]) -> None:
    with pytest.raises(Refused, match="its folder is not there") as met:
        asked(tmp_path / "nowhere" / "warehouse.duckdb")
    assert str(tmp_path / "nowhere") in (met.value.hint or "")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        opened(tmp_path)


@pytest.mark.parametrize("content", [b"hello", b"", b"x" * 100_000, b"SQLite format 3\0" + b"\0" * 4096])
def test_a_file_that_is_not_duckdb_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "warehouse.duckdb"
    file.write_bytes(content)
    with pytest.raises(TerminalError, match="not a DuckDB file"):
        opened(file)
    assert file.read_bytes() == content


def test_a_damaged_file_is_refused(tmp_path: Path, place: FilePlace) -> None:
    hand = Hand(place)
    hand.write(TARGET, *(insert(id=str(i), name="a" * 500) for i in range(200)))
    hand.sink.close()
    content = bytearray(place.path.read_bytes())
    for at in range(12_288, len(content), 1000):
        content[at] ^= 255
    place.path.write_bytes(content)
    with pytest.raises(TerminalError, match="is damaged"):
        opened(place.path)


def test_a_path_is_relative_to_the_pipeline_file(tmp_path: Path) -> None:
    config = DuckDBConfig.model_validate({"path": "data/w.duckdb"}, context={"folder": tmp_path})
    assert config.path == tmp_path / "data" / "w.duckdb"


@pytest.mark.parametrize("given", [{"path": "w", "memory_limit": "lots"}, {"path": "w", "threads": 0}, {"path": "w", "thread": 1}, {}])
def test_a_wrong_configuration_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="DuckDBConfig"):
        DuckDBConfig.model_validate(given)


def test_the_log_of_a_file_stays_bounded(place: FilePlace) -> None:
    hand = Hand(place)
    wal = place.path.with_name(place.path.name + ".wal")
    for i in range(5):
        hand.write(TARGET, *(insert(id=f"{i}-{j}", name="x" * 1000) for j in range(200)))
    wait_for(lambda: wal.exists(), message="a log")
    hand.sink.rest()
    assert not wal.exists() or wal.stat().st_size == 0
