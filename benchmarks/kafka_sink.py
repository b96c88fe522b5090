"""The Kafka sink alone, beside Kafka's own producer benchmark on the same broker in the same run.

    python -m benchmarks.kafka_sink [--rows 500000] [--batch 10000] [--rounds 3] [--out FILE]

Every figure is the best of the rounds: messages/s by the clock, and microseconds of CPU per message in this process (or in Java's).
The bounds: ProducerPerformance with records of the size that the sink's have, without transactions and with one for each 100 ms, and a
plain loop of produce() over messages that are ready.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Producer

from benchmarks.postgres_sink import SCHEMA, batches, measured, values
from examples.embedded_kafka import EmbeddedKafka
from examples.embedded_registry import EmbeddedRegistry
from examples.kafka_artifacts import broker_artifacts, find_java
from journal.batch import Op
from sinks.base import NO_ROWS, Cursor, Target
from sinks.kafka import KafkaSink
from sinks.kafka_config import KafkaConfig
from sinks.kafka_json import objects

_names = itertools.count()
_RATE = re.compile(r"([\d.]+) records/sec")


class Bench:
    """One broker; each round writes to topics of its own."""

    def __init__(self, server: EmbeddedKafka, columns: list[pa.Array], batch: int) -> None:
        self.server = server
        self.columns = columns
        self.batch = batch

    @property
    def rows(self) -> int:
        return len(self.columns[0])

    def sink(self, **config: Any) -> tuple[KafkaSink, Target]:
        """A sink that is open, and its target, made and empty."""
        given = {"bootstrap_servers": self.server.bootstrap_servers, "partitions": 3, **config}
        sink = KafkaSink("bench", KafkaConfig.model_validate(given), f"bench{next(_names)}")
        sink.open("bench")
        target = Target("bench", f"{sink.pipeline}.bench", SCHEMA)
        sink.begin()
        sink.prepare(target)
        sink.commit(Cursor("bench", 0))
        return sink, target

    def deliver(self, op: Op, **config: Any) -> Callable[[], None]:
        """What writes the rows, a transaction for each ten batches."""
        made = batches(self.columns, op, self.batch, 1)
        sink, target = self.sink(**config)

        def run() -> None:
            for n in range(0, len(made), 10):
                sink.begin()
                for batch in made[n : n + 10]:
                    assert not sink.write(target, batch, NO_ROWS)
                sink.commit(Cursor("bench", n + 1))
            sink.close()

        return run

    def loop(self) -> Callable[[], None]:
        """The bound in this language: produce() of messages that are ready, without headers or transactions."""
        encoded = objects(SCHEMA.columns, self.columns)[0].cast(pa.binary()).to_pylist()
        keys = objects(SCHEMA.columns[:1], self.columns[:1])[0].cast(pa.binary()).to_pylist()
        topic = f"loop{next(_names)}"
        self._make(topic)
        options: dict[str, Any] = {"bootstrap.servers": self.server.bootstrap_servers, "enable.idempotence": True, "linger.ms": 5}
        queue = {"queue.buffering.max.messages": 200_000, "delivery.report.only.error": True}
        producer = Producer({**options, **queue, "compression.type": "lz4", "partitioner": "murmur2_random"})

        def run() -> None:
            produce = producer.produce
            for key, value in zip(keys, encoded, strict=True):
                while True:
                    try:
                        produce(topic, value, key)
                        break
                    except BufferError:
                        producer.poll(0.01)
            producer.flush()

        return run

    def java(self, folder: Path, transactional: bool) -> tuple[float, float]:
        """ProducerPerformance with the same payloads: records/s as it says, and its CPU per record (with what Java takes to start)."""
        topic = f"java{next(_names)}"
        self._make(topic)
        payloads = folder / "payloads"
        if not payloads.exists():
            sample = objects(SCHEMA.columns, [column.slice(0, 20_000) for column in self.columns])[0]
            payloads.write_text("\n".join(sample.to_pylist()))
        jars = ":".join(str(jar) for jar in sorted(broker_artifacts().glob("*.jar")))
        command = [
            str(find_java().program), "-cp", jars, "org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records",
            str(self.rows), "--throughput", "-1", "--payload-file", str(payloads), "--producer-props",
            f"bootstrap.servers={self.server.bootstrap_servers}", "acks=all", "linger.ms=5", "compression.type=lz4", "batch.size=1000000",
        ]  # fmt: skip
        command += ["--transactional-id", topic, "--transaction-duration-ms", "100"] if transactional else []
        before = os.times()
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return float(_RATE.findall(said)[-1]), cpu / self.rows * 1e6

    def _make(self, topic: str) -> None:
        sink = KafkaSink("bench", KafkaConfig(bootstrap_servers=self.server.bootstrap_servers), "bench")
        sink._topics.make(topic, 3, {})

    def latency(self, n: int) -> list[float]:
        """Milliseconds from the write of a transaction of one row to the end of its commit."""
        sink, target = self.sink()
        took = []
        for seq, batch in enumerate(batches([column.slice(0, n) for column in self.columns], Op.UPDATE, 1, 1)):
            began = time.perf_counter()
            sink.begin()
            sink.write(target, batch, NO_ROWS)
            sink.commit(Cursor("bench", seq + 1))
            took.append((time.perf_counter() - began) * 1000)
        sink.close()
        return sorted(took)


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    best: dict[str, tuple[float, float]] = {}
    with EmbeddedKafka() as server, EmbeddedRegistry() as registry:
        bench = Bench(server, values(told.rows, 1), told.batch)
        avro: Mapping[str, Any] = {"format": "avro", "schema_registry": {"url": registry.url}}
        for _ in range(told.rounds):
            found = {
                "ProducerPerformance": bench.java(server.home, False),
                "ProducerPerformance, transactions": bench.java(server.home, True),
                "produce() alone": measured(told.rows, bench.loop()),
                "sink, json": measured(told.rows, bench.deliver(Op.INSERT)),
                "sink, cloudevents": measured(told.rows, bench.deliver(Op.INSERT, format="cloudevents")),
                "sink, structured cloudevents": measured(told.rows, bench.deliver(Op.INSERT, format="cloudevents", mode="structured")),
                "sink, avro": measured(told.rows, bench.deliver(Op.INSERT, **avro)),
                "sink, json, deletes": measured(told.rows, bench.deliver(Op.DELETE)),
            }
            for name, figures in found.items():
                best[name] = max(best.get(name, (0.0, 0.0)), figures)
        took = bench.latency(300)
    print(f"{told.rows} rows of {len(SCHEMA.columns)} columns, batches of {told.batch}, 3 partitions, lz4")
    for name, (rate, cpu) in best.items():
        print(f"  {name:36} {rate:>10,.0f} messages/s {cpu:>7.2f} us CPU per message")
    print(f"  one row, write and commit: p50 {statistics.median(took):.2f} ms, p99 {took[int(len(took) * 0.99)]:.2f} ms")
    if told.out:
        figures_out = {name: {"messages_per_second": rate, "cpu_us_per_message": cpu} for name, (rate, cpu) in best.items()}
        told.out.write_text(json.dumps({"rows": told.rows, **figures_out, "one_row_ms": statistics.median(took)}, indent=2))


if __name__ == "__main__":
    main()
