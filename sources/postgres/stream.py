"""One replication session, from the socket to batches of changes in commit order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import Refused, SlotLostError, TransientError
from sources.postgres.decoder import Chunk, Decoded, Decoder, Resolve, Stretch
from sources.postgres.errors import RESYNC
from sources.postgres.inbox import Inbox
from sources.postgres.link import Link, PlainLink, SealedLink
from sources.postgres.position import lsn_number, lsn_text
from sources.postgres.reader import Reader
from sources.postgres.relation import Relation, RelationColumn
from sources.postgres.session import Connection, Server, command
from sources.postgres.spool import Spool

__all__ = ["Decoded", "Relation", "RelationColumn", "ReplicationStream", "Resolve", "Stretch"]

_OLDEST = 140000
_IDLE_PAUSE = 1.0  # seconds between stretches which only say that there was nothing


class ReplicationStream:
    """One replication session: a reader thread with a byte-bounded queue, and the decoder behind it.

    What is not taken stays at the server. `start` is a position from which changes are wanted, durable already; older transactions
    that the server sends again are dropped. `resolve` says, in the thread of take(), what a table is that the stream describes, each
    time it does; None: its changes are not wanted. `spool` is a folder for large transactions that have not committed yet, of this
    stream alone. After an error the session is over: close it and make another.
    """

    def __init__(
        self,
        dsn: str,
        slot: str,
        publication: str,
        start: int,
        *,
        resolve: Resolve,
        source: str,
        spool: Path,
        queue_bytes: int = 64 << 20,
        spool_bytes: int = 32 << 20,
        connect_timeout: int = 10,
    ) -> None:
        self._server = Server(dsn, f"sluice {source}", connect_timeout)
        self._slot = slot
        self._publication = publication
        self._start = start
        self._connect_timeout = connect_timeout
        self._spool = Spool(spool, spool_bytes)
        self._decoder = Decoder(resolve, source, self._spool, start)
        self._inbox = Inbox(queue_bytes)
        self._reader: Reader | None = None
        self._chunk: Chunk | None = None
        self._stretches: Iterator[Stretch] = iter(())
        self._given = start
        self._failure: BaseException | None = None
        self._last_idle = float("-inf")

    def start(self) -> None:
        """Connects and starts replication.

        Raises Refused, TransientError, SlotLostError (the slot is gone, invalid, or ahead of `start`) or AlreadyRunningError (another
        session reads the slot; if that one's network broke, only until the server notices).
        """
        connection = self._server.connect_for_replication()
        link: Link | None = None
        try:
            timeout = self._prepare(connection)
            sealed = connection.pgconn.ssl_in_use or not self._server.plain
            link = (SealedLink if sealed else PlainLink)(connection, self._server, self._slot)
            link.start(self._command(connection.info.server_version), time.monotonic() + self._connect_timeout)
        except BaseException:
            (link or connection).close()
            raise
        self._reader = Reader(link, self._inbox, self._start, timeout)
        self._reader.start()

    def take(self, timeout: float) -> Stretch | None:
        """The next changes in commit order, or None if nothing came within `timeout` seconds. Only one thread may take.

        A stretch without batches says that all up to its `end` was read and nothing in it was for us: acknowledging that is what lets
        the server drop its log while the wanted tables rest. It comes about once a second, or when the server waits for it. What was
        received before an error is given before it is raised, and raised again by every later call.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._take(time.monotonic() + timeout)
        except BaseException as error:
            # Going on would leave out what could not be decoded.
            self._failure = error
            raise

    def _take(self, deadline: float) -> Stretch | None:
        while True:
            stretch = next(self._stretches, None)
            if stretch is not None:
                return self._give(stretch)
            self._done_with_chunk()
            now = time.monotonic()
            idle = self._idle(now)
            if idle is not None:
                return self._give(idle)
            wait = max(0.0, deadline - now)
            if self._decoder.idle is not None and self._decoder.idle.end > self._given:
                wait = min(wait, max(0.0, self._last_idle + _IDLE_PAUSE - now))
            self._chunk = self._inbox.take(wait)
            if self._chunk is not None:
                self._stretches = self._decoder.feed(self._chunk)
            elif time.monotonic() >= deadline:
                idle = self._idle(time.monotonic())
                return None if idle is None else self._give(idle)

    def confirm(self, lsn: int) -> None:
        """All up to `lsn` is durable; the server may forget it. Any thread; never blocks.

        A position beyond what this session has given is not reported further than that: it may belong to an earlier session, and the
        server's log before it has not been seen again.
        """
        if self._reader is not None:
            self._reader.confirm(min(lsn, self._given))

    def close(self) -> None:
        """Reports what was confirmed, ends the session and removes the spool. What was not confirmed will come again."""
        if self._reader is not None:
            self._reader.close()
        self._stretches = iter(())
        self._spool.clear()

    @property
    def server_lsn(self) -> int:
        """How far the server's log is known to reach."""
        return max(self._given, 0 if self._reader is None else self._reader.server_lsn)

    @property
    def confirmed_lsn(self) -> int:
        """What the server has been, or is about to be, told."""
        return self._start if self._reader is None else self._reader.confirmed

    @property
    def bytes_read(self) -> int:
        return 0 if self._reader is None else self._reader.bytes_read

    @property
    def last_message_time(self) -> float:
        """time.monotonic() when the server was last heard, or was not being listened to because the queue was full."""
        return 0.0 if self._reader is None else self._reader.last_received

    def _prepare(self, connection: Connection) -> float:
        """Looks once more whether the slot can serve `start`; seconds of wal_sender_timeout, 0 if it is off."""
        version = connection.info.server_version
        if version < _OLDEST:
            raise Refused(f"{self._server.label}: Postgres {version // 10000} streams no open transactions", hint="14 or later is needed")
        deadline = time.monotonic() + self._connect_timeout

        def waiting(_: float) -> None:
            if time.monotonic() > deadline:
                raise TransientError(f"{self._server.label}: the server does not answer")

        with self._server.told():
            timeout = command(connection, "SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'", waiting)[0]["setting"]
            position = f"SELECT confirmed_flush_lsn AS lsn FROM pg_replication_slots WHERE slot_name = {_literal(self._slot)}"
            slots = command(connection, position, waiting)
        confirmed = slots[0]["lsn"] if slots else None
        if confirmed is not None and lsn_number(confirmed) > self._start:
            # The server would silently begin there.
            raise SlotLostError(
                f"the slot {self._slot} stands at {confirmed}, beyond {lsn_text(self._start)} where reading was to begin", hint=RESYNC
            )
        return int(timeout or 0) / 1000

    def _command(self, version: int) -> str:
        options = {
            "proto_version": "2",
            "publication_names": _identifier(self._publication),
            "streaming": "on",
            "messages": "false",
            "binary": "false",
        }
        if version >= 160000:
            options["origin"] = "any"
        given = ", ".join(f"{name} {_literal(value)}" for name, value in options.items())
        return f"START_REPLICATION SLOT {_identifier(self._slot)} LOGICAL {lsn_text(self._start)} ({given})"

    def _idle(self, now: float) -> Stretch | None:
        idle = self._decoder.idle
        if idle is None or idle.end <= self._given or not (idle.urgent or now - self._last_idle >= _IDLE_PAUSE):
            return None
        self._last_idle = now
        self._decoder.idle = None
        return Stretch([], idle.end, now)

    def _give(self, stretch: Stretch) -> Stretch:
        reached = stretch.end
        if reached is None:
            # the transaction that is open has the highest position; all before it are whole
            reached = max((int(decoded.batch.lsn[-1]) for decoded in stretch.batches), default=0)
        self._given = max(self._given, reached)
        return stretch

    def _done_with_chunk(self) -> None:
        if self._chunk is not None:
            self._inbox.recycle(self._chunk)
            self._chunk = None


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
