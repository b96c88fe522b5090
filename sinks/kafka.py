"""The sink that tells every change in a Kafka topic: exactly once, with its cursor in the same transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import ClassVar

import pyarrow as pa
import structlog
from confluent_kafka import Message
from pydantic import BaseModel

from journal.batch import ChangeBatch, CopyMarker, Longs
from journal.kafka_hanging import abort_own, end_hanging, hanging
from journal.kafka_link import BATCH_BYTES, Link
from journal.kafka_reading import Reader
from journal.kafka_topics import LARGEST, Topic, Topics
from journal.schema_registry import SchemaRegistry
from journal.trace_context import Traces
from pipeline.errors import AgainError, AlreadyRunningError, NotYetError, SinkShapeError, TerminalError, TransientError
from pipeline.file import RouteBlock
from pipeline.kafka_options import is_topic
from sinks.base import ANOTHER_JOURNAL, Cursor, RefusedRow, SharedSink, Standing, Target
from sinks.bookkeeping import check_names
from sinks.kafka_config import KafkaConfig, KafkaRoute
from sinks.kafka_cursor import KEY, SETTINGS, Record, topic_of
from sinks.kafka_formats import BinaryCloudEvents, Format, JsonFormat, StructuredCloudEvents
from sinks.kafka_newest import Newest
from sinks.kafka_telling import Telling

log = structlog.get_logger("sluice.kafka")


class KafkaSink(SharedSink):
    """Messages and cursor in one transaction; see docs/kafka-sink.md."""

    kind = "kafka"
    Config: ClassVar[type[BaseModel]] = KafkaConfig
    Route: ClassVar[type[RouteBlock]] = KafkaRoute
    whole_rows = True
    pace = 0.01
    most_rows = 100_000

    def __init__(self, name: str, config: KafkaConfig, pipeline: str) -> None:
        super().__init__(name, config, pipeline)
        self._config = config
        self._client = {"client.id": f"sluice.{pipeline}.{name}", **config.client}
        self._who = f"the sink {name} (Kafka at {config.bootstrap_servers})"
        self._worker = 0
        self._reader = Reader(self._client, f"sluice.{pipeline}.{name}", self._who)
        self._format = _format(config, pipeline)
        self._asking: Topics | None = None
        self._link: Link | None = None
        self._record = Record(Cursor("", 0))
        self._known: dict[str, tuple[Target, Topic]] = {}
        self._telling = Telling(name, self._format, self._told)
        self._epoch = 0
        self._cursors: dict[int, tuple[Topic, int, Record | None]] = {}  # by worker: what its topic held, up to an offset
        self._looked_at: set[str] = set()  # topics where old transactions have been ended
        self._batch_bytes = int(self._client.get("batch.size", BATCH_BYTES))

    @classmethod
    def prefix(cls, pipeline: str) -> str:
        return f"{pipeline}."

    @property
    def _topics(self) -> Topics:
        self._asking = self._asking or Topics(self._client, self._who)
        return self._asking

    @property
    def _cursor_topic(self) -> str:
        return topic_of(self.pipeline, self.name, self._worker)

    @property
    def _shared(self) -> bool:
        """Whether others write at the same time."""
        return self._record.cursor.of > 1

    def _told(self, topic: Topic) -> Iterator[list[Message]]:
        """What is committed in a topic. What others have written was committed before this is asked, and is waited for."""
        return self._reader.all(topic.name, self._topics.settled(topic) if self._shared else self._topics.committed(topic))

    def open(self, journal: str) -> Cursor | None:
        self.close()
        self._worker = 0
        self._check_journal(self._read_record(), journal)  # before anybody is fenced off
        link, record = self._taken_over()
        self._link = link
        self._check_journal(record, journal)
        self._telling.traces = Traces(journal)
        if record is None:
            return None
        gone = self._topics.missing(set(record.topics.values()))
        self._record = record.without(set(gone))
        return replace(self._record.cursor, epoch=self._epoch)

    def _check_journal(self, record: Record | None, journal: str) -> None:
        if record is not None and record.cursor.journal != journal:
            self.close()
            raise TerminalError(f"{self._who} is fed by another journal", hint=ANOTHER_JOURNAL)

    def _taken_over(self) -> tuple[Link, Record | None]:
        """A link which fences off any other, and what the target holds from then on."""
        self._topics.make(self._cursor_topic, 1, SETTINGS)
        link = self._new_link(0)
        try:
            link.connect()
            self._end_hanging(link, self._cursor_topic)
            record = self._read_record(surely=True)
            self._begin_from(link, record or Record(Cursor("", 0)))
        except BaseException:
            link.close()
            raise
        return link, record

    def _new_link(self, worker: int) -> Link:
        options = {**self._client, "batch.size": str(self._batch_bytes)}
        identity = f"sluice.{self.pipeline}.{self.name}" + (f".{worker}" if worker else "")
        return Link(options, identity, self._who, alone="only one may deliver into it: stop one of them")

    def _begin_from(self, link: Link, record: Record) -> None:
        self._looked_at |= {name for name, _ in record.topics.values()}
        self._record = record
        self._telling.newest = record.newest
        self._epoch = record.cursor.epoch + 1
        for name in sorted(self._looked_at):
            self._end_hanging(link, name)

    def join(self, journal: str, worker: int, of: int) -> Cursor:
        self.close()
        self._worker = worker
        self._shared_among(journal, 0, of)
        link = self._new_link(worker)
        try:
            link.connect()  # before what counts is read: whoever hands out from here on fences this one off
            self._shared_among(journal, 0, of)
            record = self._shared_among(journal, worker, of)
            self._begin_from(link, record)
        except BaseException:
            link.close()
            raise
        self._link = link
        return replace(record.cursor, epoch=self._epoch)

    def _shared_among(self, journal: str, worker: int, of: int) -> Record:
        """What a worker's topic holds, of so many workers. Raises NotYetError while it does not."""
        record = self._record_of(worker)
        if record is None or record.sharing or record.cursor.of != of or record.cursor.journal != journal:
            raise NotYetError(f"the first worker of the sink {self.name} has not begun yet")
        return record

    def seize(self) -> Sequence[Cursor]:
        link = self._opened()
        if self._record.cursor.of == 1:
            return []
        link.begin()
        self._send(link, 0, replace(self._record, sharing=True))
        link.commit()
        held = []
        for worker in range(1, self._record.cursor.of):
            self._fence_off(worker)
            record = self._record_of(worker)
            if record is None:
                raise TransientError(f"{self._who}: {topic_of(self.pipeline, self.name, worker)} cannot be read", hint="was it deleted?")
            held.append(record.cursor)
            self._telling.newest = max(self._telling.newest, record.newest)
            self._record = replace(self._record, topics={**record.topics, **self._record.topics})
        return held

    def _fence_off(self, worker: int) -> None:
        """Another worker writes nothing any more; what it has open is aborted."""
        with closing(self._new_link(worker)) as link:
            try:
                link.connect()
            except AlreadyRunningError as error:  # it began at this very moment
                raise TransientError(f"{self._who}: worker {worker} is just beginning", hint="nothing to do: it is tried again") from error

    def hand_out(self, cursors: Sequence[Cursor]) -> None:
        link = self._opened()
        for worker in range(1, len(cursors)):
            self._topics.make(topic_of(self.pipeline, self.name, worker), 1, SETTINGS)
        link.begin()
        self._say(link, cursors[0])
        for worker, cursor in enumerate(cursors[1:], 1):
            self._send(link, worker, replace(self._record, cursor=cursor))
        link.commit()

    def cursors(self) -> Sequence[Cursor]:
        first = self._record_of(0)
        if first is None:
            return []
        others = [self._record_of(worker) for worker in range(1, first.cursor.of)]
        return [first.cursor, *(record.cursor for record in others if record is not None)]

    def _record_of(self, worker: int) -> Record | None:
        """What a worker's topic holds now; read only where there is more in it than there was."""
        topic, end, record = self._cursors.get(worker, (None, -1, None))
        topic = topic or self._topics.find(topic_of(self.pipeline, self.name, worker))
        if topic is None:
            return None
        now = (self._topics.committed if worker in self._cursors else self._topics.settled)(topic)[0]
        if now != end:
            value = self._reader.last(topic.name, now)
            record = None if value is None else Record.decode(value)
            self._cursors[worker] = (topic, now, record)
        return record

    def _end_hanging(self, link: Link, name: str) -> None:
        """What an older producer left open in a topic is told again."""
        topic = self._topics.find(name)
        if self._shared:  # what is open can be that of another, whom this does not touch
            if topic is not None and self._topics.committed(topic) != self._topics.written(topic):
                abort_own(link, topic, self._who)
            return
        partitions = [] if topic is None else end_hanging(link, self._topics, topic, self._who)
        if partitions:
            log.warning("a transaction without an end is aborted", sink=self.name, topic=name, partitions=partitions)

    def _read_record(self, *, surely: bool = False) -> Record | None:
        topic = self._topics.find(self._cursor_topic, surely=surely)
        if topic is None:
            return None
        value = self._reader.last(topic.name, self._topics.settled(topic)[0])
        return None if value is None else Record.decode(value)

    def standing(self) -> Standing:
        record = self._read_record(surely=True)
        return Standing(None, 0) if record is None else Standing(record.cursor, record.newest)

    def adopt(self, cursor: Cursor) -> None:
        self.close()
        self._link, _ = self._taken_over()
        self.seize()
        link = self._link
        try:
            link.begin()
            self._say(link, cursor)
            link.commit()
        finally:
            self.close()

    def plan(self, targets: Sequence[Target]) -> Sequence[str]:
        found = [] if self._topics.find(self._cursor_topic) else [f"create topic {self._cursor_topic} (1 partition, compacted)"]
        for target in targets:
            check_names(target)
            topic = self._topics.find(_named(target))
            if topic is None:
                size = f"{self._config.partitions} partitions" if self._config.partitions else "the brokers' number of partitions"
                found.append(f"create topic {target.table} ({size}, {'compacted' if target.schema.key else 'not compacted'})")
            else:
                _check(target, topic)
            found += self._format.plan(target.table, target.schema)
        return found

    def prepare(self, target: Target) -> None:
        self._topic(target)

    def _topic(self, target: Target) -> Topic:
        known = self._known.get(target.table)
        if known is not None and known[0] == target:
            return known[1]
        check_names(target)
        topic = self._topics.make(_named(target), self._config.partitions or -1, _settings(target))
        _check(target, topic)
        if topic.name not in self._looked_at:
            self._looked_at.add(topic.name)
            if not self._shared and hanging(self._topics, topic):
                message = f"{self._who}: {topic.name} has a transaction without an end"
                raise AgainError(message, hint="nothing to do: the sink begins again and ends it")
        if topic.max_bytes < self._batch_bytes:
            self._batch_bytes = topic.max_bytes
            message = f"{self._who}: {topic.name} takes no more than {topic.max_bytes} bytes at once"
            raise AgainError(message, hint="nothing to do: the sink begins again with smaller batches of messages")
        self._format.prepare(target.table, target.schema)
        self._known[target.table] = (target, topic)
        self._record = replace(self._record, topics={**self._record.topics, target.dataset: (topic.name, topic.id)})
        return topic

    def _opened(self) -> Link:
        if self._link is None:
            raise TransientError(f"{self._who} is not connected")
        return self._link

    def begin(self) -> None:
        self._opened().begin()

    def write(self, target: Target, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        return self._telling.write(self._opened(), target, self._topic(target), batch, leaving)

    def mark(self, target: Target, marker: CopyMarker) -> None:
        topic = self._topic(target)
        if marker.phase == "end" and not marker.first and target.on_delete != "ignore":
            self._telling.sweep(self._opened(), target, topic, marker.ordinal, 0)

    def commit(self, cursor: Cursor) -> None:
        link = self._opened()
        self._say(link, cursor)
        link.commit()
        self._telling.committed()

    def _say(self, link: Link, cursor: Cursor) -> None:
        """Puts the cursor into the open transaction."""
        self._record = replace(self._record, cursor=replace(cursor, epoch=self._epoch), newest=self._telling.newest, sharing=False)
        self._send(link, self._worker, self._record)

    def _send(self, link: Link, worker: int, record: Record) -> None:
        link.send(topic_of(self.pipeline, self.name, worker), [KEY], [record.encode()], [[]])

    def rollback(self) -> None:
        self._telling.undone()
        if self._link is not None and not self._link.abort():
            self._link.close()
            self._link = None

    def held(self, target: Target, batch: ChangeBatch) -> pa.Table:
        return pa.table(self._format.held(target.schema, batch.columns), list(target.schema.names))

    def read(self, target: Target, keys: pa.Table | None) -> Iterator[pa.Table]:
        topic = self._topics.find(target.table, surely=True)
        if topic is None:
            return
        asked = None
        if keys is not None:
            given = [pa.concat_arrays(keys[name].cast(pa.string()).chunks or [pa.array([], pa.string())]) for name in target.schema.key]
            asked, _ = self._format.keys(topic.name, target.schema, given)
        with Newest(with_values=True) as newest:
            newest.read(self._reader.all(topic.name, self._topics.settled(topic)))
            for values in newest.values(asked):
                yield pa.table(self._format.rows(target.schema, values), list(target.schema.names))

    def close(self) -> None:
        self.rollback()
        if self._link is not None:
            self._link.close()
        self._link = None
        self._asking = None
        self._known = {}
        self._cursors = {}
        self._telling.committed()
        with suppress(TransientError):
            self._format.close()


def _format(config: KafkaConfig, pipeline: str) -> Format:
    if config.format == "avro" and config.schema_registry is not None:
        from sinks.kafka_avro import AvroFormat

        return AvroFormat(pipeline, SchemaRegistry(config.schema_registry.options), record_keys=config.key == "record")
    if config.format == "cloudevents":
        return (StructuredCloudEvents if config.mode == "structured" else BinaryCloudEvents)(pipeline)
    return JsonFormat(pipeline)


def _named(target: Target) -> str:
    if not is_topic(target.table):
        raise SinkShapeError(
            f"the dataset {target.dataset} cannot go into a topic {target.table!r}: such a name has letters, digits, `.`, `_` and `-`",
            hint="give it another name with `topic`",
        )
    return target.table


def _settings(target: Target) -> dict[str, str]:
    return {"cleanup.policy": "compact" if target.schema.key else "delete", "max.message.bytes": str(LARGEST)}


def _check(target: Target, topic: Topic) -> None:
    if topic.compacted and not target.schema.key:
        raise SinkShapeError(
            f"the dataset {target.dataset} has no key, and the topic {topic.name} is compacted: it takes no message without one",
            hint="give the dataset a `key`, or the topic `cleanup.policy=delete`, or name another with `topic`",
        )
