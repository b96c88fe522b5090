"""A process that delivers into a DuckDB file until it is killed, or holds one open: python -m tests.duckdb_victim WHAT FILE"""

from __future__ import annotations

import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from journal.batch import CopyMarker, Op
from pipeline.errors import TransientError
from sinks.base import NO_ROWS, Cursor
from sinks.duckdb import DuckDBConfig, DuckDBSink
from tests.sink_batches import ORDERS, many
from tests.sink_place import JOURNAL, mirror

ROWS = 500  # of each transaction
COPIED = 20  # transactions that are a first copy


def deliver(file: Path, transactions: int) -> None:
    """Transaction n (from 1): rows n * ROWS … of a copy, then inserts of such, with every row of the one before updated."""
    sink = DuckDBSink("out", DuckDBConfig(path=file), "test")
    cursor = sink.open(JOURNAL) or Cursor(JOURNAL, 0)
    target = mirror(ORDERS)
    for n in range(cursor.seq + 1, transactions + 1):
        sink.begin()
        sink.prepare(target)
        if n == 1:
            sink.mark(target, CopyMarker(ORDERS, "s", "t", "start", 0, first=True))
        ids = pa.array(np.arange(n * ROWS, (n + 1) * ROWS))
        first = 2 * n * ROWS
        sink.write(target, many(ORDERS, [ids] * 4, Op.READ if n <= COPIED else Op.INSERT, first=first), NO_ROWS)
        if n == COPIED:
            sink.mark(target, CopyMarker(ORDERS, "s", "t", "end", 0, first=True))
        if n > COPIED:
            old = pa.array(np.arange((n - 1) * ROWS, n * ROWS))
            sink.write(target, many(ORDERS, [old, pa.array([f"by {n}"] * ROWS), old, old], Op.UPDATE, first=first + ROWS), NO_ROWS)
        cursor = replace(cursor, seq=n)
        sink.commit(cursor)
        print(n, flush=True)
        if n % 7 == 0:
            sink.rest()
    sink.close()


def fill(file: Path) -> None:
    """Delivers while files cannot grow beyond 3 MB, then without that limit: prints what is said, and how many rows there are."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sink = DuckDBSink("out", DuckDBConfig(path=file), "test")
    cursor = sink.open(JOURNAL) or Cursor(JOURNAL, 0)
    target = mirror(ORDERS)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
    n = 0
    while n < 40:
        try:
            sink.begin()
            sink.prepare(target)
            ids = pa.array(np.arange(n * 5000, (n + 1) * 5000))
            notes = pa.array([f"{i * 2_654_435_761 % 2**32:x}" * 8 for i in range(n * 5000, (n + 1) * 5000)])
            sink.write(target, many(ORDERS, [ids, notes, ids, notes], Op.INSERT, first=n * 5000 + 1), NO_ROWS)
            sink.commit(replace(cursor, seq=n + 1))
            n += 1
        except TransientError as error:
            print(error.message, "|", error.hint, flush=True)
            sink.rollback()
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            held = sink.open(JOURNAL)
            n = held.seq if held else 0
            print(f"back at {n}", flush=True)
    print(sum(table.num_rows for table in sink.read(target, None)), flush=True)
    sink.close()


def hold(file: Path) -> None:
    """Opens the file for reading as soon as it can, says so, and keeps it until its input ends."""
    while True:
        try:
            with duckdb.connect(str(file), read_only=True) as connection:
                print(connection.execute("SELECT count(*) FROM orders").fetchall()[0][0], flush=True)
                sys.stdin.read()
                return
        except duckdb.IOException:
            pass


if __name__ == "__main__":
    {
        "deliver": lambda: deliver(Path(sys.argv[2]), int(sys.argv[3])),
        "fill": lambda: fill(Path(sys.argv[2])),
        "hold": lambda: hold(Path(sys.argv[2])),
    }[sys.argv[1]]()
