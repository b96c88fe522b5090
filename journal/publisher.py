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

from journal import store
from journal.changelog import Changelog
from journal.kafka_hanging import end_hanging
from journal.kafka_link import Link
from journal.kafka_messages import COMMIT, PRUNED, Commit, entry_messages, pieces_of, row_messages
from journal.replica import Replica
from journal.topics import JournalTopics
from pipeline.errors import JournalError, SluiceError, TransientError
from pipeline.model import KafkaJournal

log = structlog.get_logger("sluice.journal")

_PATIENCE = 120.0  # seconds for which brokers that are away are waited for with a commit in hand
_MARK_EVERY = 5.0
_SLOW = 1.0  # seconds after which a commit that is not through is told of
_ENTRIES = """
select coalesce(stream.partition, 0), entry.seq, entry.stream, entry.kind, entry.rows, entry.bytes, entry.op, entry.lsn, entry.nth,
    entry.time, entry.ordinal, entry.committed, entry.age, entry.payload
from entry join stream on stream.id = entry.stream where entry.seq > ? order by entry.seq
"""


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

    def drop_outdated(self, folder: Path, pipeline: str) -> None:
        """Removes a file that the topics can only make anew."""
        self._topics.drop_outdated(folder, pipeline, self._ends)

    def fill(self, db: sqlite3.Connection, path: Path) -> None:
        """Makes a new file like the topics."""
        self._topics.copy(db, path, self._pair, self._ends)

    def begin(self, db: sqlite3.Connection, path: Path) -> None:
        """Makes a file like the topics, and the topics like the file in what they have lost of its commits."""
        self._replica = Replica(db, path, self._topics.names)
        newest = self._topics.newest(self._ends)
        if newest is None:
            self._replica.forget_topics()
        self._replica.check(self._pair)
        self._refuse_foreign(db, newest, path)
        for (topic, partition), place in self._replica.places(self._pair).items():
            if place > self._ends[topic, partition]:  # brokers that came up without what they had answered for
                self._replica.seen[partition] = self._replica.pruned
        self._topics.catch_up(self._replica, self._pair, self._ends)
        self._changelog = Changelog(db)
        self._parts = dict(self._replica.commit.parts)
        kept = self._replica.commit
        lost = self._replica.lacking(kept)
        if newest is None or newest.number < kept.number or lost:
            if kept.number:
                log.warning(
                    "the topics have lost commits, which are published again", commits=kept.number - (newest.number if newest else 0)
                )
            with self._replica.writing():
                self._changelog.everything()
                self._replica.pruned = max(self._replica.pruned, self._note_pruned(db))
                self._publish(db, [self._replica.seen.get(partition, self._replica.pruned) for partition in self._pair[0].partitions])
        with self._replica.writing():
            self._mark()

    def _refuse_foreign(self, db: sqlite3.Connection, newest: Commit | None, path: Path) -> None:
        """A file that has been written without topics can be published into empty ones, and into no others."""
        began = db.execute("select 1 from position").fetchone() is not None
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
        parts = dict(self._parts)
        for partition, *numbers, payload in db.execute(_ENTRIES, (min(after),)):
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
        for key, value, headers in row_messages(name, content, self._replica.pieces.get(name, 1)):
            self._link.send(self._topics.names.state, [key], [value], [headers], 0)
        self._replica.keep_pieces(name, pieces_of(content))

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
        if (pruned := self._note_pruned(db)) > self._replica.pruned:
            self.publish(db)
            self._replica.pruned = pruned
        if self._replica.commit.number == self._marked:
            return
        try:
            self._mark()
            self._forget()
        except SluiceError as error:  # for the next time
            log.info("the journal's topics were not tidied up", error=error.message, hint=error.hint)

    def _note_pruned(self, db: sqlite3.Connection) -> int:
        """Inside the open transaction: the newest entry that the file has forgotten, which it keeps where that is news."""
        first = db.execute("select min(seq) from entry").fetchone()[0]
        pruned: int = store.last_seq(db) if first is None else first - 1
        if pruned > self._replica.pruned:
            db.execute("insert or replace into kept values (?, ?)", (PRUNED, pruned))
        return pruned

    def _mark(self) -> None:
        """What a process that starts again need not read."""
        changes, state = self._pair
        ends = {topic.name: self._topics.ask.committed(topic) for topic in self._pair}
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
