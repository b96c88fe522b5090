"""A place of a test's own on a broker: topics below a prefix, and what goes in and comes out of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from examples.embedded_kafka import EmbeddedKafka
from examples.kafka_listeners import Listeners
from tests.waiting import wait_for

_PATIENCE = 60.0
_QUICK: Mapping[str, Any] = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}


class Message(NamedTuple):
    """A message to produce. Without `partition` the key decides, as in Java; `timestamp` in ms, 0 for now."""

    value: bytes | str | None
    key: bytes | str | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None
    timestamp: int = 0


class Received(NamedTuple):
    """A message as it was read; `timestamp` in ms."""

    value: bytes | None
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    partition: int
    offset: int
    timestamp: int


@dataclass
class Kafka:
    """A running broker and names that nobody else uses on it: they begin with `prefix`."""

    listeners: Listeners
    prefix: str
    _names: itertools.count[int] = field(default_factory=itertools.count)
    _admin: AdminClient | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address of the plain listener."""
        return self.listeners.plain["bootstrap.servers"]

    @property
    def plain(self) -> dict[str, str]:
        """librdkafka's options for the plain listener, with the address."""
        return dict(self.listeners.plain)

    @property
    def tls(self) -> dict[str, str]:
        """librdkafka's options for TLS, with the address."""
        return dict(self.listeners.tls)

    @property
    def sasl(self) -> dict[str, str]:
        """librdkafka's options for SASL/SCRAM over TLS, with the address."""
        return dict(self.listeners.sasl)

    @property
    def admin(self) -> AdminClient:
        """A client over the plain listener that may do everything."""
        if self._admin is None:
            self._admin = AdminClient({**self.listeners.plain, **_QUICK})
        return self._admin

    def make_topic(self, partitions: int = 1, *, name: str | None = None, **config: str | int) -> str:
        """Makes a topic, `name` or one below the prefix, and returns its name; `config` is the topic's: `cleanup_policy="compact"`."""
        topic = name or f"{self.prefix}.t{next(self._names)}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        # The reference stays until the answer is there: a client that is collected before that answers nothing.
        for answer in self.admin.create_topics([NewTopic(topic, partitions, 1, config=settings)]).values():
            answer.result(_PATIENCE)
        self._wait_for_partitions(topic, partitions)
        return topic

    def delete_topic(self, topic: str) -> None:
        """Deletes a topic, and returns when it can be made again."""
        for answer in self.admin.delete_topics([topic]).values():
            answer.result(_PATIENCE)
        self._wait_for_partitions(topic, 0)

    def add_partitions(self, topic: str, total: int) -> None:
        """Gives a topic partitions until it has `total`."""
        for answer in self.admin.create_partitions([NewPartitions(topic, total)]).values():
            answer.result(_PATIENCE)
        self._wait_for_partitions(topic, total)

    def topics(self) -> list[str]:
        """The topics below the prefix."""
        return sorted(topic for topic in self.admin.list_topics(timeout=_PATIENCE).topics if topic.startswith(self.prefix))

    def produce(self, topic: str, messages: Iterable[Message | bytes | str], **options: Any) -> None:
        """Writes messages in order (a bare one is a value without a key) and returns when the broker has them all.

        `options` are librdkafka's, beyond or in place of the plain listener's. Raises KafkaException for the first that failed.
        """
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: object) -> None:
            if error is not None:
                failed.append(error)

        # One request at a time keeps the order as idempotence does, which takes half a second to begin.
        settings = {"linger.ms": 5, "partitioner": "murmur2_random", "max.in.flight": 1, **_QUICK, **self.listeners.plain}
        producer = Producer({**settings, **options})
        for message in messages:
            value, key, headers, partition, timestamp = message if isinstance(message, Message) else Message(message)
            place: dict[str, Any] = {} if partition is None else {"partition": partition}
            while True:
                try:
                    producer.produce(
                        topic, value=value, key=key, headers=list(headers), timestamp=timestamp, on_delivery=delivered, **place
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        left = producer.flush(_PATIENCE)
        if failed:
            raise KafkaException(failed[0])
        assert left == 0, f"{left} messages to {topic} were not taken within {_PATIENCE:g} s"

    def consume(self, topic: str, *, isolation: str = "read_committed", **options: Any) -> list[Received]:
        """Every message that is in a topic now, by partition and offset; only what is committed, unless `isolation` says otherwise.

        Returns at once with what is there: use `wait_for` for what is to come. `options` are librdkafka's.
        """
        settings = {
            "group.id": f"{self.prefix}.reader",
            "enable.auto.commit": "false",
            "enable.partition.eof": "true",
            "isolation.level": isolation,
            "fetch.wait.max.ms": 10,
            **_QUICK,
            **self.listeners.plain,
            **options,
        }
        consumer = Consumer(settings)
        try:
            found = consumer.list_topics(topic, timeout=_PATIENCE).topics[topic]
            if found.error is not None:
                raise KafkaException(found.error)
            consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in found.partitions])
            return _until_the_end(consumer, set(found.partitions))
        finally:
            consumer.close()

    def clean_up(self) -> None:
        """Deletes the topics below the prefix, without waiting until they are gone."""
        topics = self.topics()
        if topics:
            for answer in self.admin.delete_topics(topics).values():
                answer.result(_PATIENCE)

    def _wait_for_partitions(self, topic: str, total: int) -> None:
        """Waits until clients find the topic with so many partitions, each with a leader: the controller's answer comes earlier."""

        def found() -> bool:
            known = self.admin.list_topics(topic, timeout=_PATIENCE).topics[topic]
            return len(known.partitions) == total and all(part.leader >= 0 for part in known.partitions.values())

        wait_for(found, _PATIENCE, f"{topic} with {total} partitions")


@dataclass
class OwnKafka(Kafka):
    """A broker that only one test uses, to be stopped, killed, paused and restarted through `server`."""

    server: EmbeddedKafka = field(kw_only=True)


def _until_the_end(consumer: Consumer, unread: set[int]) -> list[Received]:
    received: list[Received] = []
    deadline = time.monotonic() + _PATIENCE
    while unread:
        assert time.monotonic() < deadline, f"the partitions {sorted(unread)} did not come to an end within {_PATIENCE:g} s"
        for message in consumer.consume(1000, timeout=0.02):
            error = message.error()
            if error is None:
                at: Any = message  # the stubs take what is read for what is written
                headers = tuple(at.headers() or ())
                received.append(Received(at.value(), at.key(), headers, at.partition(), at.offset(), at.timestamp()[1]))
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            else:
                raise KafkaException(error)
    return sorted(received, key=lambda message: (message.partition, message.offset))
