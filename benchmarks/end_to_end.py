"""The main job against pg_recvlogical and COPY on the same server in the same run: rates, CPU, memory, latency, idling.

    python -m benchmarks.end_to_end [--rows 500000] [--rounds 3] [--version 15] [--out FILE]

Each round fills the table while nobody reads, then lets pg_recvlogical (to /dev/null) and the pipeline read the same changes from slots of
their own, one after the other. Rates count from when the server begins to serve the slot until the last row is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks import measuring, workload
from benchmarks.latency import idle, latency
from dataflows.progress import counts_of
from examples.embedded_postgres import EmbeddedPostgres
from journal.ledger import Tally
from journal.local import JournalReader
from journal.state import State

_PEER = "bench_peer"
_OURS = "sluice_bench_db"
_SETTINGS: dict[str, str | int] = {"shared_buffers": "512MB", "max_wal_size": "8GB", "max_replication_slots": 10, "max_wal_senders": 10}

Row = dict[str, object]


class Bench:
    """One source, one regional store, and the pipelines on them."""

    def __init__(self, folder: Path, source: EmbeddedPostgres, store: EmbeddedPostgres, journal: str = "{type: local}") -> None:
        """`journal` is YAML."""
        self.folder = folder
        self.journal = journal
        self.source = source
        self.store = store
        self.next_row = 1

    def sinks(self, kind: str) -> str:
        """The `sinks:` of a pipeline: `none` delivers nothing while it is measured, as its process is not started."""
        if kind == "postgres":
            return f'  out: {{type: postgres, dsn: "{self.store.dsn}", schema: bench}}'
        return "  out: {type: duckdb, path: out.duckdb}"

    def stream(self, kind: str, rows: int) -> Row:
        """Changes from the slot through gate and journal, and on into a sink."""
        folder = self.folder / kind
        file = workload.pipeline(folder, self.source.dsn, self.sinks(kind), self.journal)
        measuring.finish("sync", str(file))
        with self.source.connect() as connection:
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [_PEER])
        workload.fill(self.source.dsn, self.next_row, self.next_row + rows - 1)
        self.next_row += rows
        peer = self._peer(rows)
        ours = self._ours(file, kind, rows)
        with self.source.connect() as connection:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [_PEER])
            connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        return {"what": f"stream, {kind}", "peer rows/s": round(peer), **ours, "ratio": round(float(str(ours["rows/s"])) / peer, 2)}

    def _peer(self, rows: int) -> float:
        with self.source.connect() as connection:
            end = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchall()[0][0]
        program = str(self.source.binaries.folder / "pg_recvlogical")
        command = [program, "-d", self.source.dsn, "--slot", _PEER, "--start", "--endpos", str(end), "-f", "/dev/null", "--no-loop"]
        command += ["-o", "proto_version=1", "-o", f"publication_names={_OURS}"]
        process = measuring.start(command)
        began = self._reading(_PEER)
        process.wait()
        return rows / (time.perf_counter() - began)

    def _reading(self, slot: str) -> float:
        """When the server began to serve a slot."""
        query = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s AND active"
        with self.source.connect() as connection:
            return measuring.wait(lambda: connection.execute(query, [slot]).fetchall()[0][0] == 1, pause=0.002)

    def _ours(self, file: Path, kind: str, rows: int) -> Row:
        state = file.parent / "state"
        with JournalReader.open(state, "bench") as reader:
            before = reader.totals().get("bench", Tally()).rows
            ingest = measuring.sluice("run", str(file), "--only", "ingest")
            deliver = None if kind == "journal" else measuring.sluice("run", str(file), "--only", "deliver:out")
            reported = State.open(state)

            def arrived() -> int:
                if deliver is None:
                    return reader.totals().get("bench", Tally()).rows - before
                return counts_of(reported.sinks().get("out"), "bench").delivered - before

            began, cpu = self._reading(_OURS), ingest.cpu()
            ended = measuring.wait(lambda: arrived() >= rows)
            used = ingest.cpu() - cpu
            told: Row = {"rows/s": round(rows / (ended - began)), "ingest us/row": round(used / rows * 1e6, 2)}
            told["ingest peak MB"] = round(ingest.peak_mb())
            if deliver is not None:
                told["deliver peak MB"] = round(deliver.peak_mb())
                deliver.stop()
            ingest.stop()
            reported.close()
        return told

    def snapshot(self) -> Row:
        """The first copy into DuckDB, beside COPY to nowhere."""
        folder = self.folder / "snapshot"
        file = workload.pipeline(folder, self.source.dsn, self.sinks("duckdb"))
        with psycopg.connect(self.source.dsn) as connection:
            rows = connection.execute("SELECT count(*) FROM bench").fetchall()[0][0]
        psql = str(self.source.binaries.folder / "psql")
        wall, _ = measuring.run_seconds([psql, "-d", self.source.dsn, "-c", "COPY bench TO STDOUT", "-o", "/dev/null"])
        processes = {name: measuring.sluice("run", str(file), "--only", name) for name in ("ingest", "deliver:out")}
        state = folder / "state"
        measuring.wait(lambda: (state / "state.db").exists() and _delivered(state) > 0)
        began, first = time.perf_counter(), _delivered(state)
        cpu = {name: process.cpu() for name, process in processes.items()}
        ended = measuring.wait(lambda: _delivered(state) >= rows)
        used = {f"{name} us/row": round((p.cpu() - cpu[name]) / (rows - first) * 1e6, 2) for name, p in processes.items()}
        for process in processes.values():
            process.stop()
        rate = (rows - first) / (ended - began)
        ratio = round(rate * wall / rows, 2)
        return {"what": "snapshot into DuckDB", "peer rows/s": round(rows / wall), "rows/s": round(rate), **used, "ratio": ratio}

    def transaction(self, rows: int = 1_000_000) -> Row:
        """Ingest's memory while one transaction of a million rows comes."""
        folder = self.folder / "transaction"
        file = workload.pipeline(folder, self.source.dsn, self.sinks("duckdb"))
        measuring.finish("sync", str(file))
        with JournalReader.open(folder / "state", "bench") as reader:
            before = reader.totals().get("bench", Tally()).rows
            ingest = measuring.sluice("run", str(file), "--only", "ingest")
            workload.fill(self.source.dsn, self.next_row, self.next_row + rows - 1, per_transaction=rows)
            self.next_row += rows
            measuring.wait(lambda: reader.totals().get("bench", Tally()).rows >= before + rows)
            told: Row = {"what": f"one transaction of {rows:,} rows", "ingest peak MB": round(ingest.peak_mb())}
            ingest.stop()
        return told


