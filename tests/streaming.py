"""A replication stream of a test's own, and all that comes out of it row by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import SluiceError
from sources.postgres.position import lsn_number
from sources.postgres.stream import ReplicationStream, Resolve
from tests import pgoutput_session
from tests.fix_postgres import Database
from tests.pgoutput_reference import Change
from tests.pgoutput_session import Received
from tests.waiting import wait_for


def publish(database: Database, tables: str, *, slot: str | None = None, options: str = "") -> str:
    """A publication and a slot; slots are named over all databases of a server, so the name is the database's."""
    name = slot or database.name
    database.execute(f"CREATE PUBLICATION p FOR {tables} {options}", f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    return name


def position(database: Database) -> int:
    """Where the server's log ends now."""
    return _lsn(database, "SELECT pg_current_wal_insert_lsn()")


def confirmed(database: Database, slot: str) -> int:
    """What the server believes to be durable with us."""
    return _lsn(database, f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'")


# Seconds. A reader reports four times within it, so that the sessions of a test outlive that their machine stands still for 3.75 s.
PATIENCE = 5


def hurry(database: Database) -> None:
    """Sessions that begin from now on are ended by the server when it has not heard of us for PATIENCE."""
    database.execute(f"ALTER DATABASE {database.name} SET wal_sender_timeout = '{PATIENCE}s'")


def _lsn(database: Database, query: str) -> int:
    with database.connect(client_encoding="UTF8") as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return lsn_number(row[0])


class Follower:
    """Takes what a stream gives."""

    def __init__(
        self,
        database: Database,
        slot: str,
        folder: Path,
        *,
        start: int | None = None,
        dsn: str | None = None,
        publication: str = "p",
        resolve: Resolve = pgoutput_session.resolve,
        **options: Any,
    ) -> None:
        self.database = database
        self.slot = slot
        self.received = Received()
        self.stream = ReplicationStream(
            dsn or database.dsn,
            slot,
            publication,
            confirmed(database, slot) if start is None else start,
            resolve=resolve,
            source="shop",
            spool=folder,
            **options,
        )

    def __enter__(self) -> Follower:
        self.stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def catch_up(self, *, confirm: bool = False) -> Received:
        """Takes all that is committed now."""
        target = position(self.database)
        return self.until(lambda: (self.received.last_end or 0) >= target, confirm=confirm)

    def until(self, condition: Callable[[], object], *, confirm: bool = False) -> Received:
        """Takes until the condition holds."""

        def done() -> bool:
            stretch = self.stream.take(0.05)
            if stretch is not None:
                self.received.add(stretch)
                if confirm and stretch.end is not None:
                    self.stream.confirm(stretch.end)
            return bool(condition())

        wait_for(done, message=lambda: f"more than {self.summary()}")
        return self.received

    def until_broken(self) -> SluiceError:
        """Takes until the stream raises, and returns what."""
        found: list[SluiceError] = []

        def broken() -> bool:
            try:
                stretch = self.stream.take(0.05)
            except SluiceError as error:
                found.append(error)
                return True
            if stretch is not None:
                self.received.add(stretch)
            return False

        wait_for(broken, message="the stream to break")
        return found[0]

    def summary(self) -> dict[str, int]:
        return {table: len(rows) for table, rows in self.received.changes.items()}

    def table(self, name: str) -> list[Change]:
        """The changes of a table of `public` so far."""
        return self.received.changes.get(f"public.{name}", [])

    def wait_for_reply(self) -> None:
        """Until the walsender has heard from us once more."""
        query = f"SELECT reply_time FROM pg_stat_replication WHERE pid = {self.walsender()}"
        before = self.database.rows(query)
        wait_for(lambda: self.database.rows(query) not in (before, []), message="feedback")

    def outlive_patience(self, *, taking: bool) -> None:
        """Until the same walsender, after hurry(), has heard from us later than it would have waited if we had fallen silent now."""
        began = self.database.rows("SELECT clock_timestamp()::text")[0][0]
        query = f"SELECT reply_time > '{began}'::timestamptz + '{PATIENCE}s' FROM pg_stat_replication WHERE pid = {self.walsender()}"

        def heard() -> bool:
            answers = self.database.rows(query)
            assert answers, "the server has ended the session"
            return bool(answers[0][0])

        if taking:
            self.until(heard)
        else:
            wait_for(heard, message="feedback")

    def walsender(self) -> int:
        """The pid of the server's process behind this stream."""
        pid = wait_for(
            lambda: self.database.rows(f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{self.slot}'")[0][0],
            message="the slot to be active",
        )
        return int(pid)
