"""The journal's file: what is in it, how it is made, and how it is opened.

One SQLite database in WAL mode. Only the writer changes it; everybody else opens it for reading.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from journal import contracts, evidence, lookups, quarantine, sitting, trends, waiting
from journal.trouble import damaged, reading_uri, reported
from pipeline.errors import JournalError, TerminalError

FILE = "journal.db"
FORMAT = 3  # from 2 on entries may have trace contexts and partitions, from 3 on be replayed, which an older program would misread
CHANGES, MARKER, REPLAYED = 0, 1, 2  # kinds of entries; what is replayed has the ordinals that it had before
_APPLICATION = 0x51CE1  # marks the file as ours (see `file` and SQLite's application_id)
_PAGE = 16384
_CACHE_KIB = 8192

# entry      what sinks read, in order. `seq` counts from 1 without a gap. `committed` (microseconds, wall clock) and `age` (seconds of the
#            journal's own clock) are set where a commit of ingest ends, and nowhere else. A marker's payload is JSON.
# stream     one sequence of entries under one schema: table of a source, the sink it is meant for, and its partition (see partition.py)
# held       changes of tables under copy, or stopped by their contract, laid down as entries are
# position   the watermark of each source, empty where it is to begin anew; and where the journal stood when the source committed last, of
#            which the furthest counts: one row, so that a small commit touches one page for all of it
# tables     what is known of a source's tables: the newest schema, and how far their copy is
# note       small facts that a source keeps with its position; see Segment.notes
# ledger     counts by minute (epoch minutes), dataset and source; the line with rule '' counts changes, the others count rules
# lookup     what lookups hold, and waiting: rows that wait for one; see lookups.py and waiting.py, which make them where they are missing
# quarantine what the gate held back; see quarantine.py
# audit      what was done with records, chained by hashes; lines are only added
# sitting    keys of unresolved records, and the newest change that has passed since they sit (0: none); lane: the records of each
_TABLES = """
create table kept (name text primary key, value) without rowid;
create table schema (id integer primary key, dataset text not null, encoded text not null unique);
create table stream (
    id integer primary key, source text not null, table_name text not null, sink text, schema integer not null references schema);
create table entry (
    seq integer primary key, stream integer not null, kind integer not null, rows integer not null, bytes integer not null,
    op integer not null, lsn integer not null, nth integer not null, time integer not null, ordinal integer not null,
    committed integer, age real, payload blob not null);
create table held (
    id integer primary key, stream integer not null, rows integer not null,
    op integer not null, lsn integer not null, nth integer not null, time integer not null, ordinal integer not null,
    payload blob not null);
create table position (
    source text primary key, watermark text not null,
    last_seq integer not null, next_ordinal integer not null, age real not null, wall real not null) without rowid;
create table tables (
    source text not null, table_name text not null, schema integer not null, copy text, primary key (source, table_name)) without rowid;
create table note (source text not null, name text not null, value text not null, primary key (source, name)) without rowid;
create table ledger (
    minute integer not null, dataset text not null, source text not null, rule text not null,
    rows integer not null, quarantined integer not null, dropped integer not null,
    evaluated integer not null, failed integer not null, warned integer not null,
    first_ordinal integer, last_ordinal integer, first_time integer, last_time integer,
    primary key (minute, dataset, source, rule)) without rowid;
create table quarantine (
    ordinal integer primary key, id text not null, dataset text not null, source text not null, table_name text not null,
    operation text not null, key text not null, position text not null, committed_at integer not null,
    raw text not null, before text, after text, message text, contract text, contract_version text, rules_hash text,
    reasons text not null, cause text not null, pattern text not null, status text not null, owner text, attempts integer not null,
    patch text, patched_by text, approved_by text, resolved_at real, resolution text, quarantined_at real not null);
create index quarantine_by_cause on quarantine (cause, status, dataset);
"""
_NEW_TABLES = (
    lookups.TABLE,
    waiting.TABLE,
    """create table if not exists audit (
        n integer primary key, at real not null, by text not null, system_user text not null, action text not null, dataset text not null,
        records integer not null, first integer, last integer, detail text not null, previous text not null, hash text not null)""",
    """create trigger if not exists audit_is_only_added_to before update on audit
        begin select raise(abort, 'the audit trail is only added to'); end""",
    """create trigger if not exists audit_is_never_cut before delete on audit
        begin select raise(abort, 'the audit trail is only added to'); end""",
    *sitting.TABLES,
    contracts.TABLE,
    trends.INDEX,
)
_NEW_INDEXES = (
    "create index if not exists audit_by_request on audit (json_extract(detail, '$.request'))",
    f"create index if not exists quarantine_to_replay on quarantine (status, ordinal) where {quarantine.TO_REPLAY}",
    "create index if not exists quarantine_by_replay on quarantine (replay, status) where replay is not null",
)
_NEW_COLUMNS = (
    ("stream", "partition", "integer"),
    ("ledger", "released", "integer not null default 0"),
    ("quarantine", "replay", "integer"),
    ("quarantine", "erased_at", "real"),
    ("quarantine", "given", "integer"),
    ("quarantine", evidence.SALT, "blob"),
)
"""Table, column and its declaration: in the order in which they came, behind those that `_TABLES` has."""


def journal_exists(folder: Path) -> bool:
    """Whether ingest has made the journal already."""
    return (folder / FILE).exists()


def open_for_writing(
    folder: Path, pipeline: str, number: str | None = None, fill: Callable[[sqlite3.Connection], None] | None = None
) -> sqlite3.Connection:
    """The journal of a pipeline, made if there is none: with this id, and whatever `fill` puts into it before anybody sees it.

    The caller holds the writer's lock.
    """
    path = folder / FILE
    if not path.exists():
        _make(path, pipeline, number or str(uuid.uuid4()), fill)
    with reported(path):
        db = _checked(sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0), path, pipeline)
        if _former(db):
            _bring_up(db)
        return db


def _former(db: sqlite3.Connection) -> bool:
    """Whether anything is missing that has come since the file was made."""
    return pragma(db, "user_version") < FORMAT or not _has(db, *_NEW_COLUMNS[-1][:2])


def _bring_up(db: sqlite3.Connection) -> None:
    """From a former format to ours."""
    db.execute("begin immediate")
    _add(db)
    if pragma(db, "user_version") < FORMAT:
        sitting.fill(db)
    db.execute(f"pragma user_version = {FORMAT}")
    db.execute("commit")


def _add(db: sqlite3.Connection) -> None:
    """What has come since the first format, where it is missing."""
    for statement in _NEW_TABLES:
        db.execute(statement)
    for table, column, declared in _NEW_COLUMNS:
        if not _has(db, table, column):
            db.execute(f"alter table {table} add column {column} {declared}")
    for statement in _NEW_INDEXES:
        db.execute(statement)


def _has(db: sqlite3.Connection, table: str, column: str) -> bool:
    return any(name == column for _, name, *_ in db.execute(f"pragma table_info({table})"))


def remove(folder: Path) -> None:
    """Removes the journal. The caller holds the writer's lock."""
    _remove(folder / FILE)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def refuse_copy(db: sqlite3.Connection, folder: Path) -> None:
    """Raises JournalError for a copy of topics, which must not be written without them."""
    if db.execute("select 1 from kept where name = 'commit'").fetchone() is not None:
        raise JournalError(
            f"{folder / FILE} is a copy of a journal in Kafka",
            hint="write `journal: {type: kafka, …}` as before, or name another folder with `state:`",
        )


