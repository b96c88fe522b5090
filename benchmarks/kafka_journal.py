"""The journal in Kafka beside the local one, in the same run: rates, CPU, and how long a commit takes to become visible in a sink.

    python -m benchmarks.kafka_journal [--rows 500000] [--rounds 2] [--only journal|postgres|latency] [--out FILE]

The pipeline is that of benchmarks.end_to_end: Postgres, ten rules, journal, a Postgres sink. The broker is one, on this machine. `apart` is
a sink whose process has a state folder of its own, as on another machine, so that all it gets comes through the topics.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.end_to_end import Bench, Row, fresh, show
from benchmarks.latency import latency
from examples.embedded_kafka import EmbeddedKafka
from examples.embedded_postgres import EmbeddedPostgres

_SETTINGS: dict[str, str | int] = {"shared_buffers": "512MB", "max_wal_size": "8GB", "max_replication_slots": 10, "max_wal_senders": 10}


def main() -> None:
    """Prints a line for each measurement, and writes JSON where it is asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=["journal", "postgres", "latency"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedKafka() as broker,
        EmbeddedPostgres(version=15, settings=_SETTINGS) as source,
        EmbeddedPostgres(version=15, settings=_SETTINGS) as store,
    ):
        for number in range(options.rounds):
            folder = Path(name, str(number))

            def in_kafka(what: str, number: int = number) -> str:
                return f"{{type: kafka, bootstrap_servers: '{broker.bootstrap_servers}', prefix: {what}{number}}}"

            for kind in ("journal", "postgres"):
                for place, journal in (("local", "{type: local}"), ("kafka", in_kafka(kind))):
                    if options.only in (None, kind):
                        fresh(source, store)
                        measured = Bench(folder / place, source, store, journal).stream(kind, options.rows)
                        results.append(show({"journal": place, **measured}))
            for place, journal in (("local", "{type: local}"), ("kafka", in_kafka("near")), ("kafka, apart", in_kafka("far"))):
                if options.only in (None, "latency"):
                    fresh(source, store)
                    measured = latency(folder / place, source.dsn, store.dsn, journal, apart="apart" in place)
                    results.append(show({"journal": place, **measured}))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
