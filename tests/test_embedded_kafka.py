"""The embedded Kafka broker and schema registry, and what tests get on them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from examples import kafka_artifacts
from examples.certificates import Authority
from examples.embedded_kafka import EmbeddedKafka, EmbeddedKafkaError
from examples.kafka_artifacts import cache_folder, find_java
from tests.fix_kafka import LaunchKafka, LaunchRegistry, Registry
from tests.kafka_place import Kafka, Message, Received
from tests.shared_server import PASSWORD, ROOT, shared
from tests.waiting import wait_for

SILENT: dict[str, Any] = {"log_level": 0}


def without_time(messages: list[Received]) -> list[tuple[bytes | None, bytes | None, int, int]]:
    return [(message.key, message.value, message.partition, message.offset) for message in messages]


def test_messages_come_back_with_key_headers_partition_and_time(kafka: Kafka) -> None:
    topic = kafka.make_topic(partitions=2)
    kafka.produce(
        topic, [Message("one", "k", [("h", b"1"), ("h", b"2")], partition=1, timestamp=1_700_000_000_000), Message(None, "k", partition=0)]
    )
    assert kafka.consume(topic) == [
        Received(None, b"k", (), 0, 0, kafka.consume(topic)[0].timestamp),
        Received(b"one", b"k", (("h", b"1"), ("h", b"2")), 1, 0, 1_700_000_000_000),
    ]


@pytest.mark.parametrize("listener", ["plain", "tls", "mutual_tls", "sasl", "oauth"])
def test_every_listener_takes_and_gives_messages(kafka: Kafka, listener: str) -> None:
    options = getattr(kafka.listeners, listener)
    topic = kafka.make_topic()
    kafka.produce(topic, ["a", "b"], **options)
    assert [message.value for message in kafka.consume(topic, **options)] == [b"a", b"b"]


def refusal(options: dict[str, Any]) -> KafkaError:
    """The first error that a client with these options hears."""
    heard: list[KafkaError] = []
    client = AdminClient(options | SILENT | {"error_cb": heard.append})

    def refused() -> list[KafkaError]:
        client.poll(0.05)
        return heard

    return wait_for(refused, message="a refusal")[0]


def test_a_wrong_password_is_refused(kafka: Kafka) -> None:
    assert refusal({**kafka.sasl, "sasl.password": "wrong"}).code() == KafkaError._AUTHENTICATION


def test_a_server_whose_authority_is_not_trusted_is_refused(kafka: Kafka, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(Authority.make().pem)
    # librdkafka tells this by one code or another, depending on who speaks first
    assert "certificate verify failed" in refusal({**kafka.tls, "ssl.ca.location": str(tmp_path / "other.pem")}).str()


def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(kafka: Kafka) -> None:
    options = {name: text for name, text in kafka.listeners.mutual_tls.items() if "certificate" not in name and "key" not in name}
    # librdkafka takes the alert for a broken connection: in TLS 1.3 it comes when the client already deems itself connected.
    assert "alert bad certificate" in refusal(options).str()


def test_a_stranger_logs_in_and_may_do_nothing(kafka: Kafka) -> None:
    topic = kafka.make_topic()
    with pytest.raises(KafkaException) as caught:
        kafka.produce(topic, ["x"], **kafka.listeners.stranger)
    assert caught.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_only_committed_messages_are_read_unless_all_are_asked_for(kafka: Kafka) -> None:
    topic = kafka.make_topic()
    producer = Producer({**kafka.plain, "transactional.id": kafka.prefix})
    producer.init_transactions(30)
    for value, end in (("kept", producer.commit_transaction), ("dropped", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value=value)
        producer.flush(30)
        end(30)
    assert [message.value for message in kafka.consume(topic)] == [b"kept"]
    assert [message.value for message in kafka.consume(topic, isolation="read_uncommitted")] == [b"kept", b"dropped"]


def test_a_topic_is_made_as_asked_grows_and_can_be_made_anew(kafka: Kafka) -> None:
    topic = kafka.make_topic(cleanup_policy="compact")
    kafka.add_partitions(topic, 3)
    kafka.produce(topic, [Message("x", "k", partition=2)])
    assert without_time(kafka.consume(topic)) == [(b"k", b"x", 2, 0)]
    kafka.delete_topic(topic)
    kafka.make_topic(name=topic)
    assert kafka.consume(topic) == []


def test_nothing_is_left_of_the_topics_of_a_test(kafka: Kafka) -> None:
    topic = kafka.make_topic()
    assert kafka.topics() == [topic]
    kafka.clean_up()
    assert kafka.topics() == []


def test_all_who_ask_get_the_same_broker_and_registry(kafka: Kafka, registry: Registry, run_folder: Path) -> None:
    with shared("kafka", run_folder) as again, shared("registry", run_folder) as registry_again:
        assert again["plain"] == kafka.plain
        assert registry_again["url"] == registry.url


def test_the_password_is_on_no_command_line(kafka: Kafka, run_folder: Path) -> None:
    assert kafka.sasl["sasl.password"] == PASSWORD
    with shared("kafka", run_folder) as about:
        assert PASSWORD.encode() not in Path(f"/proc/{about['pid']}/cmdline").read_bytes()


def test_the_registry_gives_ids_and_refuses_what_is_not_compatible(registry: Registry) -> None:
    subject = f"{registry.prefix}-value"
    record = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "%s"}]}'
    first = registry.register(subject, record % "int")
    assert httpx.get(f"{registry.url}/schemas/ids/{first}").json()["schema"] == record % "int"
    registry.set_compatibility(subject, "BACKWARD")
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        registry.register(subject, record % "string")


def test_a_broker_that_is_killed_paused_or_restarted_keeps_its_address_and_data(launch_kafka: LaunchKafka) -> None:
    kafka = launch_kafka()
    topic, address = kafka.make_topic(), kafka.bootstrap_servers
    kafka.produce(topic, ["kept"])
    kafka.server.kill()
    assert kafka.server.pid is None
    kafka.server.start()
    assert kafka.server.bootstrap_servers == address
    assert [message.value for message in kafka.consume(topic)] == [b"kept"]

    kafka.server.pause()
    with pytest.raises(KafkaException):
        AdminClient({**kafka.plain, **SILENT}).list_topics(timeout=0.3)
    kafka.server.resume()
    kafka.produce(topic, ["more"])

    kafka.server.restart(settings={"message.max.bytes": 2000})
    assert [message.value for message in kafka.consume(topic)] == [b"kept", b"more"]
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        kafka.produce(topic, [b"x" * 3000])

    home, pid = kafka.server.home, kafka.server.pid
    kafka.server.remove()
    assert not home.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_registry_of_a_tests_own_can_be_killed(launch_registry: LaunchRegistry) -> None:
    server = launch_registry()
    assert httpx.get(f"{server.url}/subjects").json() == []
    server.kill()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/subjects")


OWNER = """
import os, signal
from examples.embedded_kafka import EmbeddedKafka
server = EmbeddedKafka().start()
print(server.pid, server.home, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("kafka_listeners")  # which skips where there is no broker to be had
def test_a_broker_ends_with_an_owner_that_is_killed() -> None:
    done = subprocess.run([sys.executable, "-c", OWNER], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    pid, home = done.stdout.split()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() and not Path(home).exists(), message="the broker and its folder to go")


@pytest.mark.usefixtures("kafka_listeners")
def test_a_broker_that_cannot_start_says_why() -> None:
    with pytest.raises(EmbeddedKafkaError, match=r"num\.partitions"), EmbeddedKafka(settings={"num.partitions": "many"}):
        pass


def test_without_java_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_artifacts, "_java_candidates", lambda: iter([Path("/nowhere/java")]))
    with pytest.raises(EmbeddedKafkaError, match=r"no Java 17 or later(?s:.*)default-jre-headless"):
        find_java()


def test_without_maven_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLUICE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedKafkaError, match=r"Maven(?s:.*)install the package maven"):
        kafka_artifacts.broker_artifacts()
    assert cache_folder() == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["kafka.lock"]
