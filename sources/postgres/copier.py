"""Makes copies: the first ones under the slot's exported snapshot, later ones beside the stream.

A later copy needs no second slot. It waits until every transaction is over that was writing to the table when it began (such a
transaction may have written before the publication had the table), takes a snapshot of its own, and the desk tells apart which
changes of the stream the snapshot shows. The copy ends only when the stream has passed the snapshot: whoever goes on from there
needs to know of it no more, after a crash either.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import structlog
from psycopg import sql

from journal.batch import ChangeBatch, CopyMarker, Op
from journal.schema import TableSchema
from pipeline.errors import Refused, SluiceError, TerminalError, TransientError
from sources.postgres.catalogue import read_publication, read_tables
from sources.postgres.copy import copy_query, copy_rows, select_query
from sources.postgres.desk import CopyDesk, TableCopy
from sources.postgres.flushing import flush
from sources.postgres.handouts import Handouts
from sources.postgres.position import lsn_number
from sources.postgres.publication import addition, is_ours, run
from sources.postgres.roster import Progress, Roster
from sources.postgres.session import Connection, Server
from sources.postgres.slot import Snapshot
from sources.postgres.table import Table
from sources.postgres.visibility import Visible

log = structlog.get_logger("sluice.postgres")

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_NOW = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text, (extract(epoch FROM now()) * 1000000)::bigint"
_PARTS = "SELECT relid::oid FROM pg_partition_tree(%(oid)s::oid) UNION SELECT %(oid)s::oid"
_WRITERS = f"""
SELECT DISTINCT virtualtransaction, pid FROM pg_locks
WHERE locktype = 'relation' AND granted AND pid IS DISTINCT FROM pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND relation IN ({_PARTS})
  AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""
_STILL = "SELECT DISTINCT virtualtransaction, pid FROM pg_locks WHERE virtualtransaction = ANY(%s)"
# The catalogue's rows are seen with the snapshot, pg_relation_filenode() sees what is now.
_REWRITTEN = (
    f"SELECT EXISTS (SELECT FROM pg_class c WHERE c.oid IN ({_PARTS}) AND c.relfilenode <> coalesce(pg_relation_filenode(c.oid), 0))"
)

Stopped = Callable[[], bool]
Pause = Callable[[float], None]


