"""Kafka into the gate and the journal, beside readers of the same topic that do nothing else, one after the other.

    python -m benchmarks.kafka_source [--messages 500000] [--partitions 4] [--formats json,cloudevents,avro] [--out FILE]

`traced` is `json` with a `traceparent` and another header in every message, `headed` with two others.

Peers: Kafka's own ConsumerPerformance (fetch only) and a bare loop of `consume` in Python. Ours: `sluice run --only ingest` with ten rules,
from the first message that is in the journal to the last; CPU is all of its threads', librdkafka's among them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks import measuring, workload
from examples.embedded_kafka import EmbeddedKafka
from examples.kafka_artifacts import broker_artifacts, find_java
from journal.ledger import Tally
from journal.local import JournalReader, journal_exists
from tests.fake_registry import fake_registry

_MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
_AVRO: dict[str, Any] = {
    "type": "record", "name": "Bench", "fields": [
        {"name": "id", "type": "long"}, {"name": "customer_id", "type": "int"},
        *({"name": name, "type": "string"} for name in ("email", "region", "status", "currency")),
        *({"name": name, "type": _MONEY} for name in ("subtotal", "tax", "total")),
        {"name": "quantity", "type": "int"}, {"name": "active", "type": "boolean"},
        *({"name": name, "type": {"type": "long", "logicalType": "timestamp-micros"}} for name in ("starts_at", "ends_at")),
    ],
}  # fmt: skip
_BARE = """
import sys, time
from confluent_kafka import Consumer, TopicPartition, OFFSET_BEGINNING
servers, topic, partitions, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
c = Consumer({"bootstrap.servers": servers, "group.id": "bare", "enable.auto.commit": False, "fetch.queue.backoff.ms": 5})
c.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
n, began = 0, None
while n < wanted:
    found = c.consume(10000, 0.05)
    if found and began is None:
        began = time.perf_counter()
    n += sum(m.error() is None and m.value() is not None for m in found)
