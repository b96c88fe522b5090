"""The demonstration's Kafka: a real broker where this machine can run one, otherwise the one that librdkafka has in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

from examples.embedded_kafka import EmbeddedKafka
from examples.kafka_artifacts import EmbeddedKafkaError, broker_is_fetched, find_java
from examples.topics import make_topic

__all__ = ["DemoBroker", "in_process_broker", "running_broker"]

_PARTITIONS = 4  # which the in-process broker gives every topic


@dataclass(frozen=True)
class DemoBroker:
    """A running broker: `address` is HOST:PORT, `about` says in words what it is."""

    address: str
    about: str


@contextmanager
def running_broker(folder: Path, topics: Sequence[str], *, real: bool | None) -> Iterator[DemoBroker]:
    """A broker that has these topics. It ends with the block.

    `real`: True for Apache Kafka, fetched if need be, False for the in-process one, None for the former where Java and the artifacts
    are there already and it starts. Raises EmbeddedKafkaError where it is to be real and cannot.
    """
    missing = "" if real else "as you wish" if real is False else _missing()
    if not missing:
        server = None
        try:
            server = EmbeddedKafka(directory=folder / "kafka").start()
        except EmbeddedKafkaError as error:
            if real:
                raise
            missing = f"as no other starts here: {error.message.splitlines()[0]}"
        if server is not None:
            try:
                yield _with_topics(DemoBroker(server.bootstrap_servers, f"Apache Kafka on Java {find_java().version}"), topics)
            finally:
                server.stop()
            return
    with in_process_broker() as address:
        about = f"librdkafka's in-process broker, {missing}; --kafka gets a real one"
        yield _with_topics(DemoBroker(address, about), topics)


@contextmanager
def in_process_broker() -> Iterator[str]:
    """The address of a broker in this process: for a demonstration, as it keeps nothing for long and fences nobody."""
    owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = owner.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    owner.flush(0)  # named here, it lives until here


def _missing() -> str:
    """Why there is no real broker without fetching anything; empty where there is one."""
    try:
        find_java()
    except EmbeddedKafkaError as error:
        return f"as there is {error.message}"
    return "" if broker_is_fetched() else "as a real one has not been fetched (`make kafka`)"


def _with_topics(broker: DemoBroker, topics: Sequence[str]) -> DemoBroker:
    for topic in topics:
        make_topic(broker.address, topic, _PARTITIONS)
    return broker
