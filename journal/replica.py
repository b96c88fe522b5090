"""The journal's tables in a state folder, kept as its topics say.

Entries come before the commit that they belong to, and do not count until it is there: readers look no further than the position. Each step
is one transaction of the file, and says how far the topics have been read.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog
from confluent_kafka import Message

from journal.changelog import Rows, name_of
from journal.kafka_messages import COMMIT, PRUNED, Commit, TopicNames, Whole, pieces_of
from journal.kafka_topics import Topic
from journal.trouble import reported, transaction
from pipeline.errors import JournalError

log = structlog.get_logger("sluice.journal")

_REPLICA = """
create table if not exists replica (
    topic text not null, id text not null, partition integer not null, next integer not null, seq integer not null, at real not null,
    primary key (topic, partition)) without rowid
"""
_PIECES = "create table if not exists pieces (name blob primary key, many integer not null) without rowid"
DELETED_SECONDS = 7 * 86_400
"""For how long the topic of state tells that a row is gone."""
_ENTRY = "insert or replace into entry values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PRUNED = name_of("kept", f'["{PRUNED}"]')
_WAY_OUT = "stop everything, move the state folder's journal.db away and start: it is made anew of what the topics hold"
LOST = (
    "the folder where ingest ran last may hold it still: start there; without one, delete both topics and every copy (journal.db),"
    " and start over with `sluice resync`"
)

Place = tuple[str, int]


class _Awaited(NamedTuple):
    """A commit whose entries have not all come yet, and the rows that it changes."""

    commit: Commit
    rows: Sequence[tuple[bytes, bytes | None]]


class Replica:
    """One file. One thread at a time."""

    def __init__(self, db: sqlite3.Connection, path: Path, names: TopicNames) -> None:
        self._db = db
        self._path = path
        self._names = names
        with reported(path):
            db.execute("pragma synchronous = normal")  # what a power cut takes is read again
            db.execute(_REPLICA)
            db.execute(_PIECES)
        self._apply = Rows(db).put
        self._whole: dict[Place, Whole] = {}
        self._rows: list[tuple[bytes, bytes | None]] = []
        self._awaited: list[_Awaited] = []
        self._begun: dict[Place, int] = {}
        self.load()

    def load(self) -> None:
        """What is kept in memory, as the file has it."""
        with reported(self._path):
            found = self._db.execute("select topic, partition, next, seq, id, at from replica").fetchall()
            self.next: dict[Place, int] = {(topic, partition): offset for topic, partition, offset, *_ in found}
            self.seen = {partition: seq for topic, partition, _, seq, *_ in found if topic == self._names.changes}
            self.ids = {topic: number for topic, *_, number, _ in found}
            self._at = max((at for *_, at in found), default=0.0)
            self.pieces: dict[bytes, int] = dict(self._db.execute("select name, many from pieces").fetchall())
            kept = dict(self._db.execute("select name, value from kept where name in ('commit', ?)", (PRUNED,)))
        self.commit = Commit.decode(kept["commit"]) if "commit" in kept else Commit(0, "", 0, {})
        self.pruned: int = kept.get(PRUNED, 0)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction of the file; after an error nothing of it stays."""
        with reported(self._path), transaction(self._db):
            yield

    def take(self, messages: Sequence[Message]) -> bool:
        """Takes messages, of each partition in its order. Returns whether a commit has become whole. Raises JournalError."""
        if not messages:
            return False
        before = self.commit.number
        with self.writing():
            for message in messages:
                self._take(message)
            self._settle()
            self._keep_places()
        return self.commit.number > before

    def _take(self, message: Message) -> None:
        topic, partition, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
        place = (topic, partition)
        try:
            whole = self._whole.setdefault(place, Whole())(message)
            if whole is None:
                self._begun.setdefault(place, offset)
                return
            self._begun.pop(place, None)
            key, value, numbers = whole
            if topic == self._names.changes and numbers is not None:
                self._take_entry(partition, numbers, value or b"")
            elif topic == self._names.state and key is not None:
                self._take_row(key, value)
        except (ValueError, TypeError, msgspec.DecodeError, sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
            raise JournalError(
                f"{topic}, partition {partition}, offset {offset}: this is not of a journal: {error}", hint=_WAY_OUT
            ) from error
        self.next[place] = offset + 1

    def _take_entry(self, partition: int, numbers: tuple[Any, ...], payload: bytes) -> None:
        seq = int(numbers[0])
        if seq > self.pruned:
            self._db.execute(_ENTRY, (*numbers, payload))
        self.seen[partition] = max(seq, self.seen.get(partition, 0))

    def _take_row(self, key: bytes, value: bytes | None) -> None:
        if key == _PRUNED and value is not None:  # what comes before it need not be waited for
            self.pruned = max(self.pruned, msgspec.msgpack.decode(value)[1])
        if key != COMMIT:
            self._rows.append((key, value))
            return
        if value is None:
            raise ValueError("a commit is gone")
        commit = Commit.decode(msgspec.msgpack.decode(value)[1])
        if commit.number > self.commit.number:
            self._awaited.append(_Awaited(commit, [*self._rows, (key, value)]))
            self._rows.clear()
        elif commit.number == self.commit.number and commit.id != self.commit.id:
            raise JournalError(
                f"{self._path} has commits that {self._names.state} has lost, and another process has gone on from there", hint=_WAY_OUT
            )
        else:
            self._rows.clear()  # of what the file has already

    def _settle(self) -> None:
        while self._awaited and not self.lacking(self._awaited[0].commit):
            commit, rows = self._awaited.pop(0)
            for name, content in rows:
                self._apply(name, content)
                self.keep_pieces(name, pieces_of(content))
            if any(name == _PRUNED for name, _ in rows):
                self._db.execute("delete from entry where seq <= ?", (self.pruned,))
            self._refuse_gap(commit)
            self.commit = commit

    def _refuse_gap(self, commit: Commit) -> None:
        """Entries count without a gap: what brokers have deleted by themselves shows, wherever in a partition it was.

        Where what is there begins, the sinks look: one that has not come so far gets a copy from the source.
        """
        before = max(self.commit.seq, self.pruned)
        if commit.seq > before:
            oldest = self._db.execute("select min(seq) from entry").fetchone()[0]
            if oldest is None or oldest > before + 1:
                oldest = commit.seq + 1 if oldest is None else min(oldest, commit.seq + 1)
                log.warning("the topics have lost what was oldest", topic=self._names.changes, entries=oldest - before - 1)
                before = oldest - 1
            there = self._db.execute("select count(*) from entry where seq > ? and seq <= ?", (before, commit.seq)).fetchone()[0]
            if there != commit.seq - before:
                raise self.lost(f"{commit.seq - before - there} entries up to commit {commit.number}")

    def lost(self, what: str) -> JournalError:
        """The topics do not hold any more what has not been delivered everywhere."""
        return JournalError(f"the topic {self._names.changes} has lost {what}", hint=LOST)

    def keep_pieces(self, name: bytes, many: int) -> None:
        """In how many messages a row is in the topic, inside the open transaction."""
        if many > 1:
            self._db.execute("insert or replace into pieces values (?, ?)", (name, many))
            self.pieces[name] = many
        elif self.pieces.pop(name, None) is not None:
            self._db.execute("delete from pieces where name = ?", (name,))

    def lacking(self, commit: Commit) -> list[int]:
        """Partitions in which entries of a commit have not come yet."""
        return [partition for partition, seq in commit.parts.items() if seq > max(self.seen.get(partition, 0), self.pruned)]

    @property
    def awaited(self) -> Commit | None:
        """The commit whose entries have not all come."""
        return self._awaited[0].commit if self._awaited else None

    def _keep_places(self) -> None:
        """Rows that wait for their commit are read again by whoever goes on, as are messages whose last piece has not come."""
        next_ = {**self.next, **self._begun}
        if self._awaited or self._rows:
            next_.pop((self._names.state, 0), None)
        for (topic, partition), offset in next_.items():
            self.keep_place(topic, partition, offset, self.seen.get(partition, 0) if topic == self._names.changes else 0)

    def keep_place(self, topic: str, partition: int, offset: int, seq: int) -> None:
        """How far a partition has been read, inside the open transaction."""
        self.next[topic, partition] = offset
        row = (topic, self.ids.get(topic, ""), partition, offset, seq, time.time())
        self._db.execute("insert or replace into replica values (?, ?, ?, ?, ?, ?)", row)

    def outdated(self, newest: Commit | None) -> bool:
        """Whether the topics have gone on for so long that they may not tell any more what has been deleted since."""
        behind = newest is not None and 0 < self.commit.number < newest.number
        return behind and time.time() - self._at > DELETED_SECONDS / 2

    def check(self, topics: Sequence[Topic]) -> None:
        """Whether the file is a copy of these topics, which a new one becomes. Raises JournalError."""
        for topic in topics:
            known = self.ids.setdefault(topic.name, topic.id)
            if known and topic.id and known != topic.id:
                raise JournalError(
                    f"the topic {topic.name} is another one than that of which {self._path} is a copy: it was deleted and made again",
                    hint=_WAY_OUT,
                )

    def forget_topics(self) -> None:
        """Takes topics for new ones, which hold nothing of what the file has."""
        self.ids.clear()
        self.next.clear()
        self.seen.clear()

    def places(self, topics: Sequence[Topic]) -> Mapping[Place, int]:
        """Where to read on in each partition."""
        return {(topic.name, partition): self.next.get((topic.name, partition), 0) for topic in topics for partition in topic.partitions}
