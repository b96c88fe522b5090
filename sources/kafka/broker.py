"""What is asked of the brokers beside the reading of messages: which topic this is, its partitions, where they begin and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from pipeline.errors import Refused, SluiceError, TransientError
from pipeline.kafka_listener import other_protocol
from sources.kafka.config import KafkaConfig
from sources.kafka.errors import from_kafka, missing

Value = TypeVar("Value")

_SOON = 2.0  # seconds for which an answer that may be a broker's that has just started is not believed
_PAUSE = 0.05
_LOOK = 0.5
_UNANSWERED: list[AdminClient] = []
"""Clients that a question was given up of: librdkafka aborts the process where its own thread is the last to let go of one."""


@dataclass(frozen=True, slots=True)
class Topic:
    """The topic as it is now; `id` is empty where the brokers give topics none: old ones, and a cluster without a controller."""

    id: str
    partitions: tuple[int, ...]


class Broker:
    """Questions to the brokers of one source, each with a deadline. One thread at a time."""

    def __init__(self, config: KafkaConfig, who: str, timeout: float = 10.0) -> None:
        """Connects to nothing; `who` is how the brokers see this client. Raises Refused for options that no client can be made of."""
        self._topic = config.topic
        self._server = config.bootstrap_servers
        self._timeout = timeout
        self._options = config.client
        self._heard: KafkaError | None = None
        self._looked = False  # at what the listener speaks, since the question was asked
        self._unlike: Refused | None = None
        self._has_controller: bool | None = None  # whether its brokers have one; looked at only where it gives no answer
        options: dict[str, Any] = {"client.id": who, **self._options, "error_cb": self._hear}
        try:
            self._client = AdminClient(options)
        except (KafkaException, ValueError, TypeError) as error:
            raise unmade(error, config) from None

    def topic(self, timeout: float | None = None) -> Topic:
        """Raises Refused for a topic that is not there or not for us, TransientError where no broker answers in time."""
        limit = timeout or self._timeout
        if self._has_controller is False:
            return self._listed(limit)
        try:
            found = self._ask(lambda: self._client.describe_topics(TopicCollection([self._topic]), request_timeout=limit), limit)
        except TransientError:
            if not self._lacks_controller():
                raise
            return self._listed(limit)
        (described,) = found.values()
        number = str(described.topic_id) if described.topic_id is not None else ""
        return Topic("" if set(number) <= {"A", "="} else number, tuple(sorted(one.id for one in described.partitions)))

    def _listed(self, limit: float) -> Topic:
        """The topic by a question that needs no controller, and tells no id. All topics are listed: to ask for one may make it."""
        try:
            found = self._client.list_topics(timeout=limit).topics.get(self._topic)
        except KafkaException as error:
            raise from_kafka(error.args[0], self._server, self._topic) from None
        if found is None:
            raise missing(self._topic, self._server)
        return Topic("", tuple(sorted(found.partitions)))

    def begins(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Partition -> offset of its earliest message."""
        return self._offsets(
            partitions,
            OffsetSpec.earliest(),  # type: ignore[no-untyped-call]
            IsolationLevel.READ_UNCOMMITTED,
        )

    def ends(self, partitions: Iterable[int], *, committed: bool = True) -> Mapping[int, int]:
        """Partition -> offset behind all that is committed, before the first message of a transaction that is still open; or behind all."""
        isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._offsets(partitions, OffsetSpec.latest(), isolation)  # type: ignore[no-untyped-call]

    def _offsets(self, partitions: Iterable[int], spec: Any, isolation: Any) -> Mapping[int, int]:
        wanted = {TopicPartition(self._topic, partition): spec for partition in partitions}
        if not wanted:
            return {}
        found = self._ask(
            lambda: self._client.list_offsets(wanted, isolation_level=isolation, request_timeout=self._timeout), self._timeout
        )
        return {place.partition: answer.offset for place, answer in found.items()}

    def _ask(self, question: Callable[[], Mapping[Any, Future[Value]]], limit: float) -> dict[Any, Value]:
        """The answers. What may pass by itself is asked again until the deadline, a refusal only while it may be a start's."""
        began = time.monotonic()
        self._looked, self._unlike = False, None
        while True:
            self._heard = None
            try:
                return {about: self._answer(future, began, limit) for about, future in question().items()}
            except KafkaException as error:
                problem = self._problem(error.args[0])
            except NotYet:
                problem = self._problem(None)
            if self._has_controller is False or time.monotonic() - began > (_SOON if isinstance(problem, Refused) else limit):
                raise problem
            time.sleep(_PAUSE)

    def _answer(self, future: Future[Value], began: float, limit: float) -> Value:
        """Serves what the client has to say meanwhile: a broker that is away or refuses shows nowhere else."""
        while not wait([future], _PAUSE).done:
            self._client.poll(0)
            late = time.monotonic() - began
            if late > limit or (late > _SOON and (isinstance(self._refusal(), Refused) or self._lacks_controller())):
                break
        if not future.done() and self._client not in _UNANSWERED:
            _UNANSWERED.append(self._client)
        return future.result(0)

    def _lacks_controller(self) -> bool:
        """Whether the brokers name as their controller none of themselves, as those do that librdkafka runs in a process of its own."""
        if self._has_controller is None:
            try:
                found = self._client.list_topics(timeout=_LOOK)
            except KafkaException:
                return False  # they are away, which the question itself tells
            self._has_controller = found.controller_id < 0 or found.controller_id in found.brokers
        return not self._has_controller

    def _refusal(self) -> SluiceError | None:
        """What was heard. To whom speaks otherwise than the listener nothing is said, so that is looked at, once for a question."""
        if self._heard is None:
            return None
        found = from_kafka(self._heard, self._server, self._topic)
        return found if isinstance(found, Refused) else self._other_protocol() or found

    def _other_protocol(self) -> Refused | None:
        if not self._looked:
            self._looked = True
            said = other_protocol(self._options)
            if said is not None:
                self._unlike = Refused(f"topic {self._topic} at {self._server}: {said}", hint="check `security.protocol` in `options`")
        return self._unlike

    def _problem(self, error: KafkaError | None) -> SluiceError:
        """A question that gets no answer says less than what was heard meanwhile."""
        found = None if error is None else from_kafka(error, self._server, self._topic)
        heard = self._refusal()
        if heard is not None and not isinstance(found, Refused):
            return heard
        return found or TransientError(f"topic {self._topic} at {self._server}: no broker answers", hint="is it running, and not stopped?")

    def _hear(self, error: KafkaError) -> None:
        if self._heard is None or error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            self._heard = error


def unmade(error: Exception, config: KafkaConfig) -> Refused:
    """Why a client could not be made, without the values of options."""
    first = error.args[0] if error.args else error
    said = first.str() if isinstance(first, KafkaError) else str(first)
    for value in config.options.values():
        if not isinstance(value, str) and value.get_secret_value():
            said = said.replace(value.get_secret_value(), "***")
    return Refused(f"topic {config.topic}: {said}", hint="check `options`")