print(n / (time.perf_counter() - began))
"""

Row = dict[str, object]
Headers = Callable[[int], list[tuple[str, str | bytes | None]]]
_JSON = ("content-type", b"application/json")
_HEADERS: dict[str, Headers] = {
    "cloudevents": lambda n: [("content-type", b"application/cloudevents+json")],
    "traced": lambda n: [_JSON, ("traceparent", b"00-%032x-%016x-01" % (n + 1, n + 1))],
    "headed": lambda n: [_JSON, ("correlation", b"%055x" % n)],
}


def _json(n: int) -> bytes:
    return (
        f'{{"id":{n},"customer_id":{n % 10000},"email":"user{n}@example.com","region":"{"EU" if n % 2 else "US"}","status":"active",'
        f'"currency":"EUR","subtotal":{n % 1000}.00,"tax":1.50,"total":{n % 1000 + 1}.50,"quantity":{n % 100},'
        f'"active":{"true" if n % 2 else "false"},"starts_at":"2026-01-01T10:{n // 60 % 60:02}:{n % 60:02}Z",'
        f'"ends_at":"2027-01-01T10:{n // 60 % 60:02}:{n % 60:02}Z"}}'
    ).encode()


def _cloudevent(n: int) -> bytes:
    head = f'{{"specversion":"1.0","id":"{n}","source":"/bench","type":"order","data":'.encode()
    return head + _json(n) + b"}"


def _avro(schema: Any, number: int) -> Callable[[int], bytes]:
    from datetime import UTC, datetime
    from decimal import Decimal

    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

    def write(n: int) -> bytes:
        body = io.BytesIO()
        amount = Decimal(n % 1000)
        record = {
            "id": n, "customer_id": n % 10000, "email": f"user{n}@example.com", "region": "EU", "status": "active", "currency": "EUR",
            "subtotal": amount, "tax": Decimal("1.50"), "total": amount + Decimal("1.50"), "quantity": n % 100, "active": n % 2 == 0,
            "starts_at": start, "ends_at": end,
        }  # fmt: skip
        fastavro.schemaless_writer(body, schema, record)
        return b"\0" + struct.pack(">I", number) + body.getvalue()

    return write


class Bench:
    """One broker, and a topic for each format."""

    def __init__(self, folder: Path, broker: EmbeddedKafka, messages: int, partitions: int) -> None:
        self.folder = folder
        self.servers = broker.bootstrap_servers
        self.messages = messages
        self.partitions = partitions

    def fill(self, topic: str, write: Callable[[int], bytes], headers: Headers) -> int:
        """Makes a topic with all messages; returns their bytes."""
        client = AdminClient({"bootstrap.servers": self.servers})
        for answer in client.create_topics([NewTopic(topic, self.partitions, 1)]).values():
            answer.result(30)
        producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
        size = 0
        for n in range(self.messages):
            value = write(n)
            size += len(value)
            while True:
                try:
                    producer.produce(topic, value, str(n), headers=headers(n), partition=n % self.partitions)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush(120)
        return size

    def performance(self, topic: str) -> float:
        """Messages a second of Kafka's own ConsumerPerformance, without the time that its group takes to form."""
        jars = ":".join(str(jar) for jar in sorted(broker_artifacts().glob("*.jar")))
        tool = [str(find_java().program), "-Xmx512m", "-cp", jars, "org.apache.kafka.tools.ConsumerPerformance"]
        wanted = ["--bootstrap-server", self.servers, "--topic", topic, "--num-records", str(self.messages), "--timeout", "60000"]
        said = subprocess.run([*tool, *wanted], capture_output=True, text=True, check=True).stdout.strip().splitlines()
        names, values = (line.split(", ") for line in said[-2:])
        return float(dict(zip(names, values, strict=True))["fetch.nMsg.sec"])

    def bare(self, topic: str) -> float:
        """Messages a second of a loop that consumes and counts."""
        command = [sys.executable, "-c", _BARE, self.servers, topic, str(self.partitions), str(self.messages)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def ours(self, topic: str, kind: str, block: str) -> Row:
        """Gate and journal behind it."""
        folder = self.folder / topic
        file = workload.pipeline(folder, "host=x", "  out: {type: duckdb, path: out.duckdb}")
        source = f"  db: {{type: kafka, bootstrap_servers: '{self.servers}', topic: {topic}, format: {kind}{block}}}"
        text = re.sub(r"  db: .*", source, file.read_text("utf-8")).replace("db.public.bench", "db")
        file.write_text(text, "utf-8")
        state = folder / "state"
        ingest = measuring.sluice("run", str(file), "--only", "ingest")
        measuring.wait(lambda: journal_exists(state) and _count(state) > 0, pause=0.002)
        began, first, cpu = time.perf_counter(), _count(state), ingest.cpu()
        with JournalReader.open(state, "bench") as reader:
            ended = measuring.wait(lambda: reader.totals().get("bench", Tally()).rows >= self.messages, pause=0.02)
        used, rows = ingest.cpu() - cpu, self.messages - first
        told: Row = {"messages/s": round(rows / (ended - began)), "us CPU/message": round(used / rows * 1e6, 2)}
        told["peak MB"] = round(ingest.peak_mb())
        before = ingest.cpu()
        time.sleep(5)
        told["idle % of a core"] = round((ingest.cpu() - before) / 5 * 100, 2)
        ingest.stop()
        return told


def _count(state: Path) -> int:
    with JournalReader.open(state, "bench") as reader:
        return reader.totals().get("bench", Tally()).rows


def _formats(wanted: str, registry: Any) -> Iterator[tuple[str, str, Callable[[int], bytes], str]]:
    """What is measured, its format, how a message is written, and what the source's block says more."""
    for name in wanted.split(","):
        if name == "avro":
            registry.add(1, _AVRO)
            yield name, name, _avro(fastavro.parse_schema(_AVRO), 1), f", schema_registry: {{url: '{registry.options.url}'}}"
        elif name == "cloudevents":
            yield name, name, _cloudevent, ""
        else:
            yield name, "json", _json, ""


def main() -> None:
    """Prints a line for each format, and writes JSON where it is asked to."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--messages", type=int, default=500_000)
    options.add_argument("--partitions", type=int, default=4)
    options.add_argument("--formats", default="json,cloudevents,avro")
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka() as broker, fake_registry() as registry:
        bench = Bench(Path(folder), broker, chosen.messages, chosen.partitions)
        for name, kind, write, block in _formats(chosen.formats, registry):
            size = bench.fill(name, write, _HEADERS.get(name, lambda n: []))
            perf, bare = bench.performance(name), bench.bare(name)
            ours = bench.ours(name, kind, block)
            ratio = round(float(str(ours["messages/s"])) / perf, 2)
            rows.append(
                {
                    "format": name,
                    "bytes/message": round(size / chosen.messages),
                    "ConsumerPerformance": round(perf),
                    "bare loop": round(bare),
                    **ours,
                    "ratio": ratio,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    told = {"messages": chosen.messages, "partitions": chosen.partitions, "cores": os.cpu_count(), "rows": rows}
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(told, indent=2), "utf-8")


if __name__ == "__main__":
    main()
