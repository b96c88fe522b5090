"""The demonstration, made small, on the in-process broker, and which broker it takes. The tutorial has its test on a real one."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from examples import demo_broker
from examples.demo import DemoError, Scale, demo
from examples.demo_broker import in_process_broker, running_broker
from examples.kafka_artifacts import EmbeddedKafkaError
from examples.marketplaces import MARKETPLACES
from examples.topics import make_topic, send
from journal import store
from journal.audit_check import check
from journal.refused_standing import look
from sources.kafka.broker import Broker, Topic
from sources.kafka.config import KafkaConfig
from sources.kafka.errors import UnknownTopic
from tests.nursery import Born

SMALL = Scale(orders=1_500, marketplace_orders=300, writing=4.0, kill_after=1.0)


@pytest.mark.timeout(240)
def test_the_story_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Born)
    said = io.StringIO()
    assert demo(Console(file=said, width=120), tmp_path / "shop", kafka=False, scale=SMALL) == 0, said.getvalue()
    text = said.getvalue()
    assert "Kafka is librdkafka's in-process broker, as you wish" in text
    assert "it is back as process" in text
    assert "Nothing was lost, nothing doubled, and the counts add up." in text
    bad = {cause for marketplace in MARKETPLACES for cause in marketplace.bad}
    assert len(bad) == 8
    held_back = text.partition("sluice quarantine list")[2]
    for channel in ("portal", "aws", "azure"):
        placed, delivered, held, missing, extra, differ = _numbers(channel, text.partition("orders come from")[2])
        assert placed == delivered + held > (1_500 if channel == "portal" else 300)
        assert (missing, extra, differ) == (0, 0, 0)
        assert (f"│ {channel} " in held_back) is (held > 0)
    assert ("records went through the whole contract again" in text) is ("total-not-negative" in held_back.partition("The owner")[0])
    assert "<html" in (tmp_path / "shop" / "reports" / "orders.html").read_text()
    state = tmp_path / "shop" / ".sluice" / "commerce"
    refused = look(state, time.time())
    with closing(sqlite3.connect(state / store.FILE)) as db:
        trail = check(db, None, None, refused)
    assert (trail.findings, trail.before_digests, trail.n > 0) == ([], 0, True)


def _numbers(first: str, text: str) -> list[int]:
    """The numbers of the first row of a table that begins with this word."""
    found = re.search(rf"│ {first} +│(.*)│\n", text)
    assert found is not None, text
    return [int(cell.replace(",", "")) for cell in found[1].split("│")]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(DemoError, match="not empty"):
        demo(Console(file=io.StringIO()), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_machine_without_java_gets_the_in_process_broker_and_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise EmbeddedKafkaError("no Java 17 or later on this machine", hint="install one")

    monkeypatch.setattr(demo_broker, "find_java", nowhere)
    with running_broker(tmp_path, ["a"], real=None) as broker:
        assert broker.about == "librdkafka's in-process broker, as there is no Java 17 or later on this machine; --kafka gets a real one"
        send(broker.address, "a", ["1", "2"])


def test_nothing_is_fetched_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/nowhere")  # neither Maven
    with running_broker(tmp_path, [], real=None) as broker:
        assert broker.about.startswith("librdkafka's in-process broker")
    assert not (tmp_path / "cache").exists()
    with pytest.raises(EmbeddedKafkaError), running_broker(tmp_path, [], real=True):
        pass


def test_a_real_broker_that_does_not_start_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, **_: object) -> None:
            raise EmbeddedKafkaError("Kafka ended with code 1 as it started:\nOutOfMemory")

    monkeypatch.setattr(demo_broker, "_missing", lambda: "")
    monkeypatch.setattr(demo_broker, "EmbeddedKafka", Broken)
    with running_broker(tmp_path, [], real=None) as broker:
        assert "as no other starts here: Kafka ended with code 1 as it started:; --kafka" in broker.about


def test_a_topic_of_brokers_without_a_controller_is_read_without_its_id() -> None:
    with in_process_broker() as address:
        make_topic(address, "orders", 4)
        asked = Broker(_config(address, "orders"), "test")
        assert asked.topic() == Topic("", (0, 1, 2, 3))
        assert asked.topic() == Topic("", (0, 1, 2, 3))
        assert asked.ends([0, 1]) == {0: 0, 1: 0}
        with pytest.raises(UnknownTopic):
            Broker(_config(address, "payments"), "test").topic()


def _config(address: str, topic: str) -> KafkaConfig:
    return KafkaConfig.model_validate({"bootstrap_servers": address, "topic": topic, "format": "json"})


def test_a_file_is_sent_to_a_topic_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(5)))
    with in_process_broker() as address:
        command = [sys.executable, "-m", "examples.topics", address, "orders", str(tmp_path / "orders.jsonl")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "5 messages sent to orders\n"), done.stderr
        asked = Broker(_config(address, "orders"), "test")
        assert asked.ends(asked.topic().partitions) == {0: 5, 1: 0, 2: 0, 3: 0}
    assert subprocess.run([*command[:3], "x"], capture_output=True, text=True, check=False).returncode == 2
