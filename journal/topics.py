"""The topics of a journal: what they are called, how they are made, and what is asked about them."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import msgspec
import structlog

from journal import store
from journal.kafka_feed import Feed
from journal.kafka_messages import Commit, TopicNames
from journal.kafka_reading import Reader
from journal.kafka_topics import Topic, Topics
from journal.replica import DELETED_SECONDS, Place, Replica
from pipeline.errors import AlreadyRunningError, JournalError, TerminalError
from pipeline.kafka_options import revealed
from pipeline.model import KafkaJournal

log = structlog.get_logger("sluice.journal")

CHANGES_SETTINGS: Mapping[str, str] = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
STATE_SETTINGS: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),
    "min.cleanable.dirty.ratio": "0.1",
    "delete.retention.ms": str(DELETED_SECONDS * 1000),
}
_MESSAGE_BYTES = 1_000_000  # a piece of a message, its key, and what the brokers put around it
_LEAST = {"max.message.bytes": _MESSAGE_BYTES}
_LEAST_STATE = {"max.message.bytes": _MESSAGE_BYTES, "delete.retention.ms": DELETED_SECONDS * 1000}
_IDS = uuid.UUID("6b7d4d0c-3c1e-4b8e-9d54-52a0f3a6b1de")


class JournalTopics:
    """The topics of one pipeline's journal, and what is asked about them."""

    def __init__(self, kafka: KafkaJournal, pipeline: str) -> None:
        """Connects to nothing. Raises Refused for options that no client can be made of."""
        self.options = {**revealed(kafka.options), "bootstrap.servers": kafka.bootstrap_servers}
        self.names = TopicNames.of(kafka.prefix, pipeline)
        self.who = f"the journal at {kafka.bootstrap_servers}"
        self.group = f"{kafka.prefix}.{pipeline}"
        self._partitions = kafka.partitions
        self.ask = Topics(self.options, self.who)

    def make(self) -> tuple[Topic, Topic]:
        """The topics of changes and state, made where they are missing. Raises Refused, TransientError, TerminalError."""
        changes = self.ask.make(self.names.changes, self._partitions, CHANGES_SETTINGS)
        state = self.ask.make(self.names.state, 1, STATE_SETTINGS)
        self.make_status()
        return self._changes_as_needed(changes), self._state_as_needed(state)

    def make_status(self) -> Topic:
        """The topic of what processes say of themselves."""
        return self.ask.make(self.names.status, 1, STATE_SETTINGS)

    def find(self) -> tuple[Topic, Topic] | None:
        """The same; None where ingest has not made them yet."""
        changes, state = self.ask.find(self.names.changes), self.ask.find(self.names.state)
        return None if changes is None or state is None else (self._checked(changes), state)

    def plan(self) -> list[str]:
        """What `make` would do, in words."""
        changes = self.ask.find(self.names.changes)
        if changes is not None:
            self._changes_as_needed(changes)
        made = [] if changes is not None else [f"create topic {self.names.changes} ({self._partitions} partitions)"]
        state = self.ask.find(self.names.state)
        if state is not None:
            self._state_as_needed(state)
        missing = [] if state is not None else [self.names.state]
        missing += [] if self.ask.find(self.names.status) is not None else [self.names.status]
        return [*made, *(f"create topic {name} (1 partition, compacted)" for name in missing)]

    def _changes_as_needed(self, changes: Topic) -> Topic:
        return self._as_needed(self._checked(changes), CHANGES_SETTINGS, _LEAST)

    def _state_as_needed(self, state: Topic) -> Topic:
        return self._as_needed(state, {"cleanup.policy": "compact"}, _LEAST_STATE)

    @staticmethod
    def _as_needed(topic: Topic, same: Mapping[str, str], least: Mapping[str, int]) -> Topic:
        """Refuses a topic, made by hand, whose brokers would drop what is in it, or not take it."""
        wrong = {name: value for name, value in same.items() if topic.settings.get(name, value) != value}
        wrong |= {name: str(value) for name, value in least.items() if int(topic.settings.get(name, value)) < value}
        if wrong:
            has = ", ".join(f"{name}={topic.settings[name]}" for name in wrong)
            told = ",".join(f"{name}={value}" for name, value in wrong.items())
            raise TerminalError(
                f"the topic {topic.name} has {has}, with which a journal cannot be kept in it",
                hint=f"kafka-configs --alter --entity-type topics --entity-name {topic.name} --add-config {told}",
            )
        return topic

    def _checked(self, changes: Topic) -> Topic:
        if len(changes.partitions) != self._partitions:
            raise TerminalError(
                f"the topic {changes.name} has {len(changes.partitions)} partitions, not {self._partitions}",
                hint=f"write `partitions: {len(changes.partitions)}` under `journal`: a key must not change its partition",
            )
        return changes

    def ends(self, topics: tuple[Topic, Topic]) -> dict[Place, int]:
        """Offset behind what is committed, by topic and partition, once transactions that are just ending have ended."""
        return {(topic.name, partition): end for topic in topics for partition, end in self.ask.settled(topic).items()}

    def id(self, state: Topic) -> str:
        """That of the journal: it is another one in other topics."""
        return str(uuid.uuid5(_IDS, state.id or state.name))

    def newest(self, ends: Mapping[Place, int]) -> Commit | None:
        """The last commit that the topics hold."""
        found = Reader(self.options, self.group, self.who).last(self.names.state, ends[self.names.state, 0])
        return None if found is None else Commit.decode(msgspec.msgpack.decode(found)[1])

    def copy(
        self,
        db: sqlite3.Connection,
        path: Path,
        topics: tuple[Topic, Topic],
        ends: Mapping[Place, int],
        give_way: Callable[[], bool] = lambda: False,
    ) -> Replica:
        """The file as a copy of the topics, up to these ends. Raises as `catch_up` does, and JournalError for a copy of others."""
        replica = Replica(db, path, self.names)
        replica.check(topics)
        self.catch_up(replica, topics, ends, give_way)
        return replica

    def catch_up(
        self, replica: Replica, topics: tuple[Topic, Topic], ends: Mapping[Place, int], give_way: Callable[[], bool] = lambda: False
    ) -> None:
        """Reads what a file lacks. Raises JournalError where the topics do not hold it any more, AlreadyRunningError where it gave way."""
        awaited: Commit | None = None
        while True:
            places = replica.places(topics)
            behind = {place: end for place, end in ends.items() if end > places[place]}
            if behind:
                feed = Feed(self.options, self.group, self.who, {place: places[place] for place in behind})
                try:
                    feed.until(behind, replica.take, give_way)
                finally:
                    feed.close()
            if give_way():
                raise AlreadyRunningError(f"another process is about to keep the copy of {self.names.state}")
            if replica.awaited is None:
                return
            if replica.awaited == awaited:
                raise self.lost(replica)
            awaited = replica.awaited
            ends = self.ends(topics)  # a commit that came just now may have been met before the ends of its changes were

    def drop_outdated(self, folder: Path, pipeline: str, ends: Mapping[Place, int]) -> None:
        """Removes a copy that the topics can only make anew. The caller holds its lock."""
        if store.journal_exists(folder):
            with closing(store.open_for_writing(folder, pipeline)) as db:
                outdated = Replica(db, folder / store.FILE, self.names).outdated(self.newest(ends))
            if outdated:
                log.info("the copy of the journal is too old, it is made anew", folder=str(folder))
                store.remove(folder)

    def lost(self, replica: Replica) -> JournalError:
        """Entries are gone that have not been delivered everywhere."""
        commit = replica.awaited or replica.commit
        return replica.lost(f"changes of commit {commit.number}, in partitions {replica.lacking(commit)}")
