"""Where a commit of the journal has to be before it counts: in topics, in one transaction.

The file in the state folder is a copy. A commit is in the topics first, then in the file; a process that dies in between reads it back when
it starts again. Who begins to publish fences off whoever did before it.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import structlog

from journal.changelog import Changelog
from journal.kafka_feed import Feed
from journal.kafka_hanging import end_hanging
from journal.kafka_link import Link
from journal.kafka_messages import COMMIT, PRUNED, Commit, TopicNames, entry_messages, row_messages
from journal.kafka_reading import Reader
from journal.kafka_topics import Topic, Topics
from journal.replica import Place, Replica
from pipeline.errors import JournalError, SluiceError, TerminalError, TransientError
from pipeline.kafka_options import revealed
from pipeline.model import KafkaJournal

log = structlog.get_logger("sluice.journal")

CHANGES_SETTINGS: Mapping[str, str] = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
STATE_SETTINGS: Mapping[str, str] = {"cleanup.policy": "compact", "segment.bytes": str(16 << 20), "min.cleanable.dirty.ratio": "0.1"}
STATUS_SETTINGS: Mapping[str, str] = {**STATE_SETTINGS, "delete.retention.ms": "2592000000"}
_PATIENCE = 120.0  # seconds for which brokers that are away are waited for with a commit in hand
_MARK_EVERY = 5.0
_SLOW = 1.0  # seconds after which a commit that is not through is told of
_IDS = uuid.UUID("6b7d4d0c-3c1e-4b8e-9d54-52a0f3a6b1de")
_COLUMNS = "seq, stream, kind, rows, bytes, op, lsn, nth, time, ordinal, committed, age, payload"


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
        return self.ask.make(self.names.status, 1, STATUS_SETTINGS)

    def find(self) -> tuple[Topic, Topic] | None:
        """The same; None where ingest has not made them yet."""
        changes, state = self.ask.find(self.names.changes), self.ask.find(self.names.state)
        return None if changes is None or state is None else (self._checked(changes), state)

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
        import msgspec

        found = Reader(self.options, self.group, self.who).last(self.names.state, ends[self.names.state, 0])
        return None if found is None else Commit.decode(msgspec.msgpack.decode(found)[1])

    def catch_up(self, replica: Replica, topics: tuple[Topic, Topic], ends: Mapping[Place, int]) -> None:
        """Reads what a file lacks. Raises JournalError where the topics do not hold it any more."""
        places = replica.places(topics)
        behind = {place: end for place, end in ends.items() if end > places[place]}
        if behind:
            feed = Feed(self.options, self.group, self.who, {place: places[place] for place in behind})
            try:
                feed.until(behind, replica.take)
            finally:
                feed.close()
        if replica.awaited is not None:
            raise self.lost(replica)

    def lost(self, replica: Replica) -> JournalError:
        """Entries are gone that have not been delivered everywhere."""
        commit = replica.awaited or replica.commit
        message = f"the topic {self.names.changes} lacks changes of commit {commit.number}, in partitions {replica.lacking(commit)}"
        return JournalError(message, hint="they are lost: start over with `sluice resync`")


class Publisher:
    """Ingest's end of the topics. One thread at a time, but for `trouble`."""

    def __init__(self, kafka: KafkaJournal, pipeline: str) -> None:
        """Makes the topics where they are missing, and fences off any older publisher. Raises Refused, TransientError, TerminalError."""
        self.partitions = kafka.partitions
        self._topics = JournalTopics(kafka, pipeline)
        self._pair = self._topics.make()
        self.id = self._topics.id(self._pair[1])
        alone = "only one ingest may write it: stop one of them"
        self._link = Link(self._topics.options, f"{self._topics.group}.ingest", self._topics.who, alone=alone, patience=_PATIENCE)
        self._waiting_since: float | None = None
        self._broken: SluiceError | None = None
        self._ahead = False  # of the file, between its commit and that of the topics
        self._marks: list[tuple[int, Mapping[int, int]]] = []
        self._mark_at = 0.0
        self._marked = 0
        try:
            self._link.connect()
            for topic in self._pair:
                partitions = end_hanging(self._link, self._topics.ask, topic, self._topics.who)
                if partitions:
                    log.warning("a transaction without an end is aborted", topic=topic.name, partitions=partitions)
            self._ends = self._topics.ends(self._pair)
        except BaseException:
            self._link.close()
            raise

    def fill(self, db: sqlite3.Connection, path: Path) -> None:
        """Makes a new file like the topics."""
        replica = Replica(db, path, self._topics.names)
        replica.check(self._pair)
        self._topics.catch_up(replica, self._pair, self._ends)

    def begin(self, db: sqlite3.Connection, path: Path) -> None:
        """Makes a file like the topics, and the topics like the file in what they have lost of its commits."""
        self._db = db
        self._replica = Replica(db, path, self._topics.names)
        newest = self._topics.newest(self._ends)
        if newest is None:
            self._replica.forget_topics()
        self._replica.check(self._pair)
        self._refuse_foreign(newest, path)
        for (topic, partition), place in self._replica.places(self._pair).items():
            if place > self._ends[topic, partition]:  # brokers that came up without what they had answered for
                self._replica.seen[partition] = self._replica.pruned
        self._topics.catch_up(self._replica, self._pair, self._ends)
        self._changelog = Changelog(db)
        self._parts = dict(self._replica.commit.parts)
        kept = self._replica.commit
        lost = [partition for partition, seq in self._parts.items() if seq > self._replica.seen.get(partition, 0)]
        if newest is None or newest.number < kept.number or lost:
            if kept.number:
                log.warning(
                    "the topics have lost commits, which are published again", commits=kept.number - (newest.number if newest else 0)
                )
            with self._replica.writing():
                self._changelog.everything()
                self._publish(db, [self._replica.seen.get(partition, self._replica.pruned) for partition in self._pair[0].partitions])
        with self._replica.writing():
            self._mark()

    def _refuse_foreign(self, newest: Commit | None, path: Path) -> None:
        """A file that has been written without topics can be published into empty ones, and into no others."""
        began = self._db.execute("select 1 from position").fetchone() is not None
        if newest is not None and not self._replica.commit.number and began:
            raise JournalError(
                f"{path} is a journal of its own, and the topic {self._topics.names.state} holds another",
                hint="name another folder with `state:`, or another `prefix` under `journal`",
            )

    def publish(self, db: sqlite3.Connection) -> None:
        """Puts what the open transaction of the file has changed into the topics. Raises TransientError, AlreadyRunningError, Refused.

        After an error it is not known whether it is there: only a new publisher can go on.
        """
        if self._broken is not None:
            raise self._broken
        self._waiting_since = time.monotonic()
        try:
            self._publish(db, [self._replica.commit.seq] * self.partitions)
            self._ahead = True
        except SluiceError as error:
            self._broken = error
            raise
        finally:
            self._waiting_since = None

    def _publish(self, db: sqlite3.Connection, after: list[int]) -> None:
        """`after`: by partition, the last entry that is there already."""
        link, names = self._link, self._topics.names
        link.begin()
        found = db.execute(
            f"select coalesce(stream.partition, 0), {', '.join(f'entry.{name}' for name in _COLUMNS.split(', '))} from entry"
            " join stream on stream.id = entry.stream where entry.seq > ? order by entry.seq",
            (min(after),),
        )
        parts = dict(self._parts)
        for partition, *numbers, payload in found:
            if numbers[0] > after[partition]:
                for key, value, headers in entry_messages(tuple(numbers), payload):
                    link.send(names.changes, [key], [value], [headers], partition)
                parts[partition] = max(numbers[0], parts.get(partition, 0))
        commit = Commit(self._replica.commit.number + 1, uuid.uuid4().hex[:8], max([self._replica.commit.seq, *parts.values()]), parts)
        db.execute("insert or replace into kept values ('commit', ?)", (commit.encode(),))
        for name, content in self._changelog.rows():
            if name != COMMIT:
                self._send_row(name, content)
        self._send_row(COMMIT, self._changelog.row("kept", ["commit"]))
        link.commit()
        self._changelog.forget()
        self._parts, self._replica.commit = parts, commit

    def _send_row(self, name: bytes, content: bytes | None) -> None:
        for key, value, headers in row_messages(name, content):
            self._link.send(self._topics.names.state, [key], [value], [headers], 0)

    def followed(self) -> None:
        """The file has committed what was published."""
        self._ahead = False

    def abandon(self) -> None:
        """Nothing of a transaction that was not published stays."""
        if self._broken is None and (self._ahead or not self._link.abort()):
            self._broken = TransientError(f"{self._topics.who} has to be opened again")

    @property
    def trouble(self) -> str | None:
        """Why a commit has been waiting for a while; None where none has. Any thread."""
        since = self._waiting_since
        if since is None or time.monotonic() - since < _SLOW:
            return None
        return f"{self._topics.who}: {self._link.trouble or 'no broker answers'}"

    def tend(self, db: sqlite3.Connection) -> None:
        """Now and then, inside the open transaction: tells the topics what the file has forgotten, and the file how far the topics are."""
        now = time.monotonic()
        if now < self._mark_at:
            return
        self._mark_at = now + _MARK_EVERY
        first = db.execute("select min(seq) from entry").fetchone()[0]
        pruned = self._replica.commit.seq if first is None else first - 1
        if pruned > self._replica.pruned:
            db.execute("insert or replace into kept values (?, ?)", (PRUNED, pruned))
            self.publish(db)
            self._replica.pruned = pruned
        if self._replica.commit.number == self._marked:
            return
        try:
            self._mark()
            self._forget()
        except SluiceError as error:  # for the next time
            log.info("the journal's topics were not tidied up", error=error.message, hint=error.hint)

    def _mark(self) -> None:
        """What a process that starts again need not read."""
        changes, state = self._pair
        ends = {topic.name: self._topics.ask.settled(topic) for topic in self._pair}
        for topic in (changes, state):
            for partition, end in ends[topic.name].items():
                self._replica.keep_place(topic.name, partition, end, self._parts.get(partition, 0) if topic is changes else 0)
        self._marks.append((self._replica.commit.seq, ends[changes.name]))
        self._marked = self._replica.commit.number

    def _forget(self) -> None:
        """Deletes messages before the last mark up to which everything has been forgotten."""
        done = [ends for seq, ends in self._marks if seq <= self._replica.pruned]
        self._marks = [mark for mark in self._marks if mark[0] > self._replica.pruned]
        if done:
            self._topics.ask.forget(self._pair[0], done[-1])

    def close(self) -> None:
        self._link.abort()
        self._link.close()
