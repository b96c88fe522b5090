"""The threads of a running source: one makes what is missing, copies, connects and connects again; one makes later copies."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import closing

import structlog

from journal.batch import Segment
from pipeline.errors import AlreadyRunningError, SluiceError, TerminalError, TransientError
from sources.base import Resume, SourceContext, SourceStatus
from sources.postgres.config import PostgresConfig, publication_name, slot_name
from sources.postgres.copier import Copier
from sources.postgres.desk import CopyDesk, TableCopy
from sources.postgres.handouts import Handouts
from sources.postgres.position import Watermark
from sources.postgres.publication import mark
from sources.postgres.roster import Roster
from sources.postgres.session import Connection, Server
from sources.postgres.slot import check_resumable, read_identity, read_slot
from sources.postgres.standing import Reading, Standing
from sources.postgres.starting import Starting
from sources.postgres.stream import ReplicationStream
from sources.postgres.survey import intention
from sources.postgres.taker import Taker

_COPY_BYTES = 48 << 20  # of copied rows that wait to be taken
_LOOK_AT_SLOT = 5.0
_AGAIN = 0.25  # seconds after which a look is tried again whose connection was ended
_DISCOVER = 10.0
_LONGEST_PAUSE = 10.0
_OCCUPIED = 70.0  # seconds for a server (wal_sender_timeout is 60) to notice that who read the slot before is gone
_JOIN = 3.0  # seconds that close waits for threads, which may be connecting


class Closing(Exception):  # noqa: N818  (reads as what happens)
    """The source is being closed."""


class Supervisor:
    """A source that runs, from start to close."""

    def __init__(self, server: Server, config: PostgresConfig, context: SourceContext, resume: Resume) -> None:
        self._server = server
        self._config = config
        self._context = context
        self._log = structlog.get_logger("sluice.postgres").bind(source=context.name)
        self._slot = slot_name(config, context.pipeline, context.name)
        self._publication = publication_name(config, context.pipeline, context.name)
        self._closing = threading.Event()
        self._news = threading.Event()  # the session broke, or the source is being closed
        self._broken: TransientError | None = None
        self._failure: BaseException | None = None
        self._stream: ReplicationStream | None = None
        self._position = None if resume.watermark is None else Watermark.decode(resume.watermark)  # durable
        self._standing = Standing(None if self._position is None else self._position.lsn)
        self._desk = CopyDesk(context.name)
        self._handouts = Handouts(_COPY_BYTES)
        self._roster = Roster(config, context, resume, self._desk)
        self._taker = Taker(context.name, server, context.recall, self._roster, self._desk, self._handouts, self._broke)
        self._copier = Copier(
            server,
            context.name,
            self._publication,
            mark(context.pipeline, context.name) if config.create else None,
            self._roster,
            self._desk,
            self._handouts,
            stopped=self._closing.is_set,
            settled=self._taker.settled,
            passed=self._taker.passed,
        )
        self._starting = Starting(server, config, context, resume, self._roster, self._desk, self._go_on)
        self._prepared = False
        self._intention = intention(context)
        self._noted = True
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"postgres-{name}", daemon=True)
            for name, work in (("supervisor", self._supervise), ("copier", self._copy))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def take(self, timeout: float) -> Segment | None:
        """See Source.take."""
        if self._failure is not None:
            raise self._failure
        try:
            segment = self._taker.take(timeout)
        except TerminalError as error:
            self._fail(error)
            raise
        if segment is None and self._failure is not None:
            raise self._failure
        return segment

    def confirm(self, text: str) -> None:
        """See Source.confirm."""
        watermark = Watermark.decode(text)
        self._position = watermark
        self._standing.confirmed(watermark.lsn)
        self._taker.confirmed(watermark)
        stream = self._stream
        if stream is not None:
            stream.confirm(watermark.lsn)
        if self._noted:
            self._noted = False
            self._intention.clear()

    def copy_again(self, table: str, sink: str | None) -> None:
        """See Source.copy_again."""
        if self._roster.followed(table) and table not in self._taker.ending():
            self._desk.request(TableCopy(table, sink, first=not self._roster.copied_before(table), passes=True), once=True)

    def status(self) -> SourceStatus:
        """See Source.status."""
        stream = self._stream
        if stream is None:
            reading = Reading(None, 0, self._taker.last_commit, self._taker.last_rows, self._taker.streaming)
        else:
            self._standing.heard(stream.server_lsn)
            reading = Reading(stream.server_lsn, stream.bytes_read, self._taker.last_commit, self._taker.last_rows, self._taker.streaming)
        return self._standing.status(reading, self._roster.statuses(self._taker.ending()))

    def close(self) -> None:
        """Ends the threads and all sessions."""
        self._closing.set()
        self._news.set()
        self._handouts.close()
        self._desk.wake()
        until = time.monotonic() + _JOIN
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        self._taker.close()
        self._standing.tell("stopped", str(self._failure) if self._failure is not None else None)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever ends a thread is raised by `take`."""
        try:
            work()
        except Closing:
            return
        except SluiceError as error:
            self._fail(error)
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self._standing.tell("stopped", str(error))
        self._handouts.wake()
        self._news.set()

    def _broke(self, stream: ReplicationStream, error: TransientError) -> None:
        """The taker found its session over."""
        if stream is self._stream:
            self._broken = error
            self._news.set()

    def _go_on(self) -> None:
        if self._closing.is_set():
            raise Closing

    def _pause(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def _supervise(self) -> None:
        tries = 0
        occupied: float | None = None
        while True:
            self._go_on()
            began = time.monotonic()
            try:
                self._session()
            except TransientError as error:
                reason: SluiceError = error
                occupied = None
            except AlreadyRunningError as error:
                # who read it before may be our own last session, which the server has not given up yet
                occupied = began if occupied is None else occupied
                if began - occupied > _OCCUPIED:
                    raise
                reason = error
            self._go_on()
            tries = 1 if time.monotonic() - began > 60.0 else tries + 1
            pause = min(_LONGEST_PAUSE, 0.1 * 2.0 ** min(tries, 10)) * random.uniform(0.5, 1.0)  # noqa: S311  (spread, not secrecy)
            self._standing.disconnected(str(reason))
            self._log.warning("connecting again", error=reason.message, seconds=round(pause, 1))
            self._pause(pause)

    def _session(self) -> None:
        """One session, from connecting to the error that ends it."""
        if not self._prepared:
            self._prepare()
            self._prepared = True
        else:
            self._check()
        position = self._position
        assert position is not None  # noqa: S101  (made by _prepare)
        stream = ReplicationStream(
            self._config.dsn.get_secret_value(),
            self._slot,
            self._publication,
            position.lsn,
            resolve=self._taker.resolve,
            source=self._context.name,
            spool=self._context.state / f"spool-{self._context.name}",
            spool_bytes=self._config.spool_after,
            connect_timeout=self._config.connect_timeout,
        )
        try:
            stream.start()
            self._broken = None
            self._stream = stream
            self._taker.attach(stream)
            self._watch(stream)
        finally:
            self._stream = None
            self._standing.ended(stream.bytes_read)
            stream.close()

    def _prepare(self) -> None:
        """Makes what is missing and the first copies; from then on there is a position to begin at."""
        with closing(self._server.connect()) as connection:
            start = self._starting.begin(connection)
        self._position = start.watermark
        self._taker.begin(start.watermark, announce=start.new, flowing=start.snapshot is None)
        if start.snapshot is None:
            return
        self._standing.tell("copying")
        with closing(start.snapshot.session):
            self._copier.make_first(start.snapshot, start.tables)
        self._handouts.put(self._taker.flow)
        self._go_on()

    def _check(self) -> None:
        """Whether the server is still the one we left, and the slot still holds what comes next."""
        assert self._position is not None  # noqa: S101  (made by _prepare)
        with closing(self._server.connect_for_replication()) as replication, self._server.told():
            identity = read_identity(replication)
        with closing(self._server.connect()) as connection, self._server.told():
            check_resumable(read_slot(connection, self._slot), self._slot, identity, self._position)

    def _watch(self, stream: ReplicationStream) -> None:
        """Until the session breaks: looks at the slot, and for tables that come and go, over a connection beside the stream.

        A server that has ended that connection and lets nobody in any more is shutting down. It then waits until all that it has sent
        is confirmed, however long that takes: the session is given up, so that it can go.
        """
        self._standing.tell("streaming")
        connection: Connection | None = None
        ended = False
        look_at_slot = time.monotonic()
        discover = look_at_slot + _DISCOVER
        try:
            while True:
                self._news.wait(max(0.0, min(look_at_slot, discover) - time.monotonic()))
                self._news.clear()
                self._go_on()
                if self._broken is not None:
                    raise self._broken
                now = time.monotonic()
                if now < min(look_at_slot, discover):
                    continue
                try:
                    connection = connection or self._server.connect()
                    ended = False
                    with self._server.told():
                        if now >= look_at_slot:
                            look_at_slot = now + _LOOK_AT_SLOT
                            slot = read_slot(connection, self._slot)
                            if slot is not None:
                                self._standing.slot(slot)
                        if now >= discover:
                            discover = now + _DISCOVER
                            self._roster.discover(connection)
                except (TransientError, TerminalError) as error:
                    # the stream is a session of its own: what ends that one, the taker sees
                    self._log.warning("the source could not be looked at", error=error.message)
                    if ended and isinstance(error, TransientError):
                        raise
                    ended = connection is not None and connection.closed
                    look_at_slot, discover = now + (_AGAIN if ended else _LOOK_AT_SLOT), now + _DISCOVER
                    if connection is not None:
                        connection.close()
                        connection = None
        finally:
            if connection is not None:
                connection.close()

    def _copy(self) -> None:
        while not self._closing.is_set():
            copy = self._desk.next(1.0)
            if copy is not None:
                self._copier.make(copy, self._pause)
