"""COPY … TO STDOUT as columns, read in large pieces.

Without encryption the query is spoken on a duplicate of libpq's socket, so that one read brings thousands of rows and no Python
object is made per row. libpq has nothing buffered between two commands, and finds the session idle again afterwards. With TLS
the socket carries ciphertext: there the rows come through libpq one by one, and are put together again.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import psycopg
from psycopg import sql

from journal.batch import Bytes
from pipeline.errors import TransientError
from sources.postgres.copy_text import Rows, message_starts, rows_of_lines, rows_of_messages
from sources.postgres.errors import from_postgres
from sources.postgres.session import COOKED, RAW, Connection, Server, command, encoded
from sources.postgres.table import Attribute, Table

_PIECE = 4 << 20  # bytes read before rows are made of them, unless the server is slower than _PATIENCE
_PATIENCE = 0.2
_MOST_ROWS = 1 << 16
_POLL = 200  # milliseconds between looks at whether to go on

Stopped = Callable[[], bool]


def select_query(table: Table, columns: Sequence[Attribute], where: sql.Composable | None = None) -> sql.Composable:
    """The rows which the publication would have: its columns, its row filter, of a partitioned root all partitions.

    `where` narrows it further.
    """
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    conditions: list[sql.Composable] = [sql.SQL("({})").format(sql.SQL(table.filter))] if table.filter else []
    conditions += [] if where is None else [where]
    query = sql.SQL("SELECT {} FROM {}{}").format(names, sql.SQL("" if table.kind == "p" else "ONLY "), table.sql)
    return query + sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else query


def copy_query(table: Table, columns: Sequence[Attribute]) -> sql.Composable:
    """The COPY of the rows of `select_query`."""
    if table.filter is None and table.kind == "r" and columns and not any(column.generated for column in columns):
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        return sql.SQL("COPY {} ({}) TO STDOUT").format(table.sql, names)
    return copy_of(select_query(table, columns))


def copy_of(query: sql.Composable) -> sql.Composable:
    """The COPY of a query's rows."""
    return sql.SQL("COPY ({}) TO STDOUT").format(query)


def copy_rows(server: Server, connection: Connection, query: sql.Composable, width: int, stopped: Stopped) -> Iterator[Rows]:
    """The rows of a COPY with `width` columns, at most 65,536 at a time.

    Ends early when `stopped` says so, and leaves the session closed then. Raises what the server says (Refused for what is not there
    or not allowed), TransientError for a broken connection.
    """
    text = query.as_string(connection)
    if encoded(connection):
        yield from _copied(server, connection, text, width, stopped)
        return
    with server.told():
        command(connection, RAW)
    try:
        yield from _copied(server, connection, text, width, stopped)
    finally:
        # in a transaction that failed the setting goes back by itself
        with contextlib.suppress(psycopg.Error):
            command(connection, COOKED)


def _copied(server: Server, connection: Connection, text: str, width: int, stopped: Stopped) -> Iterator[Rows]:
    if server.plain and not connection.pgconn.ssl_in_use:
        yield from _Socket(server, connection, width, stopped).rows(text)
    else:
        yield from _through_libpq(server, connection, text, width, stopped)


class _Socket:
    """One COPY spoken on a duplicate of a session's socket."""

    def __init__(self, server: Server, connection: Connection, width: int, stopped: Stopped) -> None:
        self._server = server
        self._connection = connection
        self._width = width
        self._stopped = stopped
        self._buffer = bytearray(_PIECE)
        self._held = 0  # bytes at the buffer's beginning that are not used up
        self._error: tuple[str | None, str] | None = None

    def rows(self, query: str) -> Iterator[Rows]:
        with socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as self._socket:
            self._socket.settimeout(0)
            idle = False
            try:
                self._send(query.encode())
                while not idle:
                    self._read()
                    if self._stopped():
                        return
                    data = np.frombuffer(self._buffer, np.uint8)
                    at = 0
                    while at < self._held and not idle:
                        starts, end = message_starts(data, at, self._held)
                        for first in range(0, len(starts), _MOST_ROWS):
                            chosen = starts[first : first + _MOST_ROWS]
                            stop = end if first + _MOST_ROWS >= len(starts) else int(starts[first + _MOST_ROWS])
                            yield rows_of_messages(data, chosen, stop, self._width)
                        after = self._message(data, end)
                        if after is None:
                            at = end
                            break
                        at, idle = after
                    self._keep(data, at)
            finally:
                if not idle:
                    self._connection.close()
        if self._error is not None:
            raise from_postgres(*self._error, self._server.label)

    def _send(self, query: bytes) -> None:
        rest = memoryview(b"Q" + struct.pack(">i", len(query) + 5) + query + b"\0")
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                select.select([], [self._socket], [], _POLL / 1000)

    def _read(self) -> None:
        """Reads until the buffer is full, or the server has been silent, or slow."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        view = memoryview(self._buffer)
        until = time.monotonic() + _PATIENCE
        began = self._held
        try:
            while self._held < len(self._buffer):
                try:
                    count = self._socket.recv_into(view[self._held :])
                except BlockingIOError:
                    if not poll.poll(_POLL) or (self._held > began and time.monotonic() > until):
                        return
                    continue
                except OSError as error:
                    raise TransientError(f"{self._server.label}: the connection broke during a copy: {error}") from error
                if not count:
                    raise TransientError(f"{self._server.label}: the server closed the connection during a copy")
                self._held += count
        finally:
            view.release()

    def _message(self, data: Bytes, at: int) -> tuple[int, bool] | None:
        """Takes the message at `at`, which is no row: where it ends, and whether the session is idle then. None if it is not whole."""
        if at + 5 > self._held:
            return None
        end: int = at + 1 + struct.unpack_from(">I", self._buffer, at + 1)[0]
        if end > self._held:
            return None
        kind = chr(data[at])
        if kind == "E":
            fields = {part[:1]: part[1:] for part in bytes(data[at + 5 : end - 2]).split(b"\0") if part}
            code = fields.get(b"C")
            self._error = (None if code is None else code.decode(), fields.get(b"M", b"").decode(errors="replace"))
        elif kind not in "HcCZNSA":
            raise TransientError(f"{self._server.label}: an unexpected message {kind!r} during a copy")
        return end, kind == "Z"

    def _keep(self, data: Bytes, at: int) -> None:
        """Moves what is not used up to the beginning; makes room for a row that is larger than the buffer."""
        rest = self._held - at
        if at == 0 and rest > len(self._buffer) // 2:
            larger = bytearray(2 * len(self._buffer))
            larger[:rest] = self._buffer[:rest]
            self._buffer = larger
        elif at:
            data[:rest] = data[at : self._held].copy()
        self._held = rest


def _through_libpq(server: Server, connection: Connection, query: str, width: int, stopped: Stopped) -> Iterator[Rows]:
    whole = False
    try:
        with server.told(), connection.cursor() as cursor, cursor.copy(query.encode()) as copy:
            lines: list[bytes | memoryview | bytearray] = []
            size = 0
            while line := copy.read():
                lines.append(line)
                size += len(line)
                if size >= _PIECE or len(lines) >= _MOST_ROWS:
                    if stopped():
                        return
                    yield rows_of_lines(np.frombuffer(b"".join(lines), np.uint8), width)
                    lines, size = [], 0
            if lines:
                yield rows_of_lines(np.frombuffer(b"".join(lines), np.uint8), width)
        whole = True
    finally:
        if not whole:
            connection.close()