class Copier:
    """Makes the copies of one source and hands them out. `make_first` runs in the supervisor's thread, `make` in one of its own."""

    def __init__(
        self,
        server: Server,
        source: str,
        publication: str,
        comment: str | None,
        roster: Roster,
        desk: CopyDesk,
        handouts: Handouts,
        stopped: Stopped,
        settled: Callable[[], bool],
        passed: Callable[[int], bool],
    ) -> None:
        """Two questions are for the stream's taker: whether what was due is in the journal, and whether a position has been passed.

        `comment` is the mark of a publication of ours, None where nothing may be changed.
        """
        self._server = server
        self._source = source
        self._publication = publication
        self._comment = comment
        self._roster = roster
        self._desk = desk
        self._handouts = handouts
        self._stopped = stopped
        self._settled = settled
        self._passed = passed
        self._log = log.bind(source=source)

    def make_first(self, snapshot: Snapshot, labels: Sequence[str]) -> None:
        """Copies tables as of the slot's consistent point. Those that this fails for are left to `make`."""
        left = list(labels)
        self._roster.initial(left)
        try:
            with closing(self._server.connect(snapshot.place)) as connection:
                while left and not self._stopped():
                    self._first(connection, snapshot, left[0])
                    left.pop(0)
        except (TransientError, TerminalError) as error:
            self._log.warning("a copy broke off and is made again while streaming", table=left[0], error=error.message)
        if self._stopped():
            return
        for label in left:
            self._desk.request(TableCopy(label, first=not self._roster.copied_before(label)))
            self._roster.copied(label)

    def _first(self, connection: Connection, snapshot: Snapshot, label: str) -> None:
        first = not self._roster.copied_before(label)
        with self._transaction(connection):
            with self._server.told():
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot.name)))
                _, _, now = _one(connection, _NOW)
            table, schema = self._look(connection, label)
            self._roster.admit(table, schema)
            marker = CopyMarker(schema, self._source, label, "start", 0, first)
            self._handouts.put([marker])
            try:
                done = self._rows(connection, table, schema, snapshot.lsn, now, None)
            except BaseException:
                self._handouts.put([replace(marker, phase="abandoned", first=False)])
                raise
            if done:
                self._handouts.put([replace(marker, phase="end", first=False)])
                self._roster.copied(label)

    def make(self, copy: TableCopy, pause: Pause) -> None:
        """Makes one copy beside the stream, and again when it breaks, until it is whole. Stops a table that the server refuses."""
        tries = 0
        while not self._stopped() and not copy.void:
            try:
                self._attempt(copy, pause)
                return
            except TransientError as error:
                self._log.warning("a copy broke off and is made again", table=copy.table, error=error.message)
            except TerminalError as error:
                self._give_up(copy)
                self._desk.withdraw(copy)
                if copy.sink is None:
                    self._roster.refuse(copy.table, str(error))
                else:
                    self._log.error("a copy is not possible", table=copy.table, sink=copy.sink, error=str(error))
                return
            self._give_up(copy)
            tries += 1
            pause(min(10.0, 0.2 * 2**tries))
        self._desk.withdraw(copy)

    def _attempt(self, copy: TableCopy, pause: Pause) -> None:
        with closing(self._server.connect()) as connection:
            oid = self._publish(connection, copy.table, pause)
            self._desk.watch(copy)
            self._outlast_writers(connection, oid, copy, pause)
            found: list[tuple[Table, int, int]] = []

            def look() -> tuple[Visible, TableSchema]:
                with self._server.told():
                    visible, lsn, now = _one(connection, _NOW)
                table, schema = self._look(connection, copy.table)
                found.append((table, lsn_number(lsn), now))
                return Visible(visible), schema

            while not self._settle(connection, copy, look) and not self._stopped():
                pause(0.02)
            if self._stopped():
                return
            table, lsn, now = found[-1]
            assert copy.schema is not None  # noqa: S101  (set by settle)
            self._log.info("copying beside the stream", table=copy.table, sink=copy.sink)
            self._roster.admit(table, copy.schema)
            if not self._rows(connection, table, copy.schema, lsn, now, copy.sink):
                return
            with self._server.told():
                connection.execute("COMMIT")
                flush(connection)  # the stream gets no further than what is flushed
        while not self._passed(lsn) and not self._stopped():
            pause(0.02)
        self._handouts.put(lambda: self._desk.finish(copy))

    def _settle(self, connection: Connection, copy: TableCopy, look: Callable[[], tuple[Visible, TableSchema]]) -> bool:
        """Opens a transaction whose snapshot is good for the copy; False, and none is open, if it has to be tried again."""
        with self._server.told():
            connection.execute(_BEGIN)
        if self._desk.settle(copy, look):
            return True
        with self._server.told():
            connection.execute("ROLLBACK")
        return False

    def _publish(self, connection: Connection, label: str, pause: Pause) -> int:
        """The table's oid, once the publication has it."""
        while not self._settled() and not self._stopped():
            pause(0.02)
        with self._server.told():
            publication = read_publication(connection, self._publication)
            table = read_tables(connection, [self._roster.oid(label)], publication).get(self._roster.oid(label))
        if table is None or table.label != label:
            raise Refused(f"{label} is not there any more")
        if table.published is None:
            if publication is None or self._comment is None or not is_ours(publication, self._comment):
                hint = addition(self._publication, [table])
                raise Refused(f"the publication {self._publication} does not have {label}", hint=hint)
            run(self._server, connection, [addition(self._publication, [table])])
        return table.oid

    def _outlast_writers(self, connection: Connection, oid: int, copy: TableCopy, pause: Pause) -> None:
        """Waits for the transactions that hold a lock for writing to the table now.

        Locks outlive the moment at which a commit becomes visible, so that whatever the stream has brought by now is visible then.
        """
        began = told = time.monotonic()
        with self._server.told():
            writers = {row[0] for row in connection.execute(_WRITERS, {"oid": oid})}
            while writers and not self._stopped():
                still = connection.execute(_STILL, [list(writers)]).fetchall()
                writers &= {row[0] for row in still}
                self._desk.forget_seen(copy, Visible(_one(connection, _NOW)[0]))
                if writers and time.monotonic() - told > (1.0 if told == began else 10.0):
                    told = time.monotonic()
                    pids = sorted({pid for _, pid in still if pid is not None}) or "prepared transactions"
                    self._log.warning("a copy waits for open transactions that wrote to the table", table=copy.table, pids=pids)
                if writers:
                    pause(0.05)

    def _look(self, connection: Connection, label: str) -> tuple[Table, TableSchema]:
        """The table as the open snapshot sees it."""
        generated = connection.info.server_version >= 180000
        with self._server.told():
            publication = read_publication(connection, self._publication)
            table = read_tables(connection, [self._roster.oid(label)], publication).get(self._roster.oid(label))
        if table is None:
            raise Refused(f"{label} is not there any more")
        return table, table.as_schema(self._roster.dataset(label), self._roster.key(label), generated)

    def _rows(self, connection: Connection, table: Table, schema: TableSchema, lsn: int, now: int, sink: str | None) -> bool:
        """Hands out the table's rows in the open snapshot. False: asked to stop before the end."""
        generated = connection.info.server_version >= 180000
        columns = table.columns(generated)
        progress = self._roster.progress(table.label)
        progress.total = self._estimate(connection, table)
        for rows in copy_rows(self._server, connection, copy_query(table, columns), len(columns), self._stopped):
            batch = read_batch(schema, self._source, table.label, rows.columns, rows.count, lsn=lsn, nth=progress.rows, now=now)
            defects = tuple(replace(defect, column=schema.columns[place].name) for place, defect in rows.defects)
            batch = replace(batch, defects=defects, sink=sink)
            if not self._handouts.put([batch], batch.nbytes):
                return False
            _advance(progress, rows.count, rows.nbytes)
        if self._stopped():
            return False
        with self._server.told():
            if _one(connection, _REWRITTEN, {"oid": table.oid})[0]:
                raise TransientError(f"{table.label} was truncated or rewritten while it was copied")
        progress.total = progress.rows
        self._log.info("copied", table=table.label, sink=sink, rows=progress.rows, bytes=progress.nbytes)
        return True

    def _estimate(self, connection: Connection, table: Table) -> int | None:
        with self._server.told():
            plan: Any = _one(connection, sql.SQL("EXPLAIN (FORMAT JSON) {}").format(select_query(table, ())))[0]
        return int(plan[0]["Plan"]["Plan Rows"])

    def _give_up(self, copy: TableCopy) -> None:
        """Tells the journal, after all that was handed out of it, that a copy which had begun is given up."""
        if copy.snapshot is None:
            return
        taken = threading.Event()

        def abandoned() -> Sequence[CopyMarker]:
            marker = self._desk.abandon(copy)
            taken.set()
            return [marker]

        if self._handouts.put(abandoned):
            while not taken.wait(0.1) and not self._stopped():
                pass

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        with self._server.told():
            connection.execute(_BEGIN)
        try:
            yield
        except SluiceError:
            connection.close()
            raise
        if not connection.closed:
            with self._server.told():
                connection.execute("COMMIT")


def read_batch(
    schema: TableSchema, source: str, label: str, columns: Sequence[Any], count: int, *, lsn: int, nth: int, now: int
) -> ChangeBatch:
    """Copied rows as a batch; nth counts from `nth`."""
    return ChangeBatch(
        schema=schema,
        source=source,
        table=label,
        op=np.full(count, Op.READ, np.uint8),
        lsn=np.full(count, lsn, np.int64),
        nth=np.arange(nth, nth + count, dtype=np.int64),
        time=np.full(count, now, np.int64),
        ordinal=np.zeros(count, np.int64),
        columns=tuple(columns),
    )


def _advance(progress: Progress, rows: int, nbytes: int) -> None:
    progress.rows += rows
    progress.nbytes += nbytes


def _one(connection: Connection, query: Any, values: Any = None) -> tuple[Any, ...]:
    row = connection.execute(query, values).fetchone()
    assert row is not None  # noqa: S101  (these queries always have one)
    return row
