"""The two ways of reading a walsender: on its socket where that carries plain bytes, through libpq where it is encrypted.

Both give the same bytes: messages of the protocol, CopyData frames after START_REPLICATION. libpq has connected and logged in before
(TLS, passwords, service files are its affair). A plain socket is then read beside libpq, in large pieces, which costs a fraction of
a call per message.
See https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import struct
import time
from abc import ABC, abstractmethod

import psycopg
from psycopg import pq

from pipeline.errors import SluiceError, TransientError
from sources.postgres.errors import from_postgres
from sources.postgres.session import Connection, Server

_FRAME = struct.Struct(">cI")
_PUBLICATION_MISSING = "55000"
# libpq keeps what TLS has decrypted and nobody has asked for where poll() cannot see it; so many dry reads in a row mean that it is empty.
_DRY = 3
_WINDOW = 128 << 10  # bytes
_PAUSE_TCP = 0.008
_PAUSE_UNIX = 0.0003


class Link(ABC):
    """A replication session after START_REPLICATION, never blocking. Used by one thread."""

    def __init__(self, connection: Connection, server: Server, slot: str) -> None:
        self._connection = connection
        self._server = server
        self._slot = slot
        self.pause = _prepare(connection.pgconn.socket)
        """Seconds in which changes that come in masses may gather before they are read, without making the server wait."""

    @property
    def label(self) -> str:
        """What messages call the server."""
        return self._server.label

    @abstractmethod
    def start(self, command: str, deadline: float) -> None:
        """Runs START_REPLICATION. Raises what the server's error stands for, or TransientError after `deadline` (time.monotonic())."""

    @abstractmethod
    def fileno(self) -> int:
        """To be polled for reading."""

    @property
    def pending(self) -> bool:
        """Whether receive() has more to give, or to raise, of which the socket says nothing."""
        return False

    @abstractmethod
    def receive(self, room: memoryview) -> int:
        """Puts what has arrived into `room`; the number of bytes, 0 if there is nothing now.

        Raises TransientError at the end of the connection, or what the server's error stands for.
        """

    @abstractmethod
    def send(self, payload: bytes) -> bool:
        """Sends a short CopyData message; False if the connection takes nothing now, so that it has to be sent again."""

    def close(self) -> None:
        """Ends the session; the server's end of it frees the slot."""
        self._connection.close()

    def refused(self, fields: dict[str, str]) -> SluiceError:
        """What an ErrorResponse (fields by their letter) stands for."""
        return from_postgres(fields.get("C"), fields.get("M", ""), self.label, slot=self._slot)

    def warned(self, fields: dict[str, str]) -> SluiceError | None:
        """An error, if a notice says that changes are being left out: since 18 a missing publication is no more than that to the server."""
        if fields.get("V") == "WARNING" and fields.get("C") == _PUBLICATION_MISSING:
            return self.refused(fields)
        return None

    def wait(self, events: int, deadline: float) -> None:
        """Waits until the link can be read or written. Raises TransientError after `deadline` (time.monotonic())."""
        poll = select.poll()
        poll.register(self.fileno(), events)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TransientError(f"{self.label}: the server does not answer START_REPLICATION")

    def _gone(self, why: object = None) -> TransientError:
        return TransientError(f"{self.label}: the replication connection is gone" + (f" ({why})" if why else ""))


class PlainLink(Link):
    """Reads and writes a duplicate of libpq's socket, which libpq itself must not touch any more."""

    def __init__(self, connection: Connection, server: Server, slot: str) -> None:
        super().__init__(connection, server, slot)
        self._socket = socket.socket(fileno=os.dup(connection.pgconn.socket))
        self._socket.setblocking(False)
        self._unsent = b""

    def start(self, command: str, deadline: float) -> None:
        query = command.encode() + b"\0"
        self._write(b"Q" + struct.pack(">I", len(query) + 4) + query)
        while True:
            kind, length = _FRAME.unpack(self._exactly(5, deadline))
            body = self._exactly(length - 4, deadline)
            if kind == b"W":
                return
            if kind == b"E":
                raise self.refused(fields_of(body))

    def _exactly(self, size: int, deadline: float) -> bytes:
        """The next `size` bytes and not one more: what follows belongs to receive()."""
        found = bytearray(size)
        done = 0
        while done < size:
            self.wait(select.POLLIN, deadline)
            done += self.receive(memoryview(found)[done:])
        return bytes(found)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, room: memoryview) -> int:
        try:
            got = self._socket.recv_into(room)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._gone(error.strerror) from error
        if got == 0:
            raise self._gone()
        return got

    def send(self, payload: bytes) -> bool:
        if self._unsent and not self._write(b""):
            return False
        self._write(_FRAME.pack(b"d", len(payload) + 4) + payload)
        return True

    def _write(self, message: bytes) -> bool:
        """Sends what is left and `message`; False if a part of it is left for the next call."""
        self._unsent += message
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._gone(error.strerror) from error
        return not self._unsent

    def close(self) -> None:
        self._socket.close()
        super().close()


