"""Reading a table and decoding it against COPY to /dev/null on the same table in the same run: rates, and CPU of this end.

    python -m benchmarks.snapshot_decode [--rows 1000000] [--rounds 3] [--version 15] [--out FILE]

The bound is psql's COPY … TO STDOUT to /dev/null. Ours ends with text columns, of which nothing is kept: over the bare socket, over
libpq (as with TLS), and through a whole source with its first copy, from start() to the end marker.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks import measuring, workload
from examples.embedded_postgres import EmbeddedPostgres
from journal.batch import CopyMarker
from sources.base import CopyState, Resume, SourceContext
from sources.postgres.catalogue import matching, read_tables
from sources.postgres.config import PostgresConfig
from sources.postgres.copy import copy_query, copy_rows
from sources.postgres.patterns import TablePatterns
from sources.postgres.session import Server
from sources.postgres.source import PostgresSource

_SETTINGS: dict[str, str | int] = {"shared_buffers": "512MB", "max_wal_size": "8GB", "synchronous_commit": "off"}

Figures = tuple[float, float]  # seconds by the clock, seconds of CPU


def psql(postgres: EmbeddedPostgres, rows: int) -> Figures:
    """COPY to /dev/null."""
    return measuring.run_seconds([str(postgres.binaries.folder / "psql"), postgres.dsn, "-qc", "COPY bench TO STDOUT"])


def decoded(plain: bool) -> Callable[[EmbeddedPostgres, int], Figures]:
    """The table as columns; `plain`: over the bare socket."""

    def run(postgres: EmbeddedPostgres, rows: int) -> Figures:
        server = Server(postgres.dsn, "bench", 10)
        server.plain = plain
        with closing(server.connect()) as connection:
            found = read_tables(connection, [match.oid for match in matching(connection, TablePatterns(["bench"]))])
            table = next(iter(found.values()))
            wall, cpu = time.perf_counter(), time.process_time()
            pieces = copy_rows(server, connection, copy_query(table, table.live), len(table.live), lambda: False)
            count = sum(piece.count for piece in pieces)
            used = time.perf_counter() - wall, time.process_time() - cpu
        assert count == rows
        return used

    return run


def first_copy(postgres: EmbeddedPostgres, rows: int) -> Figures:
    """A source from its start to the end of its first copy."""
    with tempfile.TemporaryDirectory() as folder:
        config = PostgresConfig.model_validate({"dsn": postgres.dsn, "tables": ["bench"]})
        context = SourceContext(pipeline="bench", name="db", state=Path(folder), recall=lambda table: False)
        source = PostgresSource(config, context)
        wall, cpu = time.perf_counter(), time.process_time()
        source.start(Resume(None, CopyState(), {}))
        count, whole = 0, False
        while not whole:
            segment = source.take(1.0)
            if segment is not None:
                count += segment.rows
                whole = any(isinstance(entry, CopyMarker) and entry.phase == "end" for entry in segment.entries)
        used = time.perf_counter() - wall, time.process_time() - cpu
        source.close()
        source.start_over(do=True)
    assert count == rows
    return used


WAYS: dict[str, Callable[[EmbeddedPostgres, int], Figures]] = {
    "COPY to /dev/null": psql,
    "decoded, bare socket": decoded(plain=True),
    "decoded, through libpq": decoded(plain=False),
    "first copy of a source": first_copy,
}


def main() -> None:
    """Prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", type=int, default=15)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = arguments.rows
    with EmbeddedPostgres(version=arguments.version, settings=_SETTINGS) as server:
        workload.fill(server.dsn, 1, rows)
        with server.connect() as connection:
            connection.execute("VACUUM ANALYZE bench")
        for way in WAYS.values():  # the first time of each loads what it needs
            way(server, rows)
        rounds = [{name: way(server, rows) for name, way in WAYS.items()} for _ in range(arguments.rounds)]
    found = []
    for name in WAYS:
        ratios = [of["COPY to /dev/null"][0] / of[name][0] for of in rounds]
        wall, cpu = (statistics.median(of[name][i] for of in rounds) for i in (0, 1))
        found.append(
            {
                "what": name,
                "rows/s": round(rows / wall),
                "of the bound": round(statistics.median(ratios), 2),
                "us/row": round(cpu / rows * 1e6, 2),
            }
        )
        print("  ".join(f"{key}: {value}" for key, value in found[-1].items()), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    main()
