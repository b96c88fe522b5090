"""The Postgres sink alone, against a bare COPY of the same rows on the same server in the same run.

    python -m benchmarks.postgres_sink [--rows 200000] [--batch 10000] [--rounds 3] [--version 15] [--out FILE]

Every figure is the best of the rounds: rows/s by the clock, and microseconds of CPU per row in this process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from examples.embedded_postgres import EmbeddedPostgres
from journal.batch import ChangeBatch, Op, Presence
from journal.schema import Column, TableSchema
from sinks.base import NO_ROWS, Cursor, Target
from sinks.postgres import PostgresConfig, PostgresSink
from sinks.postgres_copy import csv_blocks

_SETTINGS: dict[str, str | int] = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}

_COLUMNS = (
    ("id", "bigint"), ("customer", "integer"), ("state", "text"), ("amount", "numeric(12,2)"), ("currency", "character(3)"),
    ("email", "text"), ("paid", "boolean"), ("placed_at", "timestamp with time zone"), ("due", "date"), ("weight", "double precision"),
    ("reference", "uuid"),    ("details", "jsonb"), ("note", "text"),
)  # fmt: skip
SCHEMA = TableSchema("bench", tuple(Column(name, kind, i + 1) for i, (name, kind) in enumerate(_COLUMNS)), ("id",))


def values(n: int, seed: int) -> list[pa.Array]:
    """n rows of 13 columns, in Postgres' text."""
    chance = np.random.default_rng(seed)
    number = chance.integers(0, 10**9, n)
    texts = [
        [str(i) for i in range(n)],
        [str(v % 5000) for v in number],
        [("new", "paid", "shipped", "returned")[v % 4] for v in number],
        [f"{v / 100:.2f}" for v in number],
        [("EUR", "USD", "JPY")[v % 3] for v in number],
        [f"user{v}@example.com" for v in number],
        ["t" if v % 2 else "f" for v in number],
        [f"2024-{v % 12 + 1:02d}-{v % 28 + 1:02d} {v % 24:02d}:00:{v % 60:02d}.{v % 10**6:06d}+00" for v in number],
        [f"2024-{v % 12 + 1:02d}-{v % 28 + 1:02d}" for v in number],
        [repr(float(v) / 7) for v in number],
        [f"00000000-0000-4000-8000-{v:012d}" for v in number],
        [f'{{"lines": {v % 9}, "gift": false}}' for v in number],
        [None if v % 5 == 0 else f"note {v}" for v in number],
    ]
    return [pa.array(column, pa.string()) for column in texts]


def batches(columns: list[pa.Array], op: Op, size: int, first: int, absent: int | None = None) -> list[ChangeBatch]:
    """The rows as batches of one operation; the column `absent` is left out of each second row."""
    found = []
    for start in range(0, len(columns[0]), size):
        part = tuple(column.slice(start, size) for column in columns)
        n = len(part[0])
        ordinal = np.arange(first + start, first + start + n, dtype=np.int64)
        presence = {} if absent is None else {absent: np.where(ordinal % 2, Presence.PRESENT, Presence.ABSENT).astype(np.uint8)}
        op_codes = np.full(n, op, np.uint8)
        zeros = np.zeros(n, np.int64)
        found.append(ChangeBatch(SCHEMA, "bench", "public.bench", op_codes, ordinal, zeros, zeros, ordinal, part, presence))
    return found