class SealedLink(Link):
    """Reads through libpq, message by message, and frames them again."""

    def __init__(self, connection: Connection, server: Server, slot: str) -> None:
        super().__init__(connection, server, slot)
        self._pgconn = connection.pgconn
        self._frame = memoryview(b"")  # the part of a message that found no room
        self._failure: SluiceError | None = None
        connection.pgconn.notice_handler = self._notice

    def start(self, command: str, deadline: float) -> None:
        self._pgconn.nonblocking = 1
        with self._server.told():
            self._pgconn.send_query(command.encode())
            while self._pgconn.flush():
                self.wait(select.POLLOUT, deadline)
            while self._pgconn.is_busy():
                self.wait(select.POLLIN, deadline)
                self._pgconn.consume_input()
            result = self._pgconn.get_result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            raise self._ended(result)

    def fileno(self) -> int:
        return self._pgconn.socket

    @property
    def pending(self) -> bool:
        return bool(self._frame) or self._failure is not None

    def receive(self, room: memoryview) -> int:
        done, dry = 0, 0
        try:
            while done < len(room):
                if self._frame:
                    size = min(len(self._frame), len(room) - done)
                    room[done : done + size] = self._frame[:size]
                    self._frame = self._frame[size:]
                    done += size
                    continue
                if self._failure is not None:
                    if done:
                        break
                    raise self._failure
                size, payload = self._pgconn.get_copy_data(1)
                if size > 0:
                    dry = 0
                    header = _FRAME.pack(b"d", size + 4)
                    if size + 5 <= len(room) - done:
                        room[done : done + 5] = header
                        room[done + 5 : done + 5 + size] = payload
                        done += 5 + size
                    else:
                        self._frame = memoryview(header + bytes(payload))
                elif size == 0:
                    dry += 1
                    if dry > _DRY:
                        break
                    self._pgconn.consume_input()
                else:
                    self._failure = self._ended(self._pgconn.get_result())
        except psycopg.Error as error:
            self._failure = self._server.error(error)
            if not done:
                raise self._failure from error
        return done

    def send(self, payload: bytes) -> bool:
        try:
            taken = self._pgconn.put_copy_data(payload) == 1
            self._pgconn.flush()
        except psycopg.Error as error:
            # If the server has ended the copy, its reason is in the result.
            result = self._pgconn.get_result()
            raise self._server.error(error) if result is None else self._ended(result) from error
        return taken

    def _ended(self, result: pq.abc.PGresult | None) -> SluiceError:
        if result is None or result.status != pq.ExecStatus.FATAL_ERROR:
            return self._gone("the server ended it")
        return self.refused(_fields(result))

    def _notice(self, result: pq.abc.PGresult) -> None:
        self._failure = self._failure or self.warned(_fields(result))


def _prepare(descriptor: int) -> float:
    """Sets a connection's socket up for the way in which a walsender sends, a call for each change; seconds for Link.pause.

    Within this machine, the kernel carries a segment over at once while the receiver's window is open; while it is closed, changes gather
    in the server's send buffer, and come in large segments when we read. That takes half of the time off the walsender, which is what
    bounds the rate: so the window is made small. Over a network it must be as large as delay times bandwidth, and the kernel knows best.
    A Unix socket has no such buffer: a few hundred changes fill it, and the walsender waits.
    """
    with socket.socket(fileno=os.dup(descriptor)) as connected:
        if connected.family not in (socket.AF_INET, socket.AF_INET6):
            return _PAUSE_UNIX
        if ipaddress.ip_address(str(connected.getpeername()[0]).partition("%")[0]).is_loopback:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
        return _PAUSE_TCP


def fields_of(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their letter: C is the SQLSTATE, M the message, V the severity in English."""
    return {chr(part[0]): part[1:].decode(errors="replace") for part in body.split(b"\0") if part}


def _fields(result: pq.abc.PGresult) -> dict[str, str]:
    letters = {"C": pq.DiagnosticField.SQLSTATE, "M": pq.DiagnosticField.MESSAGE_PRIMARY, "V": pq.DiagnosticField.SEVERITY_NONLOCALIZED}
    return {letter: (result.error_field(field) or b"").decode(errors="replace") for letter, field in letters.items()}
