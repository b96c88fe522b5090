"""Makes the state folders of a pipeline alike, through a topic: each tells what has changed in it, and takes what others have told.

One process in each folder does it, on a thread of its own; another one goes on when it dies. Nobody waits for it: while no broker
answers every folder goes on with what it knows. What is told is told at least once, and taking it again changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import structlog
from confluent_kafka import KafkaException

from journal.kafka_errors import from_kafka
from journal.kafka_topics import Topic
from journal.locks import ProcessLock, is_held
from journal.processes import RUN, running_in
from journal.sharing import SharedRows
from journal.status_topic import Listener, Speaker
from journal.topics import JournalTopics
from pipeline.errors import AlreadyRunningError, SluiceError, TransientError
from pipeline.model import KafkaJournal

log = structlog.get_logger("sluice.journal")

LOCK = "exchange"
_TAKE = 0.1
_TELL_EVERY = 2.0  # seconds
_AGAIN = 1.0
_AGAIN_AFTER_TROUBLE = 3.0
_LOOK_EVERY = 30.0  # seconds after which it is seen whether the topic is still the same
_SETTLE = 1.5
_ANSWER = 6.0


def _topic_of(topics: JournalTopics) -> Topic | None:
    """The topic, made where somebody has deleted it; None where ingest has not made those of the journal yet."""
    if topics.ask.find(topics.names.state) is None:
        return None
    return topics.make_status()


def exchange_once(folder: Path, pipeline: str, kafka: KafkaJournal, *, tell: bool = False) -> None:
    """Brings a folder to what others have told; with `tell`, others to what this one has. Nothing where a process here does it.

    Raises Refused, TransientError.
    """
    if is_held(folder, LOCK):
        return
    topics = JournalTopics(kafka, pipeline)
    topic = _topic_of(topics) if tell else topics.ask.find(topics.names.status)
    if topic is None:
        return
    try:
        held = ProcessLock(folder, LOCK, f"who exchanges what is told in {folder}")
    except AlreadyRunningError:
        return
    with held, closing(SharedRows(folder)) as shared, closing(Listener(topics, topic, shared)) as listener:
        listener.catch_up()
        if tell:
            with closing(Speaker(topics, topic, shared)) as speaker:
                if not _settled(shared, listener, speaker, time.monotonic() + _ANSWER):
                    raise TransientError(f"{topics.who}: no broker answers", hint="it is told as soon as something runs here")


def _settled(shared: SharedRows, listener: Listener, speaker: Speaker, deadline: float) -> bool:
    """Whether all that has changed here is in the topic in time."""
    while shared.open:
        if time.monotonic() > deadline:
            return False
        speaker.tell(lambda: time.monotonic() > deadline)
        listener.listen(_TAKE)
    return True


class Exchange:
    """Exchanges on a thread of its own, while no other process of the folder does."""

    def __init__(self, folder: Path, pipeline: str, kafka: KafkaJournal, process: str) -> None:
        """`process` is the lock of the process that this belongs to. Raises Refused for options that no client can be made of."""
        self._folder = folder
        self._process = process
        self._topics = JournalTopics(kafka, pipeline)
        self._over = threading.Event()
        self._left = False
        self._trouble: type[SluiceError] | None = None
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._left:
            last = self._over.is_set()
            try:
                with ProcessLock(self._folder, LOCK, f"who exchanges what is told in {self._folder}"):
                    self._exchange()
            except AlreadyRunningError:
                self._went_well()
            except SluiceError as error:
                self._went_wrong(error)
            except KafkaException as error:
                self._went_wrong(from_kafka(error.args[0], f"{self._topics.who}: cannot exchange"))
            if last:
                return
            self._over.wait(_AGAIN if self._trouble is None else _AGAIN_AFTER_TROUBLE)

    def _exchange(self) -> None:
        """Until it is over, or the topic is not the same any more."""
        topic = _topic_of(self._topics)
        if topic is None:
            return
        with closing(SharedRows(self._folder)) as shared, closing(Listener(self._topics, topic, shared)) as listener:
            listener.catch_up()
            with closing(Speaker(self._topics, topic, shared)) as speaker:
                self._went_well()
                look_at = time.monotonic() + _LOOK_EVERY
                presence = _Presence(self._folder, shared)
                while not self._over.is_set():
                    presence.tell()
                    speaker.tell(self._over.is_set)
                    listener.listen(_TAKE)
                    trouble = listener.feed.trouble
                    if isinstance(trouble, SluiceError):
                        self._went_wrong(trouble)
                        continue
                    self._went_well()
                    if time.monotonic() > look_at:
                        look_at = time.monotonic() + _LOOK_EVERY
                        if self._topics.ask.missing([(topic.name, topic.id)]):
                            return
                presence.leave(self._process)
                _settled(shared, listener, speaker, time.monotonic() + _SETTLE)
                self._left = True

    def _went_wrong(self, error: SluiceError) -> None:
        """Says it once: what is heard while nobody answers changes from moment to moment."""
        if self._trouble is not type(error):
            log.warning("other machines are not told what happens here, trying again", error=error.message, hint=error.hint)
        self._trouble = type(error)

    def _went_well(self) -> None:
        if self._trouble is not None:
            log.info("other machines are told again what happens here")
        self._trouble = None

    def close(self) -> None:
        """Tells the last of it, if the brokers answer at once."""
        self._over.set()
        self._thread.join(2 * _SETTLE)


class _Presence:
    """Says what runs in a folder, now and then and whenever it changes."""

    def __init__(self, folder: Path, shared: SharedRows) -> None:
        self._folder = folder
        self._shared = shared
        self._told: Mapping[str, float] | None = None
        self._told_at = 0.0
        self._next = 0.0

    def tell(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _TELL_EVERY / 4
        running = running_in(self._folder)
        if running != self._told or now - self._told_at >= _TELL_EVERY:
            self._told, self._told_at = running, now
            self._shared.tell_running(running)

    def leave(self, process: str) -> None:
        """The process that speaks ends. What else runs here says so itself."""
        self._shared.tell_running({name: since for name, since in running_in(self._folder).items() if name not in (process, RUN)})