def _delivered(state: Path) -> int:
    reported = State.open(state)
    delivered = counts_of(reported.sinks().get("out"), "bench").delivered
    reported.close()
    return delivered


def main() -> None:
    """Measures what the options ask for, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", type=int, default=15)
    parser.add_argument("--only", choices=["journal", "duckdb", "postgres", "snapshot", "latency", "transaction", "idle"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres(version=options.version, settings=_SETTINGS) as source,
        EmbeddedPostgres(version=options.version, settings=_SETTINGS) as store,
    ):
        for number in range(options.rounds):
            bench = Bench(Path(folder, str(number)), source, store)
            for kind in ("journal", "duckdb", "postgres"):
                if options.only in (None, kind):
                    fresh(source, store)
                    results.append(show(bench.stream(kind, options.rows)))
            if options.only in (None, "snapshot"):
                fresh(source, store)
                workload.fill(source.dsn, 1, options.rows * 2)
                results.append(show(bench.snapshot()))
        last = Bench(Path(folder, "last"), source, store)
        for name, measure in (("latency", latency), ("idle", idle)):
            if options.only in (None, name):
                fresh(source, store)
                results.append(show(measure(last.folder / name, source.dsn, store.dsn)))
        if options.only in (None, "transaction"):
            fresh(source, store)
            results.append(show(last.transaction()))
    ratios: dict[str, list[float]] = {}
    for row in results:
        if "ratio" in row:
            ratios.setdefault(str(row["what"]), []).append(float(str(row["ratio"])))
    for what, found in ratios.items():
        print(f"{what}: median ratio {statistics.median(found):.2f} of {len(found)} rounds")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


def fresh(source: EmbeddedPostgres, store: EmbeddedPostgres) -> None:
    """Servers without anything of a run before."""
    with source.connect() as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
        connection.execute("DROP PUBLICATION IF EXISTS sluice_bench_db")
        connection.execute("DROP TABLE IF EXISTS bench")
        connection.execute(workload.TABLE)
        connection.execute("CHECKPOINT")
    with store.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS bench CASCADE")
        connection.execute("CHECKPOINT")


def show(row: Row) -> Row:
    """Prints a line, which is given back."""
    print("  ".join(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}" for name, value in row.items()), flush=True)
    return row


if __name__ == "__main__":
    main()
