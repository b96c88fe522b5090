"""A Kafka topic as a source."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property

from journal.batch import ChangeBatch, Segment
from journal.schema import TableSchema
from pipeline.errors import PositionLostError, PreflightError, Problem, TerminalError
from sources.base import Preflight, Resume, Source, SourceContext, SourceStatus
from sources.kafka.broker import Broker
from sources.kafka.config import KafkaConfig
from sources.kafka.part import WHOLE, Part
from sources.kafka.position import Watermark
from sources.kafka.supervisor import Supervisor
from sources.kafka.survey import known_position, survey
from sources.kafka.translator import Translator


class KafkaSource(Source):
    """One topic: every committed message of it from the earliest on, each a change. Nothing is made or kept at the brokers."""

    kind = "kafka"
    Config = KafkaConfig
    waited_for = True
    compared = False
    divisible = True

    def __init__(self, config: KafkaConfig, context: SourceContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._who = f"sluice.{context.pipeline}.{context.name}"
        self._supervisor: Supervisor | None = None
        self._part = WHOLE

    @classmethod
    def place(cls, table: str, lsn: int, nth: int, notes: Mapping[str, str]) -> str:
        return json.dumps({"topic": table, "partition": lsn, "offset": nth})

    @classmethod
    def number(cls, position: str) -> int | None:
        return None

    def preflight(self, resume: Resume) -> Preflight:
        tables = self._tables()
        known = known_position(self._config, resume.watermark)
        try:
            found = survey(self._config, self._broker, known)
        except PositionLostError as error:
            return Preflight([Problem(error.message, hint=error.hint)], [], tables)
        news = [] if known is not None else [self._reading(len(found.partitions))]
        return Preflight([], news, tables)

    def start(self, resume: Resume) -> None:
        self._supervisor = Supervisor(self._config, self.context, self._who, self._broker, resume.watermark, self._part)
        self._supervisor.start()

    def part(self, number: int, of: int) -> None:
        self._part = Part(number, of)

    def receive(self, part: int, segment: Segment, unknown: Mapping[str, int], taken: Callable[[], None]) -> None:
        self._running.receive(part, segment, unknown, taken)

    def take(self, timeout: float = 0.0) -> Segment | None:
        return self._running.take(timeout)

    def confirm(self, watermark: str) -> None:
        self._running.confirm(watermark)

    def status(self) -> SourceStatus:
        return SourceStatus("starting") if self._supervisor is None else self._supervisor.status()

    def head(self) -> str:
        found = self._broker.topic()
        return Watermark(self._config.topic, found.id, self._broker.ends(found.partitions)).encode()

    def reached(self, watermark: str | None, head: str) -> bool:
        return bool(watermark) and Watermark.decode(watermark or "").holds(Watermark.decode(head))

    def copy_again(self, table: str, sink: str | None = None) -> None:
        if table == self._config.topic:
            self._running.copy_again(sink)

    def start_over(self, do: bool) -> Preflight:
        self._tables()
        found = self._broker.topic()
        said = [
            self._reading(len(found.partitions)),
            "rows with a key are written over; rows without one, and those of a history, come a second time; nothing goes from the sinks",
        ]
        return Preflight([], said, {})

    def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close()

    def read_table(self, table: str, schema: TableSchema, keys: ChangeBatch | None, receive: Callable[[ChangeBatch], None]) -> str:
        raise PreflightError(f"the topic {table} is a stream of changes, not a table that can be read")

    def _reading(self, partitions: int) -> str:
        return f"the topic {self._config.topic} is read from its earliest message on ({partitions} partition{'s' * (partitions != 1)})"

    def _tables(self) -> dict[str, TableSchema]:
        """What batches of the topic look like. Raises Refused where nothing says it."""
        translator = Translator(self._config, self.context)
        translator.close()
        return {self._config.topic: translator.schema}

    @cached_property
    def _broker(self) -> Broker:
        return Broker(self._config, self._who)

    @property
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise TerminalError(f"the source {self.context.name} has not been started")
        return self._supervisor
