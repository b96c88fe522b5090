"""What the journal costs: CPU per row of writing, pruning and reading large batches, and the time of tiny commits.

    python -m benchmarks.journal [--folder DIR] [--rows N]

The bound in the same run is the disk's: the same bytes appended to a plain file, with fdatasync for each commit.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from journal.batch import ChangeBatch, Op, batch_from_columns
from journal.codec import encode
from journal.local import JournalReader, JournalWriter
from journal.schema import Column, TableSchema
from pipeline.model import JournalConfig

_BATCH = 16_384
_COLUMNS = 13
Row = dict[str, object]


def orders(rows: int) -> ChangeBatch:
    """A batch of 13 columns, about 150 bytes of text a row, as an application's inserts make it."""
    draw = np.random.default_rng(7)
    words = np.array(["open", "paid", "shipped", "cancelled"])

    def numbers(most: int) -> list[str]:
        return [str(number) for number in draw.integers(0, most, rows)]

    columns = [
        [str(1_000_000 + i) for i in range(rows)],
        numbers(100_000),
        [f"user{number}@example.com" for number in draw.integers(0, 100_000, rows)],
        list(words[draw.integers(0, 4, rows)]),
        [f"{number / 100:.2f}" for number in draw.integers(0, 1_000_000, rows)],
        [["EUR", "USD", "GBP"][number] for number in draw.integers(0, 3, rows)],
        ["tf"[number] for number in draw.integers(0, 2, rows)],
        [f"2024-01-{number % 28 + 1:02d} 12:{number % 60:02d}:33.{number:06d}+00" for number in draw.integers(0, 999_999, rows)],
        [f"2024-02-{number % 28 + 1:02d}" for number in draw.integers(0, 999, rows)],
        [None if number % 3 else f"note {number}" for number in draw.integers(0, 999_999, rows)],
        numbers(1 << 40),
        [["EU", "US"][number] for number in draw.integers(0, 2, rows)],
        [f"{number:032x}" for number in draw.integers(0, 1 << 62, rows)],
    ]
    arrays = [pa.array(column, pa.string()) for column in columns]
    schema = TableSchema("orders", tuple(Column(f"c{i}", "text") for i in range(_COLUMNS)), ("c0",))
    return batch_from_columns(schema, arrays, Op.INSERT, source="portal", table="public.orders", first=1)


def _numbered(batch: ChangeBatch, first: int) -> ChangeBatch:
    return replace(batch, ordinal=np.arange(first, first + len(batch), dtype=np.int64))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def large(folder: Path, rows: int) -> Row:
    """Batches of 16k rows, a commit each, pruned as a sink passes them; then the same without pruning, and read."""
    batch = orders(_BATCH)
    told: Row = {"what": f"batches of {_BATCH:,} rows"}
    told["bytes/row"] = round(len(encode(batch).payload) / _BATCH)
    for pruned in (False, True):
        with_folder = folder / f"large-{pruned}"
        writer = JournalWriter.open(with_folder, "bench", JournalConfig(1 << 40))
        waits: list[float] = []

        def write(writer: JournalWriter = writer, waits: list[float] = waits, pruned: bool = pruned) -> None:
            next_prune = time.monotonic() + 0.2
            for _ in range(rows // _BATCH):
                began = time.perf_counter()
                writer.append(_numbered(batch, writer.next_ordinal))
                writer.count("orders", source="portal", rows=_BATCH, first_ordinal=1, last_ordinal=1)
                last = writer.commit("portal", "w")
                waits.append(time.perf_counter() - began)
                if pruned and time.monotonic() >= next_prune:
                    writer.prune(last)
                    next_prune = time.monotonic() + 0.2

        cpu, wall = _timed(write)
        name = "write+prune" if pruned else "write"
        told |= {f"{name} us/row": round(cpu / rows * 1e6, 2), f"{name} rows/s": round(rows / wall)}
        told[f"{name} p99 ms"] = round(sorted(waits)[len(waits) * 99 // 100] * 1000, 1)
        if not pruned:
            told |= _read(with_folder, rows)
        writer.close()
        told[f"{name} file MB"] = round((with_folder / "journal.db").stat().st_size / 1e6)
    return told


def _read(folder: Path, rows: int) -> Row:
    with JournalReader.open(folder, "bench") as reader:

        def read() -> None:
            after = 0
            while (found := reader.read(after, max_bytes=16 << 20, sink="out")).last > after:
                after = found.last

        cpu, _ = _timed(read)
    return {"read us/row": round(cpu / rows * 1e6, 3)}


def tiny(folder: Path, commits: int = 3000) -> Row:
    """One row a commit; then a sink that catches up with all of them."""
    batch = orders(1)
    writer = JournalWriter.open(folder / "tiny", "bench", JournalConfig(1 << 40))
    waits: list[float] = []

    def write() -> None:
        for _ in range(commits):
            began = time.perf_counter()
            writer.append(_numbered(batch, writer.next_ordinal))
            writer.count("orders", source="portal", rows=1, first_ordinal=1, last_ordinal=1)
            writer.commit("portal", "w")
            waits.append(time.perf_counter() - began)

    cpu, _ = _timed(write)
    waits.sort()
    told: Row = {"what": "one row a commit", "CPU us": round(cpu / commits * 1e6), "p50 ms": round(waits[commits // 2] * 1000, 2)}
    told |= {"p99 ms": round(waits[commits * 99 // 100] * 1000, 2), "most ms": round(waits[-1] * 1000, 1)}
    encoding, _ = _timed(lambda: [encode(batch) for _ in range(1000)])
    told["encode us"] = round(encoding * 1e3, 1)
    told["read us/row"] = round(float(str(_read(folder / "tiny", commits)["read us/row"])), 1)
    writer.close()
    return told


def plain(folder: Path, rows: int) -> Row:
    """The same bytes into a plain file."""
    payload = encode(orders(_BATCH)).payload

    def write() -> None:
        with (folder / "plain").open("wb", buffering=0) as file:
            for _ in range(rows // _BATCH):
                file.write(payload)
                os.fdatasync(file.fileno())

    cpu, wall = _timed(write)
    return {"what": "a plain file, fdatasync each", "write us/row": round(cpu / rows * 1e6, 2), "write rows/s": round(rows / wall)}


def main() -> None:
    """Prints what was measured, and writes it as JSON beside it if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: a temporary one")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        measured = [measure(Path(name), asked.rows) for measure in (plain, large)] + [tiny(Path(name))]
    for row in measured:
        print(*(f"{name}: {value}" for name, value in row.items()), sep=" · ")
    if asked.json:
        asked.json.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
