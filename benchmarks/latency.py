"""How long a commit takes to become visible in a Postgres sink, through the journal; and what a pipeline uses that has nothing to do."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path

import psycopg

from benchmarks import measuring, workload


def latency(
    folder: Path, source: str, store: str, journal: str = "{type: local}", *, apart: bool = False, rate: int = 500, seconds: float = 20.0
) -> dict[str, object]:
    """Single-row transactions at `rate` a second; the store is asked for the newest row as fast as it answers.

    `apart`: the sink's process has a state folder of its own, as on another machine.
    """
    file = workload.pipeline(folder, source, f'  out: {{type: postgres, dsn: "{store}", schema: bench}}', journal)
    measuring.finish("sync", str(file))
    if apart:
        other = file.with_name("apart.yaml")
        other.write_text(file.read_text("utf-8").replace("state: state", "state: apart"), "utf-8")
        services = [measuring.sluice("run", str(file), "--only", "ingest"), measuring.sluice("run", str(other), "--only", "deliver:out")]
    else:
        services = [measuring.sluice("run", str(file))]
    committed: dict[int, float] = {}
    seen: dict[int, float] = {}
    over = threading.Event()

    def write() -> None:
        with psycopg.connect(source, autocommit=True) as connection:
            began = time.perf_counter()
            for n in range(int(rate * seconds)):
                over.wait(max(0.0, began + n / rate - time.perf_counter()))
                connection.execute(workload.ROWS.format(first=n + 1, last=n + 1).encode())
                committed[n + 1] = time.perf_counter()
        over.set()

    with psycopg.connect(store, autocommit=True) as connection:
        workload.fill(source, 1_000_000_000, 1_000_000_000)
        measuring.wait(lambda: connection.execute("SELECT count(*) FROM bench.bench").fetchall()[0][0] == 1)
        writer = threading.Thread(target=write)
        writer.start()
        top = 0
        while not over.is_set() or top < len(committed):
            newest = connection.execute("SELECT max(id) FROM bench.bench WHERE id < 1000000000").fetchall()[0][0] or 0
            now = time.perf_counter()
            for n in range(top + 1, newest + 1):
                seen[n] = now
            top = max(top, newest)
        writer.join()
    for service in services:
        service.stop()
    times = sorted((seen[n] - committed[n]) * 1000 for n in committed if n > rate)  # the first second warms up
    return {
        "what": f"commit to visible in Postgres, {rate} rows/s, ms",
        "p50": round(statistics.median(times), 1),
        "p99": round(times[int(len(times) * 0.99)], 1),
        "max": round(times[-1], 1),
    }


def idle(folder: Path, source: str, store: str, seconds: float = 20.0) -> dict[str, object]:
    """Per cent of a core that each process uses while nothing changes."""
    sinks = f'  out: {{type: postgres, dsn: "{store}", schema: bench}}\n  duck: {{type: duckdb, path: out.duckdb}}'
    file = workload.pipeline(folder, source, sinks)
    measuring.finish("sync", str(file))
    processes = {name: measuring.sluice("run", str(file), "--only", name) for name in ("ingest", "deliver:out", "deliver:duck")}
    time.sleep(8)
    before = {name: process.cpu() for name, process in processes.items()}
    time.sleep(seconds)
    used = {f"{name} %": round((process.cpu() - before[name]) / seconds * 100, 2) for name, process in processes.items()}
    for process in processes.values():
        process.stop()
    return {"what": "idle, % of a core", **used}
