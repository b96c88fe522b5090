"""Reading and decoding the stream against pg_recvlogical on the same changes in the same run: rates, CPU of both ends, memory.

    python -m benchmarks.stream_decode [--rows 500000] [--rounds 3] [--version 15] [--out FILE] [--only inserts,updates,…]

Each workload is written while nobody reads; then pg_recvlogical (to /dev/null) and the stream read it in turn, from slots of their own.
Ours ends with text columns in commit order, of which nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg

from benchmarks import measuring, workload
from examples.embedded_postgres import EmbeddedPostgres
from journal.schema import Column, TableSchema
from sources.postgres.position import lsn_number
from sources.postgres.relation import Relation
from sources.postgres.stream import ReplicationStream

_PUBLICATION = "bench"
_SETTINGS: dict[str, str | int] = {"shared_buffers": "512MB", "max_wal_size": "8GB", "synchronous_commit": "off"}

Row = dict[str, object]


def _inserts(dsn: str, rows: int) -> int:
    workload.fill(dsn, 1, rows, per_transaction=10_000)
    return rows


def _updates(dsn: str, rows: int) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for first in range(1, rows + 1, 10_000):
            connection.execute("UPDATE bench SET status = 'paused', quantity = 1 WHERE id BETWEEN %s AND %s", [first, first + 9_999])
    return rows


def _updates_with_old_rows(dsn: str, rows: int) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE bench REPLICA IDENTITY FULL")
        return _updates(dsn, rows)


def _small_transactions(dsn: str, rows: int) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE bench REPLICA IDENTITY DEFAULT")
        connection.execute(
            f"""DO $$ BEGIN FOR n IN 1..{rows} LOOP
                UPDATE bench SET quantity = 2 WHERE id = n; COMMIT; END LOOP; END $$"""
        )
    return rows


def _one_transaction(dsn: str, rows: int) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE bench")
    workload.fill(dsn, 1, 2 * rows, per_transaction=2 * rows)
    return 1 + 2 * rows


# In this order: each builds on the rows of the one before.
WORKLOADS: dict[str, Callable[[str, int], int]] = {
    "inserts": _inserts,
    "updates": _updates,
    "updates with old rows": _updates_with_old_rows,
    "transactions of one row": _small_transactions,
    "one transaction": _one_transaction,
}


def read_all(dsn: str, slot: str, end: int) -> Row:
    """Reads the slot up to `end` with the stream; in a process of its own, for its memory."""

    def resolve(relation: Relation) -> TableSchema:
        return TableSchema(relation.table, tuple(Column(column.name, "text") for column in relation.columns), ("id",))

    with psycopg.connect(dsn) as connection, tempfile.TemporaryDirectory() as spool:
        found = connection.execute("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s", [slot]).fetchall()
        stream = ReplicationStream(dsn, slot, _PUBLICATION, lsn_number(found[0][0]), resolve=resolve, source="bench", spool=Path(spool))
        wall, cpu = time.perf_counter(), time.process_time()
        stream.start()
        rows, stretches, reached = 0, 0, 0
        while reached < end:
            stretch = stream.take(1.0)
            if stretch is not None:
                rows += sum(len(decoded.batch) for decoded in stretch.batches)
                stretches += 1
                reached = stretch.end or reached
        used = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        stream.close()
    return {"rows": rows, "stretches": stretches, "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, **used}


class Bench:
    """One server with a table, and what is read from it."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        with server.connect() as connection:
            connection.execute(workload.TABLE)
            connection.execute(f"CREATE PUBLICATION {_PUBLICATION} FOR TABLE bench")

    def compare(self, name: str, rows: int, rounds: int) -> Row:
        """Both readers of one workload, in turn."""
        slots = [(f"peer_{i}", f"ours_{i}") for i in range(rounds)]
        with self.server.connect() as connection:
            for slot in (one for pair in slots for one in pair):
                connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
        changes = WORKLOADS[name](self.server.dsn, rows)
        with self.server.connect() as connection:
            # Commits that nobody waited for are not flushed yet; this one is waited for.
            connection.execute("SET synchronous_commit = on")
            connection.execute("SELECT pg_logical_emit_message(true, 'bench', 'end')")
            end = str(connection.execute("SELECT pg_current_wal_flush_lsn()").fetchall()[0][0])
            peers, ours = zip(*(self._round(peer, our, end) for peer, our in slots), strict=True)
            for slot in (one for pair in slots for one in pair):
                connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        if any(found["rows"] != changes for found in ours):
            raise RuntimeError(f"{name}: {[found['rows'] for found in ours]} rows in place of {changes}")

        def middle(found: tuple[Row, ...], of: Callable[[Row], float]) -> float:
            return statistics.median(map(of, found))

        def rate(found: Row) -> float:
            return changes / float(str(found["wall"]))

        def per_row(key: str) -> Callable[[Row], float]:
            return lambda found: float(str(found[key])) / changes * 1e6

        return {
            "what": name,
            "peer rows/s": round(middle(peers, rate)),
            "rows/s": round(middle(ours, rate)),
            "ratio": round(statistics.median(rate(our) / rate(peer) for peer, our in zip(peers, ours, strict=True)), 2),
            "peer us/row": round(middle(peers, per_row("cpu")), 2),
            "us/row": round(middle(ours, per_row("cpu")), 2),
            "walsender of peer": round(middle(peers, per_row("walsender")), 2),
            "walsender of ours": round(middle(ours, per_row("walsender")), 2),
            "peak MB": round(max(float(str(found["peak MB"])) for found in ours)),
        }

    def _round(self, peer: str, ours: str, end: str) -> tuple[Row, Row]:
        program = str(self.server.binaries.folder / "pg_recvlogical")
        command = [program, "-d", self.server.dsn, "--slot", peer, "--start", "--endpos", end, "--no-loop", "-f", "/dev/null",
                   "-o", "proto_version=2", "-o", f"publication_names={_PUBLICATION}", "-o", "streaming=on"]  # fmt: skip
        wall, cpu, walsender, _ = self._watched(command, peer)
        child = [sys.executable, "-m", "benchmarks.stream_decode", "--read", self.server.dsn, ours, str(lsn_number(end))]
        _, _, own_walsender, said = self._watched(child, ours)
        return {"wall": wall, "cpu": cpu, "walsender": walsender}, {**json.loads(said), "walsender": own_walsender}

    def _watched(self, command: list[str], slot: str) -> tuple[float, float, float, str]:
        """Wall and CPU seconds of a reader, CPU seconds of the walsender behind it, and what the reader said."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began, walsender = time.perf_counter(), 0.0
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=measuring.ROOT)
        with self.server.connect() as connection:
            pid = None
            while process.poll() is None:
                if pid is None:
                    pid = connection.execute("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", [slot]).fetchall()[0][0]
                with suppress(FileNotFoundError, ProcessLookupError):
                    walsender = measuring.cpu_of(pid) if pid else 0.0
                time.sleep(0.02)
        wall = time.perf_counter() - began
        said = process.communicate()[0]
        if process.returncode != 0:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, walsender, said


def main() -> None:
    """Prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", type=int, default=15)
    parser.add_argument("--only", default=",".join(WORKLOADS), help="separated by commas; updates need the inserts")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", nargs=3, metavar=("DSN", "SLOT", "END"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        dsn, slot, end = arguments.read
        print(json.dumps(read_all(dsn, slot, int(end))))
        return
    found: list[Row] = []
    with EmbeddedPostgres(version=arguments.version, settings=_SETTINGS) as server:
        bench = Bench(server)
        for name in WORKLOADS:
            if name in arguments.only.split(","):
                found.append(bench.compare(name, arguments.rows, arguments.rounds))
                print("  ".join(f"{key}: {value}" for key, value in found[-1].items()), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    main()
