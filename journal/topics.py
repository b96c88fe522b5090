"""The topics of a journal: what they are called, how they are made, and what is asked about them."""

from __future__ import annotations

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
        return self._checked(changes), state

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
            self._checked(changes)
        made = [] if changes is not None else [f"create topic {self.names.changes} ({self._partitions} partitions)"]
        others = [name for name in (self.names.state, self.names.status) if self.ask.find(name) is None]
        return [*made, *(f"create topic {name} (1 partition, compacted)" for name in others)]

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
        message = f"the topic {self.names.changes} lacks changes of commit {commit.number}, in partitions {replica.lacking(commit)}"
        return JournalError(message, hint="they are lost: start over with `sluice resync`")
