"""Reads topics as far as transactions have committed them: from the beginning to the end, or the last message alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from journal.kafka_errors import SILENT, from_kafka
from pipeline.errors import TransientError

_TIMEOUT = 10.0
_MANY = 10_000
_STEP = 0.01  # seconds: consume waits for all of it where fewer arrive
_FEW = 16  # offsets that are read back from the end at first; each commit takes two
_OURS: Mapping[str, Any] = {
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "allow.auto.create.topics": False,
}
_DEFAULTS = {"fetch.queue.backoff.ms": "5", "fetch.wait.max.ms": "50"}  # at 1000, its default, reading stalls
_PRODUCERS = (
    "acks", "batch", "compression", "delivery", "enable.idempotence", "linger", "message.timeout", "partitioner", "queue.buffering",
    "request.timeout", "retries", "sticky", "transaction",
)  # fmt: skip


def as_consumer(options: Mapping[str, str]) -> dict[str, Any]:
    """Options of a block, which may be for producers too, as those of a consumer which reads what is committed, and tells of ends."""
    return {**_DEFAULTS, **{name: value for name, value in options.items() if not name.startswith(_PRODUCERS)}, **_OURS}


class Reader:
    """Reads topics of one cluster. Raises Refused or TransientError."""

    def __init__(self, options: Mapping[str, str], group: str, who: str) -> None:
        self._options = as_consumer(options)
        self._group = group
        self._who = who
        self._heard: KafkaError | None = None

    @contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        self._heard = None
        consumer = Consumer({**self._options, "group.id": self._group, "error_cb": self._hear, "logger": SILENT})
        try:
            yield consumer
        finally:
            consumer.close()

    def last(self, topic: str, end: int) -> bytes | None:
        """The value of the newest message before an offset, of a topic of one partition; None where there is none."""
        back = _FEW
        while True:
            first = max(0, end - back)
            with self._consumer() as consumer:
                messages = self._until_end(consumer, [TopicPartition(topic, 0, first)])
                found = [message.value() for message in messages if _place(message)[1] < end]
            if found or not first:
                return found[-1] if found else None
            back *= 16

    def all(self, topic: str, ends: Mapping[int, int]) -> Iterator[list[Message]]:
        """Every committed message before these offsets of the partitions, in lists; of one partition in its order."""
        with self._consumer() as consumer:
            chunk: list[Message] = []
            for message in self._until_end(consumer, [TopicPartition(topic, partition, 0) for partition, end in ends.items() if end > 0]):
                partition, offset = _place(message)
                if offset < ends[partition]:
                    chunk.append(message)
                if len(chunk) >= _MANY:
                    yield chunk
                    chunk = []
            if chunk:
                yield chunk

    def _until_end(self, consumer: Consumer, places: list[TopicPartition]) -> Iterator[Message]:
        """Messages until each partition's end of now; that of a transaction which is open lies before its first message."""
        if not places:
            return
        consumer.assign(places)
        waiting = {place.partition for place in places}
        deadline = time.monotonic() + _TIMEOUT
        while waiting:
            messages = consumer.consume(_MANY, timeout=_STEP)
            if messages:
                deadline = time.monotonic() + _TIMEOUT
            for message in messages:
                error = message.error()
                if error is None:
                    if message.partition() in waiting:
                        yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
                elif not error.retriable():
                    raise from_kafka(error, f"{self._who} cannot read {places[0].topic}")
            if time.monotonic() > deadline:
                what = f"{self._who} cannot read {places[0].topic}"
                if self._heard is not None:
                    raise from_kafka(self._heard, what)
                raise TransientError(f"{what}: no broker answers", hint="are the brokers running?")
        consumer.unassign()

    def _hear(self, error: KafkaError) -> None:
        if self._heard is None or error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            self._heard = error


def _place(message: Message) -> tuple[int, int]:
    """Partition and offset of a message that was read."""
    place: Any = message.partition(), message.offset()
    return int(place[0]), int(place[1])
