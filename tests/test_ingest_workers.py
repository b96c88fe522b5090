"""Several processes that read topics for one ingest: nothing is lost or doubled, and of a key nothing is out of order."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from pathlib import Path

import pytest

from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.kafka_place import Kafka, Message
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: shop
state: .sluice
sources:
  clicks: {{type: kafka, bootstrap_servers: "{servers}", topic: "{topic}", format: json, schema: {{id: bigint, n: integer}}}}
datasets:
  clicks: {{from: clicks, key: [id]}}
sinks:
  out: {{type: duckdb, path: out.duckdb, datasets: {{clicks: {{}}, history: {{}}}}}}
"""


class Clicks:
    """A topic of numbered messages, a key always in one partition, and a pipeline that reads it."""

    def __init__(self, kafka: Kafka, make_pipeline: MakePipeline) -> None:
        self.kafka = kafka
        self.topic = kafka.make_topic(5)
        text = _FILE.format(servers=kafka.bootstrap_servers, topic=self.topic).replace(", history: {}", "")
        self.pipeline: PipelineUnderTest = make_pipeline(text)
        self.sent = 0

    def send(self, count: int, bad: int = 0) -> None:
        """Messages of 500 keys; each one's `n` is above all before it. The last `bad` cannot be read."""
        rows = range(self.sent, self.sent + count)
        messages = [Message(json.dumps({"id": n % 500, "n": n}), partition=n % 500 % 5, key=str(n % 500)) for n in rows]
        self.kafka.produce(self.topic, [*messages, *(Message("{", partition=n % 5, key=str(n)) for n in range(bad))])
        self.sent += count

    def all_there(self) -> bool:
        """Whether the warehouse has the newest message of each key, and the counts say that each came once."""
        found = self.pipeline.status()["datasets"].get("clicks", {})
        if found.get("in") != self.sent + self.bad:
            return False
        rows = self.pipeline.duckdb("SELECT id, n FROM clicks ORDER BY id", "out.duckdb")
        newest = {n % 500: n for n in range(self.sent)}
        return rows == sorted(newest.items())

    bad = 0


def workers(pipeline: PipelineUnderTest) -> set[int]:
    """Pids of the processes that read, without that which keeps them."""
    found = set()
    for pid in pipeline.processes("ingest"):
        with contextlib.suppress(OSError):
            if b"--process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


@pytest.fixture
def clicks(kafka: Kafka, make_pipeline: MakePipeline) -> Clicks:
    return Clicks(kafka, make_pipeline)


def test_several_processes_read_one_topic(clicks: Clicks) -> None:
    clicks.send(20_000, bad=3)
    clicks.bad = 3
    ingest = clicks.pipeline.start("--only", "ingest", "--workers", "3")
    deliver = clicks.pipeline.start("--only", "deliver:out")
    wait_for(clicks.all_there, 90, lambda: f"all rows; the log says {clicks.pipeline.log[-3000:]}")
    shown = clicks.pipeline.sluice("quarantine", "list", str(clicks.pipeline.file), "--json").json
    assert sorted(record["position"]["partition"] for record in shown) == [0, 1, 2]
    raw = clicks.pipeline.sluice("quarantine", "show", str(clicks.pipeline.file), shown[0]["id"], "--json").json["raw"]
    assert raw["value"] == "ew=="
    clicks.send(5_000)
    wait_for(clicks.all_there, message="what came later")
    assert clicks.pipeline.stop(ingest) == 0
    assert clicks.pipeline.stop(deliver) == 0
    clicks.send(1_000)
    clicks.pipeline.sync()  # alone again
    assert clicks.all_there()


def test_whichever_of_them_is_killed_each_message_comes_once(clicks: Clicks) -> None:
    draw = random.Random(3)
    ingest = clicks.pipeline.start("--only", "ingest", "--workers", "2")
    deliver = clicks.pipeline.start("--only", "deliver:out")
    for _ in range(4):
        clicks.send(8_000)
        before = set(wait_for(lambda: workers(clicks.pipeline), message="workers"))
        os.kill(draw.choice(sorted(before)), signal.SIGKILL)
        wait_for(lambda gone=before: set(workers(clicks.pipeline)) - gone, message="others in their place")  # type: ignore[misc]
    wait_for(clicks.all_there, 90, lambda: f"all rows; the log says {clicks.pipeline.log[-3000:]}")
    assert clicks.pipeline.stop(ingest) == 0
    assert clicks.pipeline.stop(deliver) == 0


def test_sources_that_one_process_reads_are_refused(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    pipeline = make_pipeline(
        "pipeline: a\nstate: .sluice\n"
        "sources: {p: {type: postgres, dsn: host=x, tables: [public.a]}}\nsinks: {o: {type: duckdb, path: o.db}}\n"
    )
    done = pipeline.sluice("run", str(pipeline.file), "--only", "ingest", "--workers", "2")
    assert done.code == 2
    assert "none of the sources can be read by several processes" in done.err
