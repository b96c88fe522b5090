"""A DuckDB file that others want to read too: taken when it is needed, let go in between.

Only one process may have a DuckDB file open, unless all of them only read it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipeline.errors import Refused, SluiceError, TerminalError, TransientError

PATIENCE = 2.0  # seconds for which a file that somebody else has open is asked for
_PAUSE = 0.02
_CHECKPOINT_AT = "128MB"  # of write-ahead log: row groups are then mostly full when they are compressed
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "preserve_insertion_order": False,
    # nothing is fetched from the network, whatever a file looks like
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")


class DuckDBFile:
    """The file of one sink. `connection` is there between `take` and `let_go`."""

    def __init__(self, path: Path, memory_limit: str | None, threads: int) -> None:
        self.path = path
        self._config = dict(_SETTINGS, threads=threads, checkpoint_threshold=_CHECKPOINT_AT)
        if memory_limit is not None:
            self._config["memory_limit"] = memory_limit
        self._connection: duckdb.DuckDBPyConnection | None = None
        self.taken_at = 0.0  # time.monotonic()
        self.free_until = 0.0

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            raise TransientError(f"{self.path} is not open")
        return self._connection

    @property
    def held(self) -> bool:
        return self._connection is not None

    def take(self, patience: float = PATIENCE) -> None:
        """Opens the file for writing; does nothing if it is open. Raises TransientError while somebody else has it."""
        if self._connection is None:
            time.sleep(max(0.0, self.free_until - time.monotonic()))
            self._connection = _connected(self.path, self._config, patience, read_only=False)
            self.taken_at = time.monotonic()

    def let_go(self, leave_free: float = 0.0) -> None:
        """Closes the file, and keeps away from it for `leave_free` seconds so that a reader gets its turn."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self.free_until = time.monotonic() + leave_free
            try:
                connection.close()
            except duckdb.Error as error:
                raise explained(error, self.path) from error

    def abandon(self) -> None:
        """Closes the file after an error that leaves it unusable until it is opened again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(duckdb.Error):
                connection.close()

    @contextmanager
    def reading(self, patience: float) -> Iterator[Borrowed]:
        """A connection to read with: to the file as this process has it open, else one that only reads, else to an empty database."""
        if self._connection is not None:
            connection = self._connection.cursor()
        elif self.path.exists():
            connection = _connected(self.path, self._config, patience, read_only=True)
        elif not self.path.parent.is_dir():
            raise _no_folder(self.path)
        else:
            connection = duckdb.connect(":memory:")
        with connection:
            yield Borrowed(self.path, connection)


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A file that somebody else opens and closes."""

    path: Path
    connection: duckdb.DuckDBPyConnection
    held: bool = True

    def abandon(self) -> None:
        """Left to whom it is borrowed from."""


class OutOfMemory(TerminalError):  # noqa: N818  (reads as what happened)
    """DuckDB may not use as much memory as a statement needs."""


def _connected(
    path: Path, config: dict[str, str | bool | int | float | list[str]], patience: float, read_only: bool
) -> duckdb.DuckDBPyConnection:
    """Opens a file, again and again while somebody else has it."""
    until = time.monotonic() + patience
    while True:
        try:
            connection = duckdb.connect(str(path), read_only=read_only, config=config)
            connection.execute("SET TimeZone = 'UTC'")
            return connection
        except duckdb.ConnectionException:
            # this very process has it open for writing, and shares it
            read_only = False
        except duckdb.Error as error:
            held = _HOLDER.search(str(error)) or "Could not set lock" in str(error)
            if not held or time.monotonic() >= until:
                raise explained(error, path) from error
        time.sleep(_PAUSE)


def explained(error: duckdb.Error, path: Path) -> SluiceError:
    """What DuckDB said, as an error that says what to do."""
    text = str(error).strip().split("\n")[0]
    said = re.sub(r"^(IO|FATAL|TransactionContext|[A-Z]\w+) Error: ", "", text)
    if held := _HOLDER.search(text):
        reader = f"{Path(held['program']).name} (process {held['pid']})"
        return TransientError(
            f"{path} is held by {reader}: DuckDB lets one process at a time open a file that is written",
            hint="Sluice goes on as soon as the reader closes it; meanwhile changes wait in the journal",
        )
    if "Could not set lock" in text:
        return TransientError(f"{path} is held by another process", hint="Sluice goes on as soon as that closes it")
    if isinstance(error, duckdb.OutOfMemoryException):
        return OutOfMemory(f"DuckDB needs more memory for {path} than it may use", hint="raise memory_limit of the sink")
    if re.search(r"No space left|File too large|Disk quota|[Cc]ould not write", text):
        return TransientError(
            f"{path} cannot be written: {said}", hint="make room on the disk; nothing is lost, changes wait in the journal"
        )
    if "No such file or directory" in text or "database does not exist" in text:
        return _no_folder(path)
    if re.search(r"Permission denied|Read-only file system|Is a directory|Operation not permitted", text):
        return Refused(f"{path} cannot be opened: {said}", hint="give the sink a path that this user may write to")
    if "not a valid DuckDB database file" in text or "sqlite_scanner" in text:
        return TerminalError(f"{path} is there, but it is not a DuckDB file", hint="move it away, or give the sink another path")
    if "version number" in text:
        return TerminalError(f"{path} was written by a newer version of DuckDB: {said}", hint="upgrade the duckdb package")
    if "orrupt" in text or "checksum" in text or "Could not read enough bytes" in text:
        return TerminalError(
            f"{path} is damaged: {said}", hint="move it away (with its .wal file) and let Sluice copy everything again, or restore it"
        )
    if isinstance(error, duckdb.FatalException | duckdb.InternalException | duckdb.IOException):
        return TransientError(f"DuckDB failed on {path}: {said}")
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        return TerminalError(
            f"a table in {path} is not as Sluice left it: {said}", hint="undo what was changed there, or drop the table and copy it again"
        )
    return TerminalError(f"DuckDB refused a statement on {path}: {said}")


def _no_folder(path: Path) -> Refused:
    return Refused(f"{path} cannot be opened: its folder is not there", hint=f"mkdir -p {path.parent}")
