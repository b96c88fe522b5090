"""Memory does not grow with a transaction."""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path

import pytest

from sources.postgres.stream import ReplicationStream
from tests.fix_postgres import Database
from tests.pgoutput_session import resolve
from tests.streaming import confirmed, position, publish

ROWS = 1_000_000


def read(dsn: str, slot: str, start: int, end: int, spool: str, answer: multiprocessing.SimpleQueue[tuple[int, int]]) -> None:
    """In a process of its own: rows up to `end`, and the peak of its resident memory in MB."""
    stream = ReplicationStream(dsn, slot, "p", start, resolve=resolve, source="shop", spool=Path(spool))
    stream.start()
    rows, reached = 0, 0
    while reached < end:
        stretch = stream.take(1.0)
        if stretch is not None:
            rows += sum(len(decoded.batch) for decoded in stretch.batches)
            reached = stretch.end or reached
    stream.close()
    answer.put((rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


@pytest.mark.soak
def test_a_transaction_of_a_million_rows_is_never_in_memory_whole(database15: Database, tmp_path: Path) -> None:
    database15.execute("CREATE TABLE t (id int PRIMARY KEY, a text, b text, c timestamptz, d numeric)")
    slot = publish(database15, "TABLE t")
    start = confirmed(database15, slot)
    database15.execute(f"INSERT INTO t SELECT g, repeat('a', 80), 'note ' || g, now(), g / 3.0 FROM generate_series(1, {ROWS}) g")
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    child = context.Process(target=read, args=(database15.dsn, slot, start, position(database15), str(tmp_path), answer))
    child.start()
    rows, peak = answer.get()
    child.join()
    assert rows == ROWS
    assert peak < 250, "MB; its values alone are 170"
    assert list(tmp_path.iterdir()) == []
