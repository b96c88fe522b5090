"""What a listener speaks is found out where a client that speaks otherwise is told nothing at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline import kafka_listener
from pipeline.errors import Refused
from pipeline.kafka_listener import other_protocol
from sinks.kafka import KafkaSink
from sinks.kafka_config import KafkaConfig
from sources.base import CopyState, Resume
from tests.fix_kafka import LaunchKafka
from tests.kafka_following import following, make_source
from tests.kafka_place import Kafka
from tests.sink_place import JOURNAL
from tests.waiting import wait_for

_LOGIN = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "sluice", "sasl.password": "hunter2-is-not-it"}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker on a busy machine may answer late."""
    monkeypatch.setattr(kafka_listener, "_TIMEOUT", 30.0)


def _mistakes(kafka: Kafka) -> list[tuple[Mapping[str, str], str, str]]:
    """Options, the protocol that the listener speaks, and the one that it is spoken to."""
    at = kafka.listeners
    login = {"bootstrap.servers": at.sasl["bootstrap.servers"]}
    trust = {"ssl.ca.location": at.tls["ssl.ca.location"]}
    return [
        ({"bootstrap.servers": at.tls["bootstrap.servers"]}, "SSL", "PLAINTEXT"),
        ({"bootstrap.servers": at.mutual_tls["bootstrap.servers"]}, "SSL", "PLAINTEXT"),
        (login, "SASL_SSL", "PLAINTEXT"),
        (
            {"bootstrap.servers": at.sasl["bootstrap.servers"], "security.protocol": "SASL_PLAINTEXT", **_LOGIN},
            "SASL_SSL",
            "SASL_PLAINTEXT",
        ),
        ({"bootstrap.servers": at.sasl["bootstrap.servers"], "security.protocol": "SSL", **trust}, "SASL_SSL", "SSL"),
        ({"bootstrap.servers": kafka.bootstrap_servers, "security.protocol": "SSL", **trust}, "PLAINTEXT", "SSL"),
        ({"bootstrap.servers": kafka.bootstrap_servers, "security.protocol": "SASL_SSL", **trust, **_LOGIN}, "PLAINTEXT", "SASL_SSL"),
    ]


def test_a_listener_that_speaks_otherwise_is_refused_with_the_protocol_that_it_speaks(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    for given, spoken, wrong in (mistakes := _mistakes(kafka))[:1] + mistakes[-2:-1]:
        with pytest.raises(Refused) as found, following(dict(given), topic, tmp_path) as read:
            wait_for(lambda read=read: read.step() and False, message="the error that ends it")  # type: ignore[misc]
        said = f"{found.value} {found.value.hint}"
        assert f"`security.protocol` is {wrong}" in said
        assert spoken in said
        options = dict(given)
        servers = options.pop("bootstrap.servers")
        sink = KafkaSink("out", KafkaConfig.model_validate({"bootstrap_servers": servers, "options": options}), "test")
        with pytest.raises(Refused, match=f"`security.protocol` is {wrong}") as met:
            sink.open(JOURNAL)
        assert "hunter2" not in said + str(met.value)


def test_every_mistake_is_told_from_every_other(kafka: Kafka) -> None:
    for given, spoken, wrong in _mistakes(kafka):
        assert f"is {wrong}, and {given['bootstrap.servers']} speaks {spoken}" in (other_protocol(given) or "nothing")


def test_a_listener_that_is_spoken_to_as_it_speaks_has_no_other_protocol(kafka: Kafka) -> None:
    at = kafka.listeners
    for options in (at.plain, at.tls, at.mutual_tls, at.sasl, at.oauth):
        assert other_protocol(options) is None


def test_the_first_server_that_answers_decides(kafka: Kafka) -> None:
    tls = kafka.listeners.tls["bootstrap.servers"]
    assert other_protocol({"bootstrap.servers": f"127.0.0.1:1, PLAINTEXT://{tls}"}) is not None
    assert other_protocol({"bootstrap.servers": f"{kafka.bootstrap_servers},{tls}"}) is None


@pytest.mark.parametrize("servers", ["127.0.0.1:1", "[::1]:1", "nowhere.invalid", "127.0.0.1:notaport", ":", ""])
def test_nothing_is_said_of_what_is_away(servers: str) -> None:
    assert other_protocol({"bootstrap.servers": servers}) is None


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\2\0\0", b"\xff" * 64, b"\0\0\0\x0a\0\0\0\1\0\x21\x7f\xff\xff\xff"]
)
def test_nothing_is_said_of_what_is_no_kafka(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        try:
            for protocol in ("PLAINTEXT", "SASL_SSL"):
                assert other_protocol({"bootstrap.servers": f"127.0.0.1:{server.getsockname()[1]}", "security.protocol": protocol}) is None
        finally:
            server.shutdown(socket.SHUT_RDWR)


def test_nothing_is_said_of_a_broker_that_hangs(launch_kafka: LaunchKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_listener, "_TIMEOUT", 0.5)
    kafka = launch_kafka()
    kafka.server.pause()
    assert other_protocol({"bootstrap.servers": kafka.bootstrap_servers, "security.protocol": "SSL"}) is None
    kafka.server.resume()


def test_a_preflight_names_the_protocol_at_once(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    source = make_source({"bootstrap.servers": kafka.listeners.tls["bootstrap.servers"]}, topic, tmp_path)
    source._broker._timeout = 120.0
    began = time.monotonic()
    with pytest.raises(Refused, match="SSL"):
        source.preflight(Resume(None, CopyState(), {}))
    assert time.monotonic() - began < 60
