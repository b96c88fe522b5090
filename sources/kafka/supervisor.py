"""Watches over the reading of one topic: where it begins, whether it is still the same topic, what partitions it has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from journal.batch import CopyMarker, Segment
from pipeline.errors import TransientError
from sources.base import SourceContext, SourceStatus
from sources.copies import Copies
from sources.kafka.broker import Broker
from sources.kafka.config import KafkaConfig
from sources.kafka.errors import UnknownTopic, deleted
from sources.kafka.position import Watermark
from sources.kafka.reader import Reader
from sources.kafka.standing import Standing
from sources.kafka.survey import check_same, known_position, survey
from sources.kafka.translator import Translator
from sources.outlet import Outlet

log = structlog.get_logger("sluice.kafka")

_AHEAD = 16 << 20  # bytes of messages that wait to be taken
_WATCH_EVERY = 10.0
_AGAIN = 1.0
_PATIENCE = 4.0  # seconds for an answer while reading, after which brokers are said to be away
_JOIN = 5.0


class Supervisor:
    """A source that has been started."""

    def __init__(self, config: KafkaConfig, context: SourceContext, who: str, broker: Broker, watermark: str | None) -> None:
        """Raises Refused or ConfigError where messages could not be read whatever they are."""
        self._config = config
        self._source = context.name
        self._broker = broker
        self._known = known_position(config, watermark)
        self._closing = threading.Event()
        self._news = threading.Event()
        self._outlet = Outlet(_AHEAD)
        self._copies = Copies()
        self._standing = Standing(config.topic, None if self._known is None else self._known.offsets)
        self._translator = Translator(config, context)
        self._partitions: set[int] = set()
        self._told: set[str | None] = set()
        self._reader = Reader(
            config, context.name, who, self._translator, self._outlet, self._standing, self._copies, self._news.set, self._closing
        )
        self._threads = [threading.Thread(target=self._guarded, args=(self._supervise,), name="kafka-supervisor", daemon=True)]

    def start(self) -> None:
        self._threads[0].start()

    def take(self, timeout: float) -> Segment | None:
        """See Source.take."""
        return self._outlet.take(timeout)

    def confirm(self, watermark: str) -> None:
        """See Source.confirm."""
        self._standing.confirmed(Watermark.decode(watermark).offsets)
        self._copies.confirmed()

    def copy_again(self, sink: str | None) -> None:
        """See Source.copy_again. For all sinks at once a topic is not read again: that is what `resync` does."""
        if sink is not None:
            self._copies.ask(sink)
        elif sink not in self._told:
            self._told.add(sink)
            log.warning("a topic is not copied again for all sinks: see `sluice resync`", source=self._source, topic=self._config.topic)

    def status(self) -> SourceStatus:
        """See Source.status."""
        return self._standing.status(list(self._translator.unknown.items()))

    def close(self) -> None:
        """Ends the threads and the clients."""
        self._closing.set()
        self._news.set()
        self._outlet.close()
        until = time.monotonic() + _JOIN
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes
            self._outlet.fail(error)
            self._closing.set()
            self._news.set()

    def _supervise(self) -> None:
        if not self._begun():
            return
        thread = threading.Thread(target=self._guarded, args=(self._reader.run,), name="kafka-reader", daemon=True)
        self._threads.append(thread)
        thread.start()
        while not self._closing.is_set():
            self._news.wait(_AGAIN if self._standing.is_away else _WATCH_EVERY)
            self._news.clear()
            if not self._closing.is_set():
                self._watch()
                self._closing.wait(_AGAIN)  # news come in crowds

    def _begun(self) -> bool:
        """Finds out where to begin, for as long as it takes. False when it was closed before."""
        while not self._closing.is_set():
            try:
                found = survey(self._config, self._broker, self._known)
            except TransientError as error:
                if not self._standing.is_away:
                    log.warning("brokers are away", source=self._source, error=error.message)
                self._standing.away(error.message)
                self._closing.wait(_AGAIN)
                continue
            self._partitions = set(found.partitions)
            watermark = Watermark(self._config.topic, found.id, {} if self._known is None else self._known.offsets)
            if self._known is None:  # from now on the journal knows which topic this is, and sinks what its rows look like
                self._outlet.put(Segment(self._source, [self._columns()], watermark.encode(), time.monotonic()), 0)
            self._known = watermark
            self._reader.begin(watermark, {partition: watermark.offsets.get(partition) for partition in found.partitions})
            self._standing.reading()
            log.info("reading topic", source=self._source, topic=self._config.topic, partitions=len(found.partitions))
            return True
        return False

    def _columns(self) -> CopyMarker:
        """Nothing but the schema, by which sinks make their tables: it may be long until a message comes that can be taken."""
        return CopyMarker(self._translator.schema, self._source, self._config.topic, "abandoned", 0, first=True)

    def _watch(self) -> None:
        """Raises PositionLostError where the topic is another one, Refused where it may not be read any more."""
        assert self._known is not None  # noqa: S101  (it has begun)
        was_away = self._standing.is_away
        try:
            found = self._broker.topic(_PATIENCE)
        except TransientError as error:
            if not was_away:
                log.warning("brokers are away", source=self._source, error=error.message)
            self._standing.away(error.message)
            return
        except UnknownTopic:
            raise deleted(self._config.topic, self._config.bootstrap_servers) from None
        check_same(self._known, found)
        added = sorted(set(found.partitions) - self._partitions)
        if added:
            log.info("topic has more partitions", source=self._source, topic=self._config.topic, partitions=added)
            self._partitions.update(added)
            self._reader.add(dict.fromkeys(added))
        if was_away:
            log.info("brokers are back", source=self._source)
            self._standing.reading()
