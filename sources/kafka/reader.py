"""The thread that reads a topic: messages to segments, each with the position that it reaches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import structlog
from confluent_kafka import KafkaError

from journal.batch import ChangeBatch, CopyMarker, Entry, Segment
from pipeline.errors import PositionLostError, TransientError
from sources.copies import Copies
from sources.kafka.config import KafkaConfig
from sources.kafka.errors import from_kafka, recreated
from sources.kafka.position import Watermark
from sources.kafka.session import Session, Taken
from sources.kafka.standing import Standing
from sources.kafka.translator import Translator
from sources.outlet import Outlet

log = structlog.get_logger("sluice.kafka")

_MOST = 10_000  # messages of a segment
_LARGE = 8 << 20  # bytes that a segment should stay below
_IDLE = 0.5
_LOOK_EVERY = 1.0  # seconds between two looks at where partitions end
_BACKOFF = (0.1, 5.0)


class Reader:
    """Runs in a thread of its own, from `offsets` on; `closing` ends it.

    Only `add` is for other threads. What was put into the outlet is remembered, so that a session that is made anew gives nothing twice.
    """

    def __init__(
        self,
        config: KafkaConfig,
        source: str,
        who: str,
        translator: Translator,
        outlet: Outlet,
        standing: Standing,
        copies: Copies,
        nudge: Callable[[], None],
        closing: threading.Event,
    ) -> None:
        """`nudge` asks for a look at the topic soon; `who` is how brokers see this client."""
        self._config = config
        self._source = source
        self._who = who
        self._translator = translator
        self._outlet = outlet
        self._standing = standing
        self._copies = copies
        self._nudge = nudge
        self._closing = closing
        self._session: Session | None = None
        self._watermark = Watermark(config.topic, "")
        self._partitions: dict[int, int | None] = {}  # the offset that comes next; None: its earliest
        self._added: dict[int, int | None] = {}
        self._lock = threading.Lock()
        self._backoff = _BACKOFF[0]
        self._most = _MOST
        self._untranslated: Taken | None = None
        self._next_look = 0.0

    def begin(self, watermark: Watermark, partitions: Mapping[int, int | None]) -> None:
        """Where reading starts; before `run`."""
        self._watermark = watermark
        self._partitions = dict(partitions)

    def add(self, partitions: Mapping[int, int | None]) -> None:
        """More partitions, to be read from their beginning."""
        with self._lock:
            self._added.update(partitions)

    def run(self) -> None:
        """Until `closing`. Raises what cannot be mended by trying again."""
        try:
            while not self._closing.is_set():
                try:
                    self._turn()
                    self._backoff = _BACKOFF[0]
                except TransientError as error:
                    self._pause(error)
        finally:
            self._drop()
            self._translator.close()

    def _turn(self) -> None:
        if self._untranslated is None:
            session = self._opened()
            sink = self._copies.next()
            if sink is not None:
                self._copy(sink)
                return
            taken = session.take(self._most, _IDLE)
            self._look(session)
            if not taken.messages and not taken.ends:
                return
            self._untranslated = taken
        self._give(self._untranslated)  # again, where the schema registry was away
        self._untranslated = None

    def _opened(self) -> Session:
        with self._lock:
            added, self._added = self._added, {}
        self._partitions.update(added)
        if self._session is None:
            self._session = Session(self._config, self._who, self._partitions, self._hear)
        elif added:
            self._session.add(added)
        return self._session

    def _give(self, taken: Taken) -> None:
        batch = self._translator.batch(taken.messages) if taken.messages else None
        moved = self._moved(batch, taken.ends)
        self._standing.reading()
        if batch is not None:
            size = self._sized(taken.messages)
            self._standing.read(size, float(batch.time[-1]) / 1e6)
            self._put([batch], size)
        elif moved:
            self._put([], 0)

    def _moved(self, batch: ChangeBatch | None, ends: Mapping[int, int]) -> bool:
        """Moves the position behind what was taken. Raises PositionLostError where offsets go back."""
        offsets = dict(self._watermark.offsets)
        if batch is not None:
            partitions, first = np.unique(batch.lsn, return_index=True)
            last = len(batch) - 1 - np.unique(batch.lsn[::-1], return_index=True)[1]
            for partition, begin, end in zip(partitions.tolist(), batch.nth[first].tolist(), batch.nth[last].tolist(), strict=True):
                if begin < offsets.get(partition, 0):
                    raise recreated(self._config.topic)
                offsets[partition] = end + 1
        for partition, end in ends.items():
            offsets[partition] = max(end, offsets.get(partition, 0))
        self._standing.ends(offsets)
        moved = offsets != self._watermark.offsets
        self._watermark = Watermark(self._config.topic, self._watermark.id, offsets)
        self._partitions.update(offsets)
        return moved

    def _put(self, entries: list[Entry], size: int) -> None:
        self._outlet.put(Segment(self._source, entries, self._watermark.encode(), time.monotonic()), size)

    def _sized(self, messages: list[Any]) -> int:
        """Bytes of the messages; the next segment is to have no more than it should."""
        size = sum(map(len, messages))
        self._most = max(1, min(_MOST, _LARGE * len(messages) // max(1, size)))
        return size

    def _look(self, session: Session) -> None:
        """What the client knows of the partitions' ends, now and then."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY
            known = {partition: session.high(partition) for partition, offset in self._partitions.items() if offset is not None}
            self._standing.ends({p: max(end, self._partitions[p] or 0) for p, end in known.items() if end is not None})

    def _hear(self, error: KafkaError) -> None:
        """From the client, in the middle of `take`: nothing else shows that the brokers are away."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._standing.away(from_kafka(error, self._config.bootstrap_servers, self._config.topic).message)
        self._nudge()

    def _pause(self, error: TransientError) -> None:
        log.warning("topic cannot be read now", source=self._source, topic=self._config.topic, error=error.message)
        self._standing.away(error.message, stuck=self._untranslated is not None)
        if self._untranslated is None:
            self._drop()
        self._nudge()
        self._closing.wait(self._backoff)
        self._backoff = min(self._backoff * 2, _BACKOFF[1])

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _copy(self, sink: str) -> None:
        """Reads everything up to the position again, for one sink; the stream waits.

        The topic holds all that ever was only if it begins at 0: then what the sink has and the topic has not goes, else it stays.
        """
        topic = self._config.topic
        left = {partition: offset for partition, offset in self._watermark.offsets.items() if offset}
        log.info("topic is read again for a sink", source=self._source, topic=topic, sink=sink, offsets=left)
        session = Session(self._config, f"{self._who}.copy", dict.fromkeys(left), self._hear)
        self._standing.copying(True)
        begun = False
        try:
            whole = all(session.low(partition) == 0 for partition in left)
            self._put([self._marker("start", sink, first=not whole)], 0)
            begun = True
            while left and not self._closing.is_set():
                taken = session.take(self._most, _IDLE)
                wanted = [m for m in taken.messages if m.offset() < left.get(m.partition(), 0)]
                if wanted:
                    self._put([self._translator.batch(wanted, sink)], self._sized(wanted))
                for partition, end in [*((m.partition(), m.offset() + 1) for m in taken.messages), *taken.ends.items()]:
                    if end >= left.get(partition, end + 1):
                        del left[partition]
            if not left:
                self._copies.ending(sink, self._outlet.count + 1)
                self._put([self._marker("end", sink, first=not whole)], 0)
        except (TransientError, PositionLostError) as error:
            if begun:
                self._put([self._marker("abandoned", sink)], 0)
            self._copies.again(sink)
            raise TransientError(f"the copy for the sink {sink} begins again: {error.message}") from error
        finally:
            session.close()
            self._standing.copying(False)

    def _marker(self, phase: str, sink: str, *, first: bool = False) -> CopyMarker:
        return CopyMarker(self._translator.schema, self._source, self._config.topic, phase, 0, first, sink)
