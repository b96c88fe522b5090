"""A transactional producer: one identity, so that of two processes the older one is fenced off by the brokers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from journal.kafka_errors import FENCED, SILENT, from_kafka
from pipeline.errors import AlreadyRunningError, Refused, SluiceError, TransientError

_PATIENCE = 6.0  # seconds for which a call is repeated
_DOWN_PATIENCE = 1.5  # where librdkafka says that no broker can be reached
_STEP = 0.5
_FULL = 0.01

BATCH_BYTES = 1_000_000
"""Bytes of messages that go to a partition at once, at most."""
_OURS: Mapping[str, Any] = {"enable.idempotence": "true", "delivery.report.only.error": True, "allow.auto.create.topics": "false"}
_DEFAULTS = {
    "linger.ms": "5",
    "compression.type": "lz4",
    "partitioner": "murmur2_random",  # that of Java's producers
    "message.max.bytes": "1000000000",  # what a topic takes is asked of the topic
    "queue.buffering.max.messages": "200000",
    "queue.buffering.max.kbytes": "65536",
    "transaction.timeout.ms": "300000",
    "reconnect.backoff.max.ms": "1000",
}


class _Ears:
    """What a producer says by itself. Apart from the Link, so that a producer which nobody has any more is gone at once.

    heard  what it said of its connections since a call succeeded; down: that no broker can be reached
    lost   the first message that could not be written; fatal: the error after which nothing works
    """

    def __init__(self) -> None:
        self.heard: KafkaError | None = None
        self.down = False
        self.lost: KafkaError | None = None
        self.fatal: KafkaError | None = None

    def hear(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.fatal = self.fatal or error
        self.down |= error.code() == KafkaError._ALL_BROKERS_DOWN
        if self.heard is None or error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            self.heard = error

    def delivered(self, error: KafkaError | None, message: object) -> None:
        if error is not None and self.lost is None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self.lost = error


class Link:
    """A producer in one transaction after another. After any error but a refusal of arguments it has to be closed and made anew."""

    def __init__(self, options: Mapping[str, str], identity: str, who: str, *, alone: str, patience: float = _PATIENCE) -> None:
        """Connects to nothing. `alone` says to who was fenced off that there can be one only; a call is repeated for `patience` seconds.

        Raises Refused for options that no client can be made of.
        """
        self._alone = alone
        self._patience = patience
        self._down_patience = _DOWN_PATIENCE if patience <= _PATIENCE else patience
        given = {**_DEFAULTS, **options, **_OURS, "transactional.id": identity}
        self._who = who
        self._timeout = int(given["transaction.timeout.ms"]) / 1000
        self._ears = _Ears()
        self._began = 0.0
        self._open = False
        callbacks: dict[str, Any] = {"error_cb": self._ears.hear, "on_delivery": self._ears.delivered, "logger": SILENT}
        try:
            self._producer = Producer({**given, **callbacks})
        except (KafkaException, ValueError, TypeError) as error:
            said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            raise Refused(f"{who}: {said}", hint="check `options`") from None

    def connect(self) -> None:
        """Fences off any older producer of this identity; what that had open is aborted when this returns."""
        self._repeat(self._producer.init_transactions, "cannot begin", patience=_PATIENCE)

    def begin(self) -> None:
        self._repeat(lambda _: self._producer.begin_transaction(), "cannot open a transaction")
        self._began = time.monotonic()
        self._open = True
        self._ears.lost = None

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Iterable[list[Any]],
        partition: int = -1,
    ) -> None:
        """Puts messages into the open transaction, in their order; where no partition is given, into those of their keys.

        Waits while the queue to the brokers is full.
        """
        produce = partial(self._producer.produce, partition=partition)
        try:
            self._look()
            for key, value, header in zip(keys, values, headers, strict=True):
                try:
                    produce(topic, value, key, headers=header)
                except BufferError:
                    self._wait(partial(produce, topic, value, key, headers=header))
        except KafkaException as error:
            raise self._problem(error.args[0], f"cannot write to {topic}") from error

    def touch(self, topic: str, partitions: Iterable[int]) -> None:
        """Makes partitions part of the open transaction, which has to be aborted."""
        try:
            for partition in partitions:
                self._producer.produce(topic, None, b"", partition=partition)
        except KafkaException as error:
            raise self._problem(error.args[0], f"cannot write to {topic}") from error

    def commit(self) -> None:
        """Everything since `begin` becomes visible. A TransientError leaves open whether it has: the target knows."""
        self._repeat(self._producer.commit_transaction, "cannot commit")
        self._open = False
        self._look()

    def flush(self) -> None:
        """Every message of the open transaction is at the brokers when this returns."""
        deadline = time.monotonic() + 10 * self._patience
        while self._producer.flush(_STEP):
            self._look()
            if self._given_up(deadline, time.monotonic()):
                raise self._problem(None, "cannot write")

    def abort(self) -> bool:
        """Nothing since `begin` stays. Returns whether this producer can go on."""
        if not self._open:
            return True
        self._open = False
        if self._ears.fatal is not None:
            return False
        try:
            self._repeat(self._producer.abort_transaction, "cannot abort", patience=_DOWN_PATIENCE)
        except SluiceError:
            return False
        return self._ears.fatal is None

    def close(self) -> None:
        """Lets go at once: what is open stays so until the next producer of this identity, or the brokers, abort it."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._poll(0)

    def _wait(self, produce: Callable[[], None]) -> None:
        """Repeats until the queue takes the message."""
        began = moved = time.monotonic()
        waiting = len(self._producer)
        while True:
            self._poll(_FULL)
            self._look()
            try:
                return produce()
            except BufferError:
                if len(self._producer) < waiting:
                    waiting, moved = len(self._producer), time.monotonic()
                if self._given_up(moved + 5 * self._patience, began):
                    raise self._problem(None, "cannot write") from None

    def _repeat(self, call: Callable[[float], object], failing: str, patience: float | None = None) -> None:
        """Makes a call until it succeeds, as long as the client says that repeating may help, and there is time."""
        began = time.monotonic()
        patience = self._patience if patience is None else patience
        while True:
            if self._ears.fatal is not None:
                raise self._problem(self._ears.fatal, failing)
            try:
                call(_STEP)
            except (KafkaException, SystemError) as raised:
                error = _kafka_error(raised)
                if error is None:
                    raise
                self._poll(0)
                if error.fatal():
                    self._ears.fatal = error
                again = error.retriable() and not error.fatal() and not error.txn_requires_abort()
                if not again or self._given_up(began + patience, began):
                    raise self._problem(error, failing) from raised
                time.sleep(_FULL)  # some calls are refused at once
                continue
            self._ears.heard, self._ears.down = None, False
            return

    def _given_up(self, deadline: float, began: float) -> bool:
        now = time.monotonic()
        hopeless = self._ears.heard is not None and isinstance(from_kafka(self._ears.heard, ""), Refused)
        return now > deadline or (hopeless and now > began + _DOWN_PATIENCE) or (self._ears.down and now > began + self._down_patience)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the connections just now. Any thread."""
        heard = self._ears.heard
        return None if heard is None else f"{heard.str()} ({heard.name()})"

    def _poll(self, seconds: float) -> None:
        """Serves what the client has to say. It raises a fatal error here, too."""
        try:
            self._producer.poll(seconds)
        except KafkaException as error:
            self._ears.fatal = self._ears.fatal or error.args[0]

    def _look(self) -> None:
        self._poll(0)
        if self._ears.fatal is not None:
            raise self._problem(self._ears.fatal, "cannot go on")
        if self._ears.lost is not None:
            raise self._problem(self._ears.lost, "cannot write")

    def _problem(self, error: KafkaError | None, failing: str) -> SluiceError:
        """A call that got no answer says less than what was heard of the connections meanwhile."""
        late = self._open and time.monotonic() - self._began > 0.9 * self._timeout
        found = self._ears.lost if error is None or (self._ears.lost is not None and error.code() not in FENCED) else error
        what = f"{self._who} {failing}"
        if found is not None and found.fatal():
            self._ears.fatal = found
        if found is not None and (found.code() in FENCED or self._is_fenced(found)):
            if late:
                message = f"{what}: the transaction took longer than the {self._timeout:.0f} s after which the brokers end it"
                return TransientError(message, hint="raise `transaction.timeout.ms` in `options`")
            message = f"another process has taken over {self._who}: the brokers have fenced this one off"
            return AlreadyRunningError(message, hint=self._alone)
        if found is None or (self._ears.heard is not None and found.code() in (KafkaError._TIMED_OUT, KafkaError._PURGE_QUEUE)):
            found = self._ears.heard or found
        if found is None:
            return TransientError(f"{what}: no broker answers", hint="are the brokers running?")
        return from_kafka(found, what)

    @staticmethod
    def _is_fenced(error: KafkaError) -> bool:
        """A fatal error, as the callback has it, tells its cause in words alone."""
        return error.code() == KafkaError._FATAL and "fenced" in error.str().lower()


def _kafka_error(raised: BaseException) -> KafkaError | None:
    """What a call failed with; `flush` can raise a SystemError about the KafkaException that a callback made."""
    cause = raised if isinstance(raised, KafkaException) else raised.__cause__
    return cause.args[0] if isinstance(cause, KafkaException) else None