def open_for_reading(folder: Path, pipeline: str) -> sqlite3.Connection:
    """The journal of a pipeline, which nothing that happens on this connection can change. Raises JournalError where there is none."""
    path = folder / FILE
    if not path.exists():
        raise JournalError(f"there is no journal in {folder}", hint="nothing has run here yet: start with `sluice sync` or `sluice run`")
    with reported(path):
        db = sqlite3.connect(reading_uri(path), uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
        _checked(db, path, pipeline)
        if _former(db):
            db.close()
            raise JournalError(f"{path} was made by an older Sluice", hint="`sluice sync` or `sluice run` brings it up to date")
        return db


def _make(path: Path, pipeline: str, number: str, fill: Callable[[sqlite3.Connection], None] | None) -> None:
    """Under another name first: whoever finds the journal finds it whole."""
    fresh = path.with_suffix(".new")
    for database in (fresh, path):  # the log of a journal that was removed would be taken for this one's
        _remove(database)
    with reported(fresh), closing(sqlite3.connect(fresh, isolation_level=None)) as db:
        db.execute(f"pragma page_size = {_PAGE}")
        db.execute("pragma auto_vacuum = incremental")
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        db.execute(f"pragma application_id = {_APPLICATION}")
        db.execute(f"pragma user_version = {FORMAT}")
        db.execute("begin")
        for statement in _TABLES.split(";\n"):
            db.execute(statement)
        _add(db)
        kept = {"id": number, "pipeline": pipeline, "made": time.time()}
        db.executemany("insert into kept values (?, ?)", list(kept.items()))
        db.execute("commit")
        if fill is not None:
            fill(db)
    try:
        os.rename(fresh, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise TerminalError(f"{path} cannot be made: {error.strerror}", hint="make the state folder writable") from error


def _checked(db: sqlite3.Connection, path: Path, pipeline: str) -> sqlite3.Connection:
    """Settings, and the checks that need not read the file whole: SQLite's header against its size, ours, and both ends of the entries."""
    try:
        db.execute(f"pragma cache_size = -{_CACHE_KIB}")
        db.execute("pragma synchronous = full")
        application = pragma(db, "application_id")
        version = pragma(db, "user_version")
        if application != _APPLICATION:
            raise JournalError(f"{path} is not a journal of Sluice's", hint="move it away, or name another folder with `state:`")
        if version > FORMAT:
            raise JournalError(
                f"{path} was made by a newer Sluice (format {version}, this one knows {FORMAT})", hint="upgrade this installation"
            )
        db.execute("begin")  # one state of the file, whatever ingest commits meanwhile
        kept = dict(db.execute("select name, value from kept"))
        if kept["pipeline"] != pipeline:
            raise JournalError(
                f"{path} belongs to the pipeline {kept['pipeline']}, not to {pipeline}",
                hint="give each pipeline a `state:` folder of its own",
            )
        first, last = db.execute("select min(seq), max(seq) from entry").fetchone()
        committed = last_seq(db)
        copied = (
            db.execute("select 1 from kept where name = 'commit'").fetchone() is not None
        )  # of topics: entries come before their commit
        if last is not None and (first < 1 or (last < committed if copied else last != committed)):
            raise damaged(path, f"its entries end at {last}, not at {committed}")
        db.execute("rollback")
    except sqlite3.OperationalError as error:
        db.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # no such table: an SQLite file, but not whole
            raise damaged(path, str(error)) from error
        raise
    except BaseException:
        db.close()
        raise
    return db


def pragma(db: sqlite3.Connection, name: str) -> int:
    """The value of a setting that is a number."""
    value: int = db.execute(f"pragma {name}").fetchone()[0]
    return value


def last_seq(db: sqlite3.Connection) -> int:
    """The newest entry that there ever was; 0 before the first."""
    found: int | None = db.execute("select max(last_seq) from position").fetchone()[0]
    return found or 0
