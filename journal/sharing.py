"""The rows that the state folders of a pipeline share: which of them have changed in this one, and what others have told.

Triggers note in the file itself, in the transaction of each change, which row it was; so whoever writes needs to know nothing of this, and
nothing is forgotten when it dies. Of two who write one row the one counts that is later in the topic, and all folders come to hold that.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from journal import state_file
from journal.changelog import EVENTS, Rows, key_of, name_of
from journal.trouble import transaction

log = structlog.get_logger("sluice.journal")

_RETOLD = ("source", "sink", "folder")
"""Tables whose rows are written every few seconds by the process that they are about."""
_FORGOTTEN = 86_400.0  # seconds after which a folder that says nothing is not listed any more
_NOT_A_ROW = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE)
_CHANGED = """
create table if not exists changed (
    version integer primary key autoincrement, place text not null, name text not null, unique (place, name))
"""


class Told(NamedTuple):
    """A row as a folder told it. `session` and `version` are its own words for when."""

    name: bytes
    content: bytes | None
    folder: str
    session: str
    version: int


class Change(NamedTuple):
    """A row that has changed here and that nobody has heard of yet; no content for one that is gone."""

    version: int
    name: bytes
    content: bytes | None


class Place(NamedTuple):
    """How far a topic has been read, `at` (seconds since 1970): before `told` everything has been taken; `next` is where to go on, as rows
    may come in pieces."""

    topic: str
    next: int
    told: int
    at: float


class SharedRows:
    """One file, made where it is missing. One thread at a time. Raises as State does."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / state_file.FILE
        self.session = uuid.uuid4().hex[:12]
        self._misunderstood = False
        state_file.make(self._path)
        with state_file.reported(self._path):
            self._db = state_file.connect(self._path)
            try:
                self._db.isolation_level = None
                self._db.execute("pragma synchronous = normal")  # what a power cut takes is read, or told, again
                self._rows = Rows(self._db, state_file.SHARED)
                with self._writing():
                    self.folder = self._identity(folder)
                    self._listen()
                    self._left_over = self._last_version()
            except BaseException:
                self._db.close()
                raise

    def _identity(self, folder: Path) -> str:
        """The folder's id, another one where it was copied to another machine or path."""
        where = f"{socket.gethostname()}:{folder.resolve()}"
        own = dict(self._db.execute("select name, value from own"))
        if own.get("where") != where:
            own = {state_file.ID: uuid.uuid4().hex, "where": where}
            self._db.executemany("insert or replace into own values (?, ?)", list(own.items()))
        return str(own[state_file.ID])

    def _listen(self) -> None:
        """Notes changes from now on; what is there already has changed."""
        self._db.execute(_CHANGED)
        known = {name for (name,) in self._db.execute("select name from sqlite_master where type = 'trigger'")}
        for table, key in self._rows.keys.items():
            if f"changed_{table}_insert" in known:
                continue
            for event, sides in EVENTS.items():
                noted = " ".join(_trigger(table, key_of(key, side)) for side in sides)
                self._db.execute(f"create trigger changed_{table}_{event} after {event} on {table} begin {noted} end")
            self._note_all(table, ())

    def _names(self, table: str) -> list[bytes]:
        found = self._db.execute(f"select {key_of(self._rows.keys[table], 'it')} from {table} it")
        return [name_of(table, key) for (key,) in found.fetchall()]

    def _note_all(self, table: str, but: Collection[bytes]) -> None:
        for name in self._names(table):
            if name not in but:
                self._note(name)

    def _note(self, name: bytes) -> None:
        self._db.execute("insert or ignore into changed (place, name) values (?, ?)", _parts(name))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with state_file.reported(self._path), transaction(self._db):
            yield

    def _last_version(self) -> int:
        found = self._db.execute("select seq from sqlite_sequence where name = 'changed'").fetchone()
        return 0 if found is None else int(found[0])

    @property
    def place(self) -> Place | None:
        """How far a topic has been read; None before the first one has been."""
        with state_file.reported(self._path):
            own = dict(self._db.execute("select name, value from own"))
        return Place(own["topic"], int(own["next"]), int(own["told"]), float(own["at"])) if "topic" in own else None

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """What has changed here since version `after`, in order."""
        with state_file.reported(self._path):
            found = self._db.execute("select version, place, name from changed where version > ? order by version limit ?", (after, limit))
            return [
                Change(version, name_of(table, key), self._rows.content(table, json.loads(key))) for version, table, key in found.fetchall()
            ]

    @property
    def open(self) -> bool:
        """Whether anything has changed here that has not been heard of in the topic."""
        with state_file.reported(self._path):
            return self._db.execute("select 1 from changed limit 1").fetchone() is not None

    def take(self, rows: Sequence[Told], place: Place | None = None) -> None:
        """Takes what folders, this one too, have told, in the topic's order; with the place that is then reached."""
        with self._writing():
            before = self._last_version()
            again = [told for told in rows if not self._take(told, before)]
            self._db.execute("delete from changed where version > ?", (before,))  # it has not changed here
            for told in again:
                self._note(told.name)
            if place is not None:
                self._keep(place)

    def _take(self, told: Told, before: int) -> bool:
        """Returns whether what is here now need not be told."""
        table, key = _parts(told.name)
        found = self._db.execute(
            "select version from changed where place = ? and name = ? and version <= ?", (table, key, before)
        ).fetchone()
        if found is not None:
            if told.folder == self.folder:
                if (told.session, told.version) == (self.session, found[0]):
                    self._db.execute("delete from changed where version = ?", found)
                return True
            if table not in _RETOLD or found[0] > self._left_over:
                return True  # what has changed here comes later in the topic
            self._db.execute("delete from changed where version = ?", found)
        try:
            if self._answered(table, key, told.content):
                return False
            self._rows.put(told.name, told.content)
        except (ValueError, TypeError, msgspec.DecodeError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _NOT_A_ROW:
                raise
            if not self._misunderstood:
                log.warning(
                    "what another machine says of itself is not understood: has it another version?", row=told.name, error=str(error)
                )
            self._misunderstood = True
        return True

    def _answered(self, table: str, key: str, content: bytes | None) -> bool:
        """Whether this is a request that has been answered, while another one is open here: that must not get lost."""
        if table != state_file.request.name or content is None:
            return False
        sink, dataset, requested_at = msgspec.msgpack.decode(content)
        answer = self._db.execute("select requested_at from copy_done where sink = ? and dataset = ?", (sink, dataset)).fetchone()
        here = self._db.execute("select requested_at from copy_request where sink = ? and dataset = ?", (sink, dataset)).fetchone()
        return here is not None and here != answer and answer == (requested_at,)

    def adopt(self, place: Place, names: Collection[bytes]) -> None:
        """Another topic than before is the one that counts. It has these rows; what else is here has to be told."""
        with self._writing():
            for table in self._rows.keys:
                self._note_all(table, names)
            self._left_over = self._last_version()
            self._keep(place)

    def keep_only(self, place: Place, names: Collection[bytes]) -> None:
        """A topic that is too old to say so has only these rows: others are gone, but for what has changed here."""
        with self._writing():
            before = self._last_version()
            for name in [name for table in self._rows.keys for name in self._names(table)]:
                known = self._db.execute("select 1 from changed where place = ? and name = ?", _parts(name)).fetchone()
                if name not in names and known is None:
                    self._rows.put(name, None)
            self._db.execute("delete from changed where version > ?", (before,))
            self._keep(place)

    def _keep(self, place: Place) -> None:
        self._db.executemany("insert or replace into own values (?, ?)", [(name, str(value)) for name, value in place._asdict().items()])

    def tell_running(self, running: Mapping[str, float]) -> None:
        """Which locks processes hold in this folder, and since when; forgets folders that have said nothing for long."""
        now = time.time()
        row = (self.folder, socket.gethostname(), json.dumps(running), now)
        with self._writing():
            self._db.execute("insert or replace into folder values (?, ?, ?, ?)", row)
            self._db.execute("delete from folder where updated_at < ?", (now - _FORGOTTEN,))

    def close(self) -> None:
        self._db.close()


def _trigger(table: str, key: str) -> str:
    """The statements of a trigger: a row that changes again is the newest change."""
    row = f"place = '{table}' and name = {key}"
    return f"delete from changed where {row}; insert into changed (place, name) values ('{table}', {key});"


def _parts(name: bytes) -> tuple[str, str]:
    table, _, key = name.decode("utf-8", "replace").partition(" ")
    return table, key
