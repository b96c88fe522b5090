"""Topics of a broker as a place for sinks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa

from journal.batch import ChangeBatch, CopyMarker, Longs
from sinks.base import Cursor, RefusedRow, Target
from sinks.kafka import KafkaSink
from sinks.kafka_config import KafkaConfig
from tests.kafka_place import Kafka, OwnKafka

_ZOMBIES: list[Any] = []  # producers whose process is gone as far as the test is concerned: they must not say goodbye


class PlacedSink(KafkaSink):
    """A sink whose topics all begin with `below`, whatever a test calls them."""

    below = ""

    def _placed(self, target: Target) -> Target:
        return replace(target, table=f"{self.below}{target.table}")

    def plan(self, targets: Sequence[Target]) -> Sequence[str]:
        return super().plan([self._placed(target) for target in targets])

    def prepare(self, target: Target) -> None:
        super().prepare(self._placed(target))

    def write(self, target: Target, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        return super().write(self._placed(target), batch, leaving)

    def mark(self, target: Target, marker: CopyMarker) -> None:
        super().mark(self._placed(target), marker)

    def commit(self, cursor: Cursor) -> None:
        """Waits until every partition has been told: a broker alone that is killed before that may forget it for topics just made, as its
        transaction coordinator is at work before it knows them again (Kafka 4.3)."""
        super().commit(cursor)
        topics = [self._topics.find(name) for name in (self._cursor_topic, *(topic.name for _, topic in self._known.values()))]
        for topic in topics:
            assert topic is None or self._topics.settled(topic)

    def read(self, target: Target, keys: pa.Table | None) -> Iterator[pa.Table]:
        return super().read(self._placed(target), keys)


class KafkaPlace:
    """A broker, and names that nobody else has on it."""

    def __init__(self, kafka: Kafka, **config: Any) -> None:
        self.kafka = kafka
        self.config = config

    def sink(self, name: str = "out", pipeline: str = "test") -> PlacedSink:
        given = {"bootstrap_servers": self.kafka.bootstrap_servers, **self.config}
        made = PlacedSink(name, KafkaConfig.model_validate(given), f"{self.kafka.prefix}-{pipeline}")
        made.below = f"{self.kafka.prefix}."
        return made

    def topic(self, name: str) -> str:
        """What a table of these tests is called on the broker."""
        return f"{self.kafka.prefix}.{name}"

    def table(self, name: str) -> Sequence[Mapping[str, str | None]]:
        """The newest message of each key, as the JSON that it holds."""
        newest = {message.key: message.value for message in self.kafka.consume(self.topic(name))}
        return [json.loads(value, parse_int=str, parse_float=str) for value in newest.values() if value is not None]

    def make_foreign_table(self, name: str) -> None:
        self.kafka.make_topic(name=self.topic(name))

    def drop_table(self, name: str) -> None:
        self.kafka.delete_topic(self.topic(name))

    def crash(self, sink: KafkaSink) -> None:
        _ZOMBIES.append(sink._link)
        sink._link = None

    @contextmanager
    def away(self) -> Iterator[None]:
        assert isinstance(self.kafka, OwnKafka)
        self.kafka.server.kill()
        try:
            yield
        finally:
            self.kafka.server.start()

    def powerless(self) -> KafkaSink:
        options = dict(self.kafka.listeners.stranger)
        config = {"bootstrap_servers": options.pop("bootstrap.servers"), "options": options}
        return KafkaSink("out", KafkaConfig.model_validate(config), f"{self.kafka.prefix}-powerless")
