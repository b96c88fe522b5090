"""One consumer, assigned by hand to the partitions of a topic: committed messages in order, and where partitions end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.errors import PositionLostError, TransientError
from sources.kafka.broker import unmade
from sources.kafka.config import KafkaConfig
from sources.kafka.errors import UNKNOWN_TOPIC, expired, from_kafka, truncated

_QUERY = 5.0
_NONE = frozenset({type(None)})
_DAY = 86_400_000
_TUNED = {
    "fetch.queue.backoff.ms": "5",  # by default reading stalls for a second whenever the local queue is full
    "queued.max.messages.kbytes": "32768",
    "max.poll.interval.ms": str(_DAY),  # a full journal is no reason to give the assignment up
}
_FIXED = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": "true",
}
_NOT_ABOUT_US = {KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._MAX_POLL_EXCEEDED}  # no group is joined, no offset committed there


@dataclass(slots=True)
class Taken:
    """What one look brought. `ends` are partitions that were read to their end: partition -> the offset that comes next."""

    messages: list[Any] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)


class Session:
    """Reads from given offsets on, until closed. One thread; `hear` is called in it with what the client says of its brokers."""

    def __init__(self, config: KafkaConfig, who: str, offsets: Mapping[int, int | None], hear: Callable[[KafkaError], None]) -> None:
        """An offset of None is the partition's earliest. Raises Refused for options that no client can be made of."""
        self._config = config
        self._topic = config.topic
        self._begun = dict(offsets)
        options = {**_TUNED, "client.id": who, "group.id": who, **config.client, **_FIXED, "error_cb": hear}
        try:
            self._consumer = Consumer(options)
        except (KafkaException, ValueError, TypeError) as error:
            raise unmade(error, config) from None
        self._consumer.assign([self._place(*one) for one in offsets.items()])

    def _place(self, partition: int, offset: int | None) -> TopicPartition:
        return TopicPartition(self._topic, partition, OFFSET_BEGINNING if offset is None else offset)

    def add(self, partitions: Mapping[int, int | None]) -> None:
        """Reads more partitions."""
        self._begun.update(partitions)
        self._consumer.incremental_assign([self._place(*one) for one in partitions.items()])

    def take(self, most: int, timeout: float) -> Taken:
        """What is there, at most that many; waits for the first message only.

        Raises PositionLostError for an offset that is out of range, Refused or TransientError for what ends the session.
        """
        found = self._consumer.consume(1, timeout)
        if found and most > 1:
            found += self._consumer.consume(most - 1, 0)
        errors = list(map(Message.error, found))
        if _NONE.issuperset(map(type, errors)):  # a KafkaError cannot be compared with None
            return Taken(found)
        taken = Taken([message for message, error in zip(found, errors, strict=True) if error is None])
        for message, error in zip(found, errors, strict=True):
            if error is not None:
                self._event(message, error, taken)
        return taken

    def high(self, partition: int) -> int | None:
        """The end of a partition when something of it was fetched last; asks nobody."""
        found: Any = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return None if found is None or found[1] < 0 else int(found[1])

    def low(self, partition: int) -> int:
        """Where a partition begins, as its broker says. Raises TransientError."""
        try:
            return int(self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=_QUERY)[0])
        except KafkaException as error:
            raise TransientError(f"topic {self._topic}, partition {partition}: {error.args[0].str()}") from error

    def close(self) -> None:
        self._consumer.close()

    def _event(self, message: Any, error: KafkaError, taken: Taken) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            taken.ends[message.partition()] = message.offset()
        elif code == KafkaError._AUTO_OFFSET_RESET:
            raise self._out_of_range(message.partition(), message.offset())
        elif code in UNKNOWN_TOPIC:
            raise TransientError(f"topic {self._topic}: {error.str()}")  # whether it is gone is for whoever watches the topic to say
        elif code not in _NOT_ABOUT_US:
            raise from_kafka(error, self._config.bootstrap_servers, self._topic)

    def _out_of_range(self, partition: int, offset: int) -> PositionLostError | TransientError:
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=_QUERY)
        except KafkaException as error:
            return TransientError(f"topic {self._topic}, partition {partition}: out of range, and {error.args[0].str()}")
        if self._begun.get(partition) is None and offset < 0:
            return TransientError(f"topic {self._topic}, partition {partition}: its earliest message went before it was read")
        return truncated(self._topic, partition, offset, high) if offset > high else expired(self._topic, partition, offset, low)
