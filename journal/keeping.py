"""Who keeps the copy of a journal's topics in a state folder: ingest, which writes both, or a follower, which only reads the topics.

There is one of them in a folder at a time. A follower makes way for ingest.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import structlog

from journal import store
from journal.kafka_feed import Feed
from journal.local import JournalWriter
from journal.locks import ProcessLock, is_held
from journal.publisher import Publisher
from journal.replica import Replica
from journal.topics import JournalTopics
from pipeline.errors import AlreadyRunningError, JournalError, SluiceError
from pipeline.model import JournalConfig, KafkaJournal

log = structlog.get_logger("sluice.journal")

_COPY = "journal"  # the lock of whoever keeps the copy
_INGEST = "journal-ingest"  # that of ingest, for which a follower makes way
_PATIENCE = 10.0
_TAKE = 0.05
_AGAIN = 1.0
_LOST_AFTER = 100  # takes that bring nothing, while a commit is not whole


def open_published(folder: Path, pipeline: str, limits: JournalConfig, kafka: KafkaJournal) -> JournalWriter:
    """Ingest's end of a journal in topics. Raises Refused, TransientError, JournalError, AlreadyRunningError."""
    with ExitStack() as held:
        ingest = held.enter_context(ProcessLock(folder, _INGEST, f"ingest of {pipeline}"))
        copy = held.enter_context(ProcessLock(folder, _COPY, f"who keeps the copy of the journal of {pipeline}", _PATIENCE))
        publisher = held.enter_context(closing(Publisher(kafka, pipeline)))
        path = folder / store.FILE
        publisher.drop_outdated(folder, pipeline)
        db = store.open_for_writing(folder, pipeline, publisher.id, lambda fresh: publisher.fill(fresh, path))
        held.enter_context(closing(db))
        publisher.begin(db, path)
        locks = ExitStack()
        writer = JournalWriter(path, db, locks, limits, publisher.partitions, publisher)
        held.pop_all()
        for lock in (copy, ingest):
            locks.callback(lock.close)
        return writer


@contextmanager
def _copy(folder: Path, pipeline: str, topics: JournalTopics) -> Iterator[Replica | None]:
    """The copy, made where there is none, up to the end of the topics; None where there are no topics yet, or nothing is in them."""
    pair = topics.find()
    if pair is None or not (ends := topics.ends(pair))[topics.names.state, 0]:
        yield None
        return
    with ExitStack() as held:
        held.enter_context(ProcessLock(folder, _COPY, f"who keeps the copy of the journal of {pipeline}"))
        path = folder / store.FILE
        topics.drop_outdated(folder, pipeline, ends)

        def brought_up_to_date(db: sqlite3.Connection) -> Replica:
            return topics.copy(db, path, pair, ends, lambda: is_held(folder, _INGEST))

        def fill(db: sqlite3.Connection) -> None:
            brought_up_to_date(db)

        db = held.enter_context(closing(store.open_for_writing(folder, pipeline, topics.id(pair[1]), fill)))
        yield brought_up_to_date(db)


def follow_once(folder: Path, pipeline: str, kafka: KafkaJournal) -> None:
    """Brings the copy up to date. Raises AlreadyRunningError where another process keeps it."""
    if is_held(folder, _COPY):
        raise AlreadyRunningError(f"another process keeps the copy of the journal of {pipeline}")
    with _copy(folder, pipeline, JournalTopics(kafka, pipeline)):
        pass


class Follower:
    """Keeps the copy on a thread of its own, while no other process of the folder does."""

    def __init__(
        self, folder: Path, pipeline: str, kafka: KafkaJournal, followed: Callable[[], None], lost: Callable[[JournalError], None]
    ) -> None:
        """`followed` is called after each step that readers can see, `lost` once the topics do not hold any more what comes next."""
        self._folder = folder
        self._pipeline = pipeline
        self._topics = JournalTopics(kafka, pipeline)
        self._followed = followed
        self._lost = lost
        self._over = threading.Event()
        self.error: SluiceError | None = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._follow()
                self.error = None
            except AlreadyRunningError:
                self.error = None
            except JournalError as error:
                self.error = error
                self._lost(error)
                return
            except SluiceError as error:
                if self.error is None or self.error.message != error.message:
                    log.warning("the journal's topics cannot be followed, trying again", error=error.message, hint=error.hint)
                self.error = error
            self._over.wait(_AGAIN)

    def _follow(self) -> None:
        """Until it is over, or ingest begins here."""
        if is_held(self._folder, _INGEST):
            return
        topics = self._topics
        with _copy(self._folder, self._pipeline, topics) as replica:
            if replica is None:
                return
            self.error = None
            self._followed()
            found = topics.find()
            feed = Feed(topics.options, topics.group, topics.who, replica.places(found or ()))
            with closing(feed):
                self._read(topics, feed, replica)

    def _read(self, topics: JournalTopics, feed: Feed, replica: Replica) -> None:
        idle = 0
        while not self._over.is_set() and not is_held(self._folder, _INGEST):
            messages = feed.take(_TAKE)
            if replica.take(messages):
                self._followed()
            if feed.trouble is not None:
                raise feed.trouble
            idle = 0 if messages or replica.awaited is None else idle + 1
            if idle > _LOST_AFTER:
                raise topics.lost(replica)

    def close(self) -> None:
        self._over.set()
        self._thread.join(_PATIENCE)
