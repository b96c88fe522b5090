"""The DuckDB sink alone, against a bare INSERT of the same values, typed already, in the same run.

    python -m benchmarks.duckdb_sink [--rows 500000] [--batch 16384] [--commit 71000] [--rounds 3] [--threads 1] [--profile] [--out FILE]

Every figure is the best of the rounds: microseconds of CPU per row in this process (all threads), and rows/s by the clock. `--profile` runs
one round under cProfile and prints where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, CopyMarker, Op
from journal.schema import Column, TableSchema
from journal.types import duckdb_type, typed
from sinks.base import NO_ROWS, Cursor, Target
from sinks.duckdb import DuckDBConfig, DuckDBSink

_COLUMNS = (
    ("id", "bigint"), ("customer_id", "integer"), ("email", "text"), ("region", "text"), ("status", "text"), ("currency", "character(3)"),
    ("subtotal", "numeric(12,2)"), ("tax", "numeric(12,2)"), ("total", "numeric(12,2)"), ("quantity", "smallint"), ("active", "boolean"),
    ("starts_at", "timestamp with time zone"), ("ends_at", "timestamp with time zone"),
)  # fmt: skip
SCHEMA = TableSchema("bench", tuple(Column(name, kind, i + 1) for i, (name, kind) in enumerate(_COLUMNS)), ("id",))
TARGET = Target("bench", "bench", SCHEMA)

Figures = dict[str, float]


def values(ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[pa.Array]:
    """Rows of 13 columns with these ids, in Postgres' text."""
    n = pa.array(ids)
    id_ = n.cast(pa.string())

    def of(*words: str) -> pa.Array:
        return pa.array(np.array(words)[ids % len(words)])

    def money(cents: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
        small = pa.array(cents % 100).cast(pa.string())
        return pc.binary_join_element_wise(pa.array(cents // 100).cast(pa.string()), pc.utf8_lpad(small, 2, "0"), ".")

    def moment(start: int) -> pa.Array:
        at = pa.array((start + ids) * 1_000_000).cast(pa.timestamp("us")).cast(pa.timestamp("s")).cast(pa.string())
        return pc.binary_join_element_wise(at, "+00", "")

    return [
        id_, pa.array(ids % 10_000).cast(pa.string()), pc.binary_join_element_wise("user", id_, "@example.com", ""), of("EU", "US"),
        of("new", "active", "paused"), of("EUR"), money(ids % 100_000), of("1.50"), money(ids % 100_000 + 150),
        pa.array(ids % 100).cast(pa.string()), of("t", "f"), moment(1_767_225_600), moment(1_798_761_600),
    ]  # fmt: skip


def batches(ids: np.ndarray[tuple[int], np.dtype[np.int64]], op: Op, size: int, first: int) -> list[ChangeBatch]:
    """The rows as batches of one operation."""
    columns = values(ids)
    found = []
    for start in range(0, len(ids), size):
        part = tuple(column.slice(start, size) for column in columns)
        n = len(part[0])
        ordinal = np.arange(first + start, first + start + n, dtype=np.int64)
        zeros = np.zeros(n, np.int64)
        found.append(ChangeBatch(SCHEMA, "bench", "public.bench", np.full(n, op, np.uint8), ordinal, zeros, zeros, ordinal, part))
    return found


class Bench:
    """One sink on a file of its own."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.sink = DuckDBSink("bench", DuckDBConfig(path=folder / "bench.duckdb", threads=threads), "bench")
        self.sink.open("bench")
        self.seq = 0
        self.next = 1

    def deliver(self, made: list[ChangeBatch], rows: int) -> None:
        """Writes batches, a transaction for each `rows` rows."""
        waiting = 0
        for batch in made:
            if not waiting:
                self.sink.begin()
                self.sink.prepare(TARGET)
            refused = self.sink.write(TARGET, batch, NO_ROWS)
            assert not refused
            waiting += len(batch)
            if waiting >= rows:
                self._commit()
                waiting = 0
        if waiting:
            self._commit()

    def _commit(self) -> None:
        self.seq += 1
        self.sink.commit(Cursor("bench", self.seq))

    def mark(self, phase: str) -> None:
        self.sink.begin()
        self.sink.prepare(TARGET)
        self.sink.mark(TARGET, CopyMarker(SCHEMA, "bench", "public.bench", phase, 0, first=True))
        self._commit()

    def copy(self, made: list[ChangeBatch], rows: int) -> None:
        self.mark("start")
        self.deliver(made, rows)
        self.mark("end")
        self.sink.rest()


def bound(made: list[ChangeBatch], folder: Path, threads: int) -> Callable[[], None]:
    """A bare INSERT of the same values, typed already, into a table without a key, a transaction for each row group."""
    whole = [pa.concat_arrays([batch.columns[c] for batch in made]) for c in range(len(_COLUMNS))]
    rows = pa.table([typed(text, kind).values for text, (_, kind) in zip(whole, _COLUMNS, strict=True)], [name for name, _ in _COLUMNS])
    columns = ", ".join(f"{name} {duckdb_type(kind)}" for name, kind in _COLUMNS)

    def run() -> None:
        with duckdb.connect(str(folder / "bare.duckdb"), config={"threads": threads, "preserve_insertion_order": False}) as connection:
            connection.execute(f"CREATE OR REPLACE TABLE bare ({columns})")
            for start in range(0, len(rows), 122_880):
                connection.register("part", rows.slice(start, 122_880))
                connection.execute("INSERT INTO bare SELECT * FROM part").fetchall()

    return run


def timed(n: int, run: Callable[[], None]) -> Figures:
    """One run over n rows."""
    cpu, clock = time.process_time(), time.perf_counter()
    run()
    return {"cpu_us_per_row": (time.process_time() - cpu) / n * 1e6, "rows_per_s": n / (time.perf_counter() - clock)}


def one_round(options: argparse.Namespace) -> dict[str, Figures]:
    """Everything once, on a new file."""
    n, size = options.rows, options.batch
    chance = np.random.default_rng(0)
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = np.arange(1, n + 1)
        made = batches(ids, Op.READ, size, 1)
        found["bare INSERT of typed values"] = timed(n, bound(made, folder, options.threads))
        bench = Bench(folder, options.threads)
        found["first copy, with its key at the end"] = timed(n, lambda: bench.copy(made, options.commit))
        inserts = batches(ids + n, Op.INSERT, size, n + 1)
        found["stream of inserts"] = timed(n, lambda: bench.deliver(inserts, options.commit))
        some = chance.choice(2 * n, n // 2, replace=False) + 1
        updates = batches(some, Op.UPDATE, size, 2 * n + 1)
        found["stream of updates, keys at random"] = timed(len(some), lambda: bench.deliver(updates, options.commit))
        gone = batches(some[: n // 4], Op.DELETE, size, 3 * n + 1)
        found["stream of deletes, keys at random"] = timed(n // 4, lambda: bench.deliver(gone, options.commit))
        few = batches(ids[:4000] + 2 * n, Op.INSERT, 100, 4 * n + 1)
        found["transactions of 100 rows"] = timed(4000, lambda: bench.deliver(few, 100))
        bench.sink.close()
        found["file"] = {"bytes_per_row": (folder / "bench.duckdb").stat().st_size / (2 * n - n // 4)}
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--batch", type=int, default=16_384)
    parser.add_argument("--commit", type=int, default=71_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(one_round, options)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    rounds = [one_round(options) for _ in range(options.rounds)]
    best = {
        name: {what: (max if what == "rows_per_s" else min)(found[name][what] for found in rounds) for what in figures}
        for name, figures in rounds[0].items()
    }
    for name, figures in best.items():
        print(f"{name:40}", "  ".join(f"{figure:12,.2f} {what}" for what, figure in figures.items()))
    if options.out:
        options.out.write_text(json.dumps({"options": {**vars(options), "out": str(options.out)}, "best": best}, indent=2))


if __name__ == "__main__":
    main()