class Bench:
    """One server, one sink."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self.sink = PostgresSink("bench", PostgresConfig.model_validate({"dsn": server.dsn, "schema": "bench"}), "bench")
        self.sink.open("bench")
        self.target = Target("bench", "bench", SCHEMA)
        self.first = 1
        self.seq = 0

    def deliver(self, columns: list[pa.Array], op: Op, size: int, absent: int | None = None) -> Callable[[], None]:
        """What writes the rows, a transaction a batch."""
        made = batches(columns, op, size, self.first, absent)
        self.first += len(columns[0])

        def run() -> None:
            for batch in made:
                self.sink.begin()
                refused = self.sink.write(self.target, batch, NO_ROWS)
                assert not refused
                self.seq += 1
                self.sink.commit(Cursor("bench", self.seq))

        return run

    def copy(self, columns: list[pa.Array]) -> Callable[[], None]:
        """The bound: COPY of the same rows into such a table, in one transaction."""
        with self.server.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS bench.bare; CREATE TABLE bench.bare (LIKE bench.bench INCLUDING ALL)")
        blocks = [bytes(block) for block in csv_blocks([*columns, columns[0]])]

        def run() -> None:
            with self.server.connect() as connection, connection.cursor().copy("COPY bench.bare FROM STDIN (FORMAT csv)") as copy:
                for block in blocks:
                    copy.write(block)

        return run

    def clear(self) -> None:
        """An empty table, as if new."""
        with self.server.connect() as connection:
            connection.execute("TRUNCATE bench.bench")
            connection.execute("CHECKPOINT")

    def latency(self, columns: list[pa.Array], n: int) -> list[float]:
        """Milliseconds from the write of a transaction of one row to the end of its commit."""
        took = []
        for batch in batches([column.slice(0, n) for column in columns], Op.UPDATE, 1, self.first):
            began = time.perf_counter()
            self.sink.begin()
            self.sink.write(self.target, batch, NO_ROWS)
            self.seq += 1
            self.sink.commit(Cursor("bench", self.seq))
            took.append((time.perf_counter() - began) * 1000)
        self.first += n
        return took


def measured(rows: int, work: Callable[[], None]) -> tuple[float, float]:
    """Rows per second, and microseconds of CPU per row in this process."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return rows / (time.perf_counter() - began), (time.process_time() - cpu) / rows * 1e6


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", type=int)
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    columns, others = values(told.rows, 1), values(told.rows, 2)
    best: dict[str, tuple[float, float]] = {}
    with EmbeddedPostgres(version=told.version, settings=_SETTINGS) as server:
        bench = Bench(server)
        bench.sink.begin()
        bench.sink.prepare(bench.target)
        bench.sink.commit(Cursor("bench", 0))
        for _ in range(told.rounds):
            bench.clear()
            steps = {
                "bare COPY": bench.copy(columns),
                "inserts": bench.deliver(columns, Op.INSERT, told.batch),
                "updates": bench.deliver(others, Op.UPDATE, told.batch),
                "updates, a column left out": bench.deliver(columns, Op.UPDATE, told.batch, absent=11),
                "upserts of 100 rows": bench.deliver([column.slice(0, told.rows // 10) for column in others], Op.UPDATE, 100),
                "deletes": bench.deliver(columns, Op.DELETE, told.batch),
            }
            for name, work in steps.items():
                rows = told.rows // 10 if "100 rows" in name else told.rows
                rate, cpu = measured(rows, work)
                best[name] = max(best.get(name, (0.0, 0.0)), (rate, cpu))
        took = sorted(bench.latency(columns, 500))
        version = server.version
        bench.sink.close()
    print(f"Postgres {version}, {told.rows} rows of {len(columns)} columns, transactions of {told.batch}")
    for name, (rate, cpu) in best.items():
        print(f"  {name:30} {rate:>10,.0f} rows/s {cpu:>7.2f} us CPU per row here")
    print(f"  one row, write and commit: p50 {statistics.median(took):.2f} ms, p99 {took[int(len(took) * 0.99)]:.2f} ms")
    if told.out:
        figures = {name: {"rows_per_second": rate, "cpu_us_per_row": cpu} for name, (rate, cpu) in best.items()}
        told.out.write_text(json.dumps({"version": version, "rows": told.rows, **figures, "one_row_ms": statistics.median(took)}, indent=2))


if __name__ == "__main__":
    main()
