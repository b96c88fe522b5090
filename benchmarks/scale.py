"""One process and several workers that bring the same journal into a sink, one after the other.

    python -m benchmarks.scale [--rows 1000000] [--workers 1,2] [--sinks postgres,kafka] [--out FILE]

The journal, of 8 partitions, is there before anything starts. A rate counts from the first rows that are in the target to the last; CPU is
that of our processes, and that of the target's (the sessions of Postgres, the broker), per row. What a worker costs that waits is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from benchmarks import measuring
from benchmarks.postgres_sink import batches, values
from examples.embedded_kafka import EmbeddedKafka
from examples.embedded_postgres import EmbeddedPostgres
from journal.batch import Op
from journal.local import JournalWriter
from journal.state import State
from pipeline.model import JournalConfig

PARTITIONS = 8
_BATCH = 10_000
_SETTINGS: dict[str, str | int] = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
_FILE = """
pipeline: scale
state: {folder}
journal: {{type: kafka, bootstrap_servers: "127.0.0.1:1", partitions: {partitions}}}
sources:
  portal: {{type: postgres, dsn: "host=nowhere.invalid", tables: [public.bench]}}
sinks:
  target: {sink}
"""

Row = dict[str, object]


def fill(folder: Path, rows: int) -> None:
    """The journal's copy in the state folder, as ingest would have left it."""
    with JournalWriter.open(folder, "scale", JournalConfig(1 << 40), partitions=PARTITIONS) as journal:
        for batch in batches(values(rows, 1), Op.INSERT, _BATCH, journal.next_ordinal):
            journal.append(replace(batch, source="portal", table="public.bench"))
            first, last = int(batch.ordinal[0]), int(batch.ordinal[-1])
            journal.count("bench", source="portal", rows=len(batch), first_ordinal=first, last_ordinal=last)
            journal.commit("portal", "{}")


def delivered(folder: Path) -> int:
    """Rows in the target, as the processes say; half a second old at most."""
    with closing(State.open(folder)) as state:
        progress = state.sinks().get("target")
    return json.loads(progress.cursor)["counts"].get("bench", [0])[0] if progress is not None and progress.cursor else 0


def measure(folder: Path, sink: str, rows: int, workers: int, target_cpu: Callable[[], float]) -> Row:
    """Delivers the whole journal into a fresh target. `target_cpu` says how many seconds of CPU it has used."""
    (folder / "state.db").unlink(missing_ok=True)
    file = folder / "pipeline.yaml"
    file.write_text(_FILE.format(folder=folder, partitions=PARTITIONS, sink=sink), "utf-8")
    shared = ["--workers", str(workers)] if workers > 1 else []
    process = measuring.sluice("run", str(file), "--only", "deliver:target", *shared)
    try:
        measuring.wait(lambda: delivered(folder) > 0)
        pids = _children(process.popen.pid) if workers > 1 else [process.popen.pid]
        first, began, ours, theirs = delivered(folder), time.perf_counter(), sum(map(measuring.cpu_of, pids)), target_cpu()
        done = measuring.wait(lambda: delivered(folder) >= rows, timeout=900, pause=0.05)
        used, target_used = sum(map(measuring.cpu_of, pids)) - ours, target_cpu() - theirs
        peak = sum(measuring.peak_of(pid) for pid in pids)
    finally:
        process.stop()
    moved = rows - first
    return {
        "workers": workers,
        "rows/s": round(moved / (done - began)),
        "ours, µs CPU a row": round(used / moved * 1e6, 2),
        "target, µs CPU a row": round(target_used / moved * 1e6, 2),
        "MB, peak": round(peak),
        "load": round(os.getloadavg()[0], 1),
    }


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def _into_postgres(folder: Path, rows: int, workers: int) -> Row:
    with EmbeddedPostgres(version=15, settings=_SETTINGS) as server, server.connect() as look:

        def cpu() -> float:
            found = look.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE '% deliver%'").fetchall()
            return sum(measuring.cpu_of(pid) for (pid,) in found)

        return {"sink": "postgres", **measure(folder, f'{{type: postgres, dsn: "{server.dsn}"}}', rows, workers, cpu)}


def _into_kafka(folder: Path, rows: int, workers: int) -> Row:
    with EmbeddedKafka() as broker:
        sink = f'{{type: kafka, bootstrap_servers: "{broker.bootstrap_servers}", partitions: {PARTITIONS}}}'
        return {"sink": "kafka", **measure(folder, sink, rows, workers, lambda: measuring.cpu_of(broker.pid or 0))}


def main() -> None:
    """Prints a line for each measurement, and writes JSON where it is asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--sinks", default="postgres,kafka")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    into = {"postgres": _into_postgres, "kafka": _into_kafka}
    results: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), options.rows)
        for sink in options.sinks.split(","):
            for workers in map(int, options.workers.split(",")):
                results.append(into[sink](Path(name), options.rows, workers))
                print(json.dumps(results[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
