"""Reads the topics of a journal from given places on, as far as transactions have committed them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from journal.kafka_errors import SILENT, from_kafka
from journal.kafka_reading import as_consumer
from journal.replica import Place
from pipeline.errors import Refused, TransientError

_MANY = 500
_TIMEOUT = 10.0
_STEP = 0.02


class Feed:
    """One consumer. One thread at a time. Raises Refused or TransientError."""

    def __init__(self, options: Mapping[str, str], group: str, who: str, places: Mapping[Place, int]) -> None:
        self._who = who
        self._heard: KafkaError | None = None
        self._down = False
        self.reached: dict[Place, int] = {}  # the ends that were met
        callbacks: dict[str, Any] = {"error_cb": self._hear, "logger": SILENT, "group.id": group}
        try:
            self._consumer = Consumer({**as_consumer(options), **callbacks})
            self._consumer.assign([TopicPartition(topic, partition, offset) for (topic, partition), offset in places.items()])
        except (KafkaException, ValueError, TypeError) as error:
            said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            raise Refused(f"{who}: {said}", hint="check `options`") from None

    def take(self, timeout: float) -> Sequence[Message]:
        """Messages, of each partition in its order; none where none come in time."""
        taken = []
        first = self._consumer.poll(timeout)  # `consume` would wait all the time for more
        for message in [] if first is None else [first, *self._consumer.consume(_MANY, timeout=0)]:
            error = message.error()
            if error is None:
                taken.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self.reached[str(message.topic()), int(message.partition() or 0)] = int(message.offset() or 0)
            elif not error.retriable():
                raise from_kafka(error, f"{self._who} cannot read {message.topic()}")
        if taken:
            self._heard, self._down = None, False
        return taken

    def until(
        self, ends: Mapping[Place, int], take: Callable[[Sequence[Message]], object], give_way: Callable[[], bool] = lambda: False
    ) -> None:
        """Hands on everything before these places, and perhaps more; less where it is asked to `give_way`.

        Raises TransientError where nothing comes for long.
        """
        waiting = {place for place, end in ends.items() if end > 0}
        deadline = time.monotonic() + _TIMEOUT
        while waiting := {place for place in waiting if self.reached.get(place, 0) < ends[place]}:
            if give_way():
                return
            messages = self.take(_STEP)
            take(messages)
            for message in messages:
                place = str(message.topic()), int(message.partition() or 0)
                self.reached[place] = int(message.offset() or 0) + 1
            if messages:
                deadline = time.monotonic() + _TIMEOUT
            elif time.monotonic() > deadline:
                raise self.trouble or TransientError(f"{self._who}: no broker answers", hint="are the brokers running?")

    @property
    def trouble(self) -> Exception | None:
        """What was heard of the connections since a message came, where that is more than one of them gone."""
        if self._heard is None:
            return None
        found = from_kafka(self._heard, f"{self._who} cannot be read")
        return found if self._down or isinstance(found, Refused) else None

    def _hear(self, error: KafkaError) -> None:
        self._down |= error.code() == KafkaError._ALL_BROKERS_DOWN
        if self._heard is None or error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            self._heard = error

    def close(self) -> None:
        self._consumer.close()
