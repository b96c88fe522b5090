"""The file of the state: its tables, how it is made, and how one of an older version is brought up to date."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from journal.alert_tables import alert_tables
from journal.audit_tables import audit_tables
from journal.evidence import SALT
from journal.history_table import history_table
from journal.lengths import with_logarithm
from journal.locks import ProcessLock
from journal.passages import passage_table
from journal.quarantine import COLUMNS
from journal.return_tables import return_tables
from journal.trouble import may_write, reading_uri, told
from pipeline.errors import JournalError, TerminalError

FILE = "state.db"
FORMAT = 3
_PATIENCE = 10.0  # seconds for another process's transaction
_MAKING = "state"  # the lock of who makes the file
_WAY_OUT = (
    "put the whole state folder back from a backup; or stop everything, move this one file away and start again: no change is lost,"
    " but what sinks have refused is not listed any more"
)

_tables = sa.MetaData()
source = sa.Table(
    "source",
    _tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)
sink = sa.Table(
    "sink",
    _tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("journal", sa.Text),
    sa.Column("seq", sa.BigInteger),
    sa.Column("cursor", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("updated_at", sa.Float, nullable=False),
)
# who asks and who answers write rows of their own, so that an answer cannot take away what was asked since
request = sa.Table(
    "copy_request",
    _tables,
    sa.Column("sink", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("requested_at", sa.Float, nullable=False),
)
done = sa.Table(
    "copy_done",
    _tables,
    sa.Column("sink", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("requested_at", sa.Float, nullable=False),  # of the request that is answered
    sa.Column("done_at", sa.Float, nullable=False),
)
_NUMBERS = {name: sa.BigInteger() for name in ("ordinal", "committed_at", "replay")} | {"attempts": sa.Integer(), "given": sa.Integer()}
_TIMES = {"resolved_at": sa.Float(), "quarantined_at": sa.Float(), "erased_at": sa.Float()}
refused = sa.Table(
    "refused",
    _tables,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("sink", sa.Text, nullable=False),
    sa.Column("journal", sa.Text, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    *(sa.Column(name, (_NUMBERS | _TIMES).get(name, sa.Text())) for name in COLUMNS if name != "id"),
    sa.Column(SALT, sa.LargeBinary),  # from the first step on; see evidence.py
    sa.Index("refused_by_cause", "sink", "dataset", "status", "cause"),
    sa.Index("refused_in_order", "ordinal", "id"),
    # what reports ask for is read in place of the records
    sa.Index("refused_by_time", "sink", "journal", "seq", "dataset", "status", "quarantined_at", "resolved_at", "committed_at", "ordinal"),
)
passed = passage_table(_tables)
alert, message = alert_tables(_tables)
history = history_table(_tables)
# what runs in a state folder: the locks that processes hold, as JSON, with the time at which they took them
folder = sa.Table(
    "folder",
    _tables,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("machine", sa.Text, nullable=False),
    sa.Column("running", sa.Text, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)
# what the process `watch` does again and again: how each of these did when it was done last
tick = sa.Table(
    "tick",
    _tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("ran_at", sa.Float),
    sa.Column("seconds", sa.Float),
    sa.Column("updated_at", sa.Float, nullable=False),
)
audits = audit_tables(_tables)
# what owners ask of who writes the journal, and the answers; see inbox.py
_ASKED = (("at", sa.Float), ("content", sa.Text))
asked = sa.Table("owner_request", _tables, sa.Column("id", sa.Text, primary_key=True), *(sa.Column(*c, nullable=False) for c in _ASKED))
answered = sa.Table("owner_answer", _tables, sa.Column("id", sa.Text, primary_key=True), *(sa.Column(*c, nullable=False) for c in _ASKED))
# how far the audit trail of a journal was when somebody looked: what is cut off of it is missed
head = sa.Table(
    "trail_head",
    _tables,
    sa.Column("journal", sa.Text, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
_watched = (history, tick, alert, message, *audits)
_owners = (asked, answered, head)
_back = return_tables(_tables)
SHARED = tuple(table.name for table in (source, sink, request, done, refused, passed, folder, *_watched, *_owners, *_back))
"""Tables that state folders of one pipeline share where its journal is in topics."""
own = sa.Table("own", _tables, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text))
"""What concerns this folder alone: see sharing.py."""
ID = "id"
"""In `own`: what this folder is called in `folder`."""


def connect(path: Path) -> sqlite3.Connection:
    """The file of a state that is there, for reading alone where its folder cannot be written. Raises JournalError for a newer version.

    Transactions begin by themselves with the first change, as SQLAlchemy wants it.
    """
    here = may_write(path.parent)
    address = path.absolute().as_uri() if here else reading_uri(path)
    connection = sqlite3.connect(address, uri=True, timeout=_PATIENCE, check_same_thread=False)
    try:
        connection.execute("pragma synchronous = full")
        version = _version(connection)
        if version > FORMAT:
            raise JournalError(
                f"{path} was made by a newer Sluice (format {version}, this one knows {FORMAT})", hint="upgrade this installation"
            )
        if here and (version < FORMAT or SALT not in _columns(connection, "refused")):
            _upgrade(connection)
    except BaseException:
        connection.close()
        raise
    return with_logarithm(connection)


def make(path: Path) -> None:
    """The file, unless it is there: whole, under another name, and then in its place."""
    if path.exists():
        return
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ProcessLock(path.parent, _MAKING, f"who makes {path}", _PATIENCE):
            if path.exists():
                return
            for suffix in ("-wal", "-shm"):  # the log of one that was moved away would be taken for this one's
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            try:
                with reported(path), closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
                    connection.execute("pragma journal_mode = wal")
                    connection.execute("begin")
                    _create(connection, *_tables.sorted_tables)
                    connection.execute(f"pragma user_version = {FORMAT}")
                    connection.execute("commit")
                with suppress(FileExistsError):
                    os.link(fresh, path)
            finally:
                fresh.unlink(missing_ok=True)
    except OSError as error:
        raise TerminalError(f"{path} cannot be made: {error.strerror}", hint="make the state folder writable") from error


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("pragma user_version").fetchone()[0]
    return version


def _create(connection: sqlite3.Connection, *tables: sa.Table) -> None:
    for table in tables:
        connection.execute(str(CreateTable(table, if_not_exists=True).compile(dialect=dialect())))
        for index in table.indexes:
            connection.execute(str(CreateIndex(index, if_not_exists=True).compile(dialect=dialect())))


def _upgrade(connection: sqlite3.Connection) -> None:
    """From 1, in which a request for a copy and its answer were one row, and some had no lines of passages; from 2, which lacked tables."""
    connection.execute("begin immediate")
    try:
        version = _version(connection)
        _create(connection, *_tables.sorted_tables)
        _add_columns(connection)
        if version == 1:
            connection.execute(
                "insert into copy_done select sink, dataset, requested_at, done_at from copy_request where done_at is not null"
            )
            connection.execute("alter table copy_request drop column done_at")
        connection.execute(f"pragma user_version = {FORMAT}")
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _add_columns(connection: sqlite3.Connection) -> None:
    """Columns that a table has got since it was made; all of them may be null."""
    for table in _tables.sorted_tables:
        there = _columns(connection, table.name)
        for column in table.columns:
            if column.name not in there:
                connection.execute(f'alter table "{table.name}" add column "{column.name}" {column.type.compile(dialect())}')


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {name for _, name, *_ in connection.execute(f'pragma table_info("{table}")')}


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turns an error of SQLite about the state's file into JournalError, TerminalError or TransientError."""
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if not isinstance(cause, sqlite3.Error) or not hasattr(cause, "sqlite_errorcode"):
            raise  # a mistake in the use of the library, not trouble with the file
        raise told(path, cause, _WAY_OUT) from error
