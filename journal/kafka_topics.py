"""The topics of a sink: which there are, what they are like, and making those that are missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType  # type: ignore[attr-defined]

from journal.kafka_errors import SILENT, UNKNOWN_TOPIC, from_kafka
from pipeline.errors import Refused, SluiceError, TransientError
from pipeline.kafka_listener import other_protocol

_TIMEOUT = 6.0
_SOON = 2.0  # seconds for which a broker that has just started may not know its topics yet, or whom it may let in
_STEP = 0.05
_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_SETTLING = 1.0  # seconds: brokers answer a commit before all partitions have been told of it
_NOT_TOLD = 1_000_000  # bytes of a message that any topic takes, where nobody says how many this one does
LARGEST = 16 << 20
"""Bytes of the largest message in topics that are made here."""
_UNANSWERED: list[AdminClient] = []
"""Clients that a question was given up of: librdkafka aborts the process where its own thread is the last to let go of one."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that is there. `id` is empty where the brokers are too old to give it one, `settings` where they may not be looked at."""

    name: str
    id: str
    partitions: tuple[int, ...]
    compacted: bool = False
    max_bytes: int = _NOT_TOLD
    settings: Mapping[str, str] = field(default_factory=dict, compare=False)


class Topics:
    """Asks the brokers, and makes topics. Raises Refused for who may not, TransientError while no broker answers."""

    def __init__(self, options: Mapping[str, str], who: str) -> None:
        self._who = who
        self._options = options
        self._heard: KafkaError | None = None
        self._down = False
        self._looked = False  # at what the listener speaks, since the question was asked
        self._unlike: str | None = None
        callbacks: dict[str, Any] = {"error_cb": self._hear, "logger": SILENT}
        try:
            self._admin = AdminClient({**options, **callbacks})
        except (KafkaException, ValueError, TypeError) as error:
            said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            raise Refused(f"{who}: {said}", hint="check `options`") from None

    def find(self, name: str, *, surely: bool = False) -> Topic | None:
        """The topic, None where there is none. `surely` waits whether a broker that has just started comes to know it."""
        began = time.monotonic()
        while True:
            found = self._described(name)
            if found is not None or not surely or time.monotonic() - began > _SOON:
                return found
            time.sleep(_STEP)

    def _described(self, name: str) -> Topic | None:
        try:
            asked = TopicCollection([name])
            answer = self._ask(lambda: self._admin.describe_topics(asked, request_timeout=_TIMEOUT), f"cannot look at {name}")
        except _NoTopicError:
            return None
        told = answer[name]
        number = str(told.topic_id) if told.topic_id is not None else ""
        topic = Topic(name, "" if set(number) <= {"A", "="} else number, tuple(sorted(one.id for one in told.partitions)))
        try:
            configs = self._configs(name)
        except _NoTopicError:
            return None
        except Refused:  # who may write need not be allowed to look at settings
            return topic
        settings = {name: str(config.value) for name, config in configs.items()}
        compacted = "compact" in settings["cleanup.policy"]
        return Topic(name, topic.id, topic.partitions, compacted, int(settings["max.message.bytes"]), settings)

    def _configs(self, name: str) -> Mapping[str, Any]:
        resource = ConfigResource(ResourceType.TOPIC, name)
        answer = self._ask(lambda: self._admin.describe_configs([resource], request_timeout=_TIMEOUT), f"cannot look at {name}")
        found: Mapping[str, Any] = answer[resource]
        return found

    def make(self, name: str, partitions: int, config: Mapping[str, str]) -> Topic:
        """The topic, made with these settings unless it is there; as many replicas as the brokers' default."""
        found = self.find(name)
        if found is not None:
            return found
        new = NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dict(config))
        with suppress(_ExistsError):
            self._ask(lambda: self._admin.create_topics([new], request_timeout=_TIMEOUT), f"cannot make {name}")
        found = self.find(name, surely=True)
        if found is None:
            raise TransientError(f"{self._who}: {name} was made, but the brokers do not show it", hint="was it deleted again?")
        return found

    def settled(self, topic: Topic) -> Mapping[int, int]:
        """Partition -> offset behind what is committed, waiting a moment for transactions that are just ending."""
        deadline = time.monotonic() + _SETTLING
        while True:
            committed = self.committed(topic)
            if committed == self.written(topic) or time.monotonic() > deadline:
                return committed
            time.sleep(_STEP / 5)

    def committed(self, topic: Topic) -> Mapping[int, int]:
        """Partition -> offset behind what is known to be committed now: before the first message of a transaction that is still open."""
        return self._ends(topic, IsolationLevel.READ_COMMITTED)

    def written(self, topic: Topic) -> Mapping[int, int]:
        """Partition -> offset behind everything, committed or not."""
        return self._ends(topic, IsolationLevel.READ_UNCOMMITTED)

    def _ends(self, topic: Topic, isolation: Any) -> Mapping[int, int]:
        wanted = {TopicPartition(topic.name, partition): _LATEST for partition in topic.partitions}
        question = lambda: self._admin.list_offsets(wanted, isolation_level=isolation, request_timeout=_TIMEOUT)  # noqa: E731
        return {place.partition: told.offset for place, told in self._ask(question, f"cannot look at {topic.name}").items()}

    def forget(self, topic: Topic, before: Mapping[int, int]) -> None:
        """Deletes what is before these offsets of partitions."""
        places = [TopicPartition(topic.name, partition, offset) for partition, offset in before.items()]
        self._ask(lambda: self._admin.delete_records(places, request_timeout=_TIMEOUT), f"cannot forget what is old in {topic.name}")

    def missing(self, names: Iterable[tuple[str, str]]) -> Sequence[str]:
        """Those of the topics (name, id) that were deleted, or deleted and made again."""
        gone = []
        for name, number in names:
            found = self.find(name, surely=True)
            if found is None or (number and found.id and found.id != number):
                gone.append(name)
        return gone

    def _ask(self, question: Callable[[], Mapping[Any, Future[Any]]], failing: str) -> dict[Any, Any]:
        """The answers. What may pass by itself is asked again until the deadline, a refusal only while it may be a start's."""
        began = time.monotonic()
        self._looked, self._unlike = False, None
        while True:
            self._heard = None
            try:
                return {about: self._answer(future, began) for about, future in question().items()}
            except KafkaException as raised:
                code = raised.args[0].code()
                if code in UNKNOWN_TOPIC:
                    raise _NoTopicError(failing) from None
                if code == KafkaError.TOPIC_ALREADY_EXISTS:
                    raise _ExistsError(failing) from None
                problem = self._problem(raised.args[0], failing)
            except NotYet:
                problem = self._problem(None, failing)
            late = time.monotonic() - began
            if late > (_SOON if isinstance(problem, Refused) or self._down else _TIMEOUT):
                raise problem
            time.sleep(_STEP)

    def _answer(self, future: Future[Any], began: float) -> Any:
        """Serves what the client has to say meanwhile: a broker that is away or refuses shows nowhere else."""
        while not wait([future], _STEP).done:
            self._admin.poll(0)
            late = time.monotonic() - began
            refused = self._heard is not None and isinstance(from_kafka(self._heard, ""), Refused)
            if late > _TIMEOUT or (late > _SOON and (refused or self._down)):
                break
        if not future.done() and self._admin not in _UNANSWERED:
            _UNANSWERED.append(self._admin)
        return future.result(0)

    def _problem(self, error: KafkaError | None, failing: str) -> SluiceError:
        """A question that gets no answer says less than what was heard meanwhile."""
        what = f"{self._who} {failing}"
        found = None if error is None else from_kafka(error, what)
        if self._heard is not None and not isinstance(found, Refused):
            heard = from_kafka(self._heard, what)
            unlike = None if isinstance(heard, Refused) else self._other_protocol()
            return heard if unlike is None else Refused(f"{what}: {unlike}", hint="check `security.protocol` in `options`")
        return found or TransientError(f"{what}: no broker answers", hint="are the brokers running?")

    def _other_protocol(self) -> str | None:
        """To whom speaks otherwise than the listener nothing is said, so that is looked at, once for a question."""
        if not self._looked:
            self._looked = True
            self._unlike = other_protocol(self._options)
        return self._unlike

    def _hear(self, error: KafkaError) -> None:
        self._down |= error.code() == KafkaError._ALL_BROKERS_DOWN
        if self._heard is None or error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            self._heard = error


class _NoTopicError(SluiceError):
    """There is no such topic."""


class _ExistsError(SluiceError):
    """There is such a topic already."""
