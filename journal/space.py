"""The room that the journal takes: what is forgotten and when, when it is full, and when its file shrinks."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from journal.store import pragma
from pipeline.model import JournalConfig

_STEP_SECONDS = 0.05
_STEP_BYTES = 4 << 20
_STEP_ENTRIES = 512
_STEP_PAGES = 256
_SPARE_BYTES = 64 << 20  # free pages within the file that are kept for what comes next
_LOG_PAGES = 4000  # after so many the log is moved into the file, which then takes milliseconds
_LOG_BYTES = 64 << 20  # the write-ahead log is cut back to this
_LOG_PATIENCE_MS = 100
_ROOM_AGAIN = 0.9


class Space:
    """Keeps the journal within its limits. Used by the writer, outside its transactions."""

    def __init__(self, db: sqlite3.Connection, path: Path, limits: JournalConfig) -> None:
        self._db = db
        self._log = path.with_name(f"{path.name}-wal")
        self._max_bytes = limits.max_bytes
        self._retention = limits.retention_seconds
        self._retention_bytes = limits.retention_bytes
        self.used = 0
        self.full = False
        # Debian's SQLite writes zeros over all that is deleted, which for batches means to write them twice
        db.execute("pragma secure_delete = fast")
        db.execute(f"pragma wal_autocheckpoint = {_LOG_PAGES}")
        db.execute(f"pragma journal_size_limit = {_LOG_BYTES}")
        self._page = pragma(db, "page_size")
        self._measure()

    def prune(self, passed: int | None, age: float) -> int:
        """Deletes entries up to `passed` whose time is over at `age`; where there is no room, those within their retention too."""
        deadline = time.monotonic() + _STEP_SECONDS
        pruned = 0
        if passed is not None:
            expired = self._expired(passed, age - self._retention) if self._retention > 0 else passed
            while (step := self._delete(passed if self.full or self._over() else expired)) and time.monotonic() < deadline:
                pruned += step
                self._measure()
            pruned += step
        self._shrink(deadline)
        self._measure()
        return pruned

    def _over(self) -> bool:
        """Whether what is kept for its retention takes more room than it may."""
        return self._retention_bytes is not None and self.used > self._retention_bytes

    def _expired(self, passed: int, before: float) -> int:
        """The last entry, up to `passed`, of a commit that was made by `before`."""
        young = self._db.execute("select seq from entry where seq <= ? and age > ? order by seq limit 1", (passed, before)).fetchone()
        if young is None:
            return passed
        end: int | None = self._db.execute("select max(seq) from entry where seq < ? and age is not null", (young[0],)).fetchone()[0]
        return end or 0

    def _delete(self, bound: int) -> int:
        found = self._db.execute("select seq, bytes from entry where seq <= ? order by seq limit ?", (bound, _STEP_ENTRIES)).fetchall()
        size = count = 0
        while count < len(found) and size < _STEP_BYTES:
            size += found[count][1]
            count += 1
        if count:
            self._db.execute("delete from entry where seq <= ?", (found[count - 1][0],))
        return count

    def _shrink(self, deadline: float) -> None:
        """Gives room back to the disk, a step at a time, where far more is free in the file than is used."""
        shrunk = False
        while time.monotonic() < deadline and self._free() > max(_SPARE_BYTES, self.used):
            self._db.executescript(f"pragma incremental_vacuum({_STEP_PAGES})")  # `execute` would free one page only
            shrunk = True
        if shrunk:
            self._db.execute("pragma wal_checkpoint(passive)").fetchall()  # only then is the file itself cut
        if self._log_size() > 2 * _LOG_BYTES:
            # readers come and go so often that the log never was free of them: wait for those who are in it now
            self._db.execute(f"pragma busy_timeout = {_LOG_PATIENCE_MS}")
            self._db.execute("pragma wal_checkpoint(truncate)").fetchall()
            self._db.execute("pragma busy_timeout = 5000")

    def _measure(self) -> None:
        pages = pragma(self._db, "page_count") * self._page - self._free()
        self.used = pages + max(0, self._log_size() - 2 * _LOG_BYTES)
        self.full = self.used >= self._max_bytes * (_ROOM_AGAIN if self.full else 1.0)

    def _free(self) -> int:
        return pragma(self._db, "freelist_count") * self._page

    def _log_size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0
