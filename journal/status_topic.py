"""The topic through which state folders tell each other of their rows: one partition, of which the newest message of a row counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from journal.kafka_errors import SILENT, from_kafka
from journal.kafka_feed import Feed
from journal.kafka_messages import Whole, row_messages
from journal.kafka_topics import Topic
from journal.replica import DELETED_SECONDS
from journal.sharing import Place, SharedRows, Told
from journal.topics import JournalTopics
from pipeline.errors import Refused, TransientError

_FROM = "from"
_AT_ONCE = 500
_UNHEARD = 2000  # messages that wait for the brokers at most, before more is handed to the client
_STALE = 10_000  # messages after which the rest of a row is not waited for any more
_OURS: Mapping[str, Any] = {
    "enable.idempotence": "true",
    "message.timeout.ms": "0",  # told once the brokers are back, however long that takes
    "allow.auto.create.topics": "false",
}
_DEFAULTS = {"linger.ms": "5", "compression.type": "lz4", "queue.buffering.max.kbytes": "32768", "reconnect.backoff.max.ms": "1000"}


class Speaker:
    """Tells rows to the topic, in order."""

    def __init__(self, topics: JournalTopics, topic: Topic, shared: SharedRows) -> None:
        """Connects to nothing. Raises Refused for options that no client can be made of."""
        self._topic = topic.name
        self._shared = shared
        self._who = topics.who
        self._sent = 0
        self._lost: KafkaError | None = None
        callbacks: dict[str, Any] = {"error_cb": self._hear, "on_delivery": self._delivered, "logger": SILENT}
        try:
            self._producer = Producer({**_DEFAULTS, **topics.options, **_OURS, **callbacks})
        except (KafkaException, ValueError, TypeError) as error:
            said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            raise Refused(f"{topics.who}: {said}", hint="check `options`") from None

    def tell(self, over: Callable[[], bool]) -> None:
        """Hands what has changed to the client. Raises Refused or TransientError for what could not be told."""
        self._look()
        changes = self._shared.changes(self._sent, _AT_ONCE) if len(self._producer) < _UNHEARD else ()
        for version, name, content in changes:
            told = (_FROM, msgspec.msgpack.encode((self._shared.folder, self._shared.session, version)))
            for key, value, headers in row_messages(name, content):
                while not self._handed(key, value, [*headers, told]):
                    if over():
                        return
                    self._look(0.1)
            self._sent = version

    def _handed(self, key: bytes | None, value: bytes | None, headers: list[Any]) -> bool:
        try:
            self._producer.produce(self._topic, value, key, partition=0, headers=headers)
        except BufferError:
            return False
        except KafkaException as error:
            raise from_kafka(error.args[0], f"{self._who} cannot write to {self._topic}") from error
        return True

    def _look(self, seconds: float = 0.0) -> None:
        try:
            self._producer.poll(seconds)
        except KafkaException as error:
            self._lost = self._lost or error.args[0]
        if self._lost is not None:
            raise from_kafka(self._lost, f"{self._who} cannot write to {self._topic}")

    def _delivered(self, error: KafkaError | None, message: object) -> None:
        if error is not None:
            self._lost = self._lost or error

    def _hear(self, error: KafkaError) -> None:
        if error.fatal() or isinstance(from_kafka(error, ""), Refused):
            self._lost = self._lost or error

    def close(self) -> None:
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._producer.poll(0)


class Listener:
    """Takes what folders have told, from where this one has read on."""

    def __init__(self, topics: JournalTopics, topic: Topic, shared: SharedRows) -> None:
        self._topics = topics
        self._topic = topic
        self._shared = shared
        known = shared.place
        self._end = topics.ask.written(topic)[0]
        place = known if known is not None and known.topic == topic.id and known.told <= self._end else None
        # what has been deleted meanwhile may be forgotten by now
        self._old = place is not None and place.told < self._end and time.time() - place.at > DELETED_SECONDS / 2
        self._whole_topic = self._old or place is None  # None: it is another one, or has lost what it held
        self._place = Place(topic.id, 0, 0, time.time()) if place is None or self._old else place
        self._read = 0
        self._names: set[bytes] = set()
        self._whole: dict[tuple[str, str], tuple[int, Whole]] = {}  # by folder and session: the offset at which a row began, and its pieces
        self._feed: Feed | None = None

    def catch_up(self) -> None:
        """Until the end that the topic had when this was made. Raises TransientError."""
        if self._end > self._place.next:
            self.feed.until({(self._topic.name, 0): self._end}, self._take)
        if self._whole_topic:
            (self._shared.keep_only if self._old else self._shared.adopt)(self._place, self._names)
            self._whole_topic = False

    @property
    def feed(self) -> Feed:
        if self._feed is None:
            places = {(self._topic.name, 0): self._place.next}
            self._feed = Feed(self._topics.options, self._topics.group, self._topics.who, places)
        return self._feed

    def listen(self, seconds: float) -> None:
        """Takes what comes in time."""
        self._take(self.feed.take(seconds))

    def _take(self, messages: Sequence[Message]) -> None:
        rows = [told for message in messages if (told := self._told(message)) is not None]
        if self._whole_topic:
            self._names.update(told.name for told in rows)
        end = int(messages[-1].offset() or 0) + 1 if messages else self._place.told
        if end < self._place.told:
            raise TransientError(
                f"the topic {self._topic.name} begins anew", hint="was it deleted? It is filled again from the state folders"
            )
        self._whole = {sender: (began, whole) for sender, (began, whole) in self._whole.items() if began > end - _STALE}
        next_ = min([end, *(began for began, _ in self._whole.values())])
        self._place = Place(self._topic.id, next_, max(end, self._place.told), time.time())
        self._shared.take(rows, None if self._whole_topic else self._place)

    def _told(self, message: Message) -> Told | None:
        """A row, once its last piece is there; None for what has been taken before, and for what no folder has told."""
        headers: Mapping[str, bytes] = dict(message.headers() or ())  # type: ignore[arg-type]
        offset = int(message.offset() or 0)
        try:
            folder, session, version = msgspec.msgpack.decode(headers[_FROM], type=tuple[str, str, int])
            sender = (folder, session)
            began, pieces = self._whole.pop(sender, (offset, Whole()))
            whole = pieces(message)
        except (KeyError, ValueError, msgspec.DecodeError):
            return None
        if whole is None:
            self._whole[sender] = (began, pieces)
            return None
        key, value, _ = whole
        return None if key is None or offset < self._place.told else Told(key, value, folder, session, version)

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()
