"""What SQLite says when something is wrong with a file, in words and errors of our own."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import JournalError, SluiceError, TerminalError, TransientError

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_FORBIDDEN = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN}
WAY_OUT = "put the whole state folder back from a backup; where there is none, start over as docs/journal.md says"


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turns an error of SQLite about the file at `path` into JournalError, TerminalError or TransientError."""
    try:
        yield
    except sqlite3.Error as error:
        if not hasattr(error, "sqlite_errorcode"):
            raise  # a mistake in the use of the library, not trouble with the file
        raise told(path, error) from error


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction that writes; after an error nothing of it stays."""
    db.execute("begin immediate")
    try:
        yield
        db.execute("commit")
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise


def told(path: Path, error: sqlite3.Error, way_out: str = WAY_OUT) -> SluiceError:
    """The error to raise for one of SQLite's; `way_out` says what to do about a file that is damaged."""
    kind = error.sqlite_errorcode & 0xFF
    if kind in _DAMAGED:
        return damaged(path, str(error), way_out)
    if kind == sqlite3.SQLITE_TOOBIG:
        return TerminalError(f"a row is too large for {path}, which takes values of up to 1 GB", hint="leave the table out of the pipeline")
    if kind == sqlite3.SQLITE_FULL:
        return TransientError(f"there is no room to write {path}: {error}", hint="make room on its disk; writing goes on by itself")
    if kind in _FORBIDDEN:
        return TerminalError(f"{path} cannot be opened or written: {error}", hint="make the folder and its files readable and writable")
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return TransientError(f"{path} is locked by another process", hint="nothing but Sluice may hold it open for writing")
    if kind == sqlite3.SQLITE_IOERR:
        return TransientError(f"{path} could not be read or written: {error}", hint="look at the disk: is it full, over quota, or failing?")
    return JournalError(f"{path}: {error}", hint=way_out)


def may_write(folder: Path) -> bool:
    """Whether this process may make files there."""
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def reading_uri(path: Path) -> str:
    """Names the database at `path` for who only reads it, also in a folder that may not be written.

    There SQLite can read a database with a log where log and index are there, as of a process at work; where the last writer has ended in
    order there is no log, and nothing that could change. See https://www.sqlite.org/wal.html#read_only_databases
    """
    still = not may_write(path.parent) and not Path(f"{path}-wal").exists()
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if still else ''}"


def damaged(path: Path, what: str, way_out: str = WAY_OUT) -> JournalError:
    """The error for a file that cannot be trusted."""
    return JournalError(f"{path} is damaged: {what}", hint=way_out)
