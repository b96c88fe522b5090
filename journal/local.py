"""The embedded journal: one SQLite file between ingest, which writes it, and the sinks, which read it.

What ingest commits at once, changes, position, quarantine and counts, is in the file whole or not at all, whatever is killed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType

from journal import evidence, held, quarantine, store
from journal.batch import ChangeBatch, CopyMarker
from journal.codec import Row, encode
from journal.known import Known, Streams, known_of
from journal.ledger import Ledger, coarsen
from journal.locks import ProcessLock
from journal.lookups import LookupLog
from journal.partition import Pieces, parts
from journal.publication import Closing, Publication
from journal.quarantine import QuarantineRecord, Values
from journal.reading import JournalReader
from journal.schema import TableSchema
from journal.sealing import Seal
from journal.sitting import SittingKeys
from journal.space import Space
from journal.store import journal_exists
from journal.trouble import reported
from journal.waiting import WaitingRows
from pipeline.errors import SluiceError
from pipeline.model import JournalConfig

__all__ = ["JournalReader", "JournalWriter", "journal_exists"]

_ENTRY = "insert into entry values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_POSITION = "insert or replace into position values (?, ?, ?, ?, ?, ?)"
_BESIDE = """
update position set last_seq = ?, next_ordinal = ?, age = ?, wall = ?
where source = (select source from position order by last_seq desc, source limit 1)
"""
_HELD = "insert into held (stream, rows, op, lsn, nth, time, ordinal, payload) values (?, ?, ?, ?, ?, ?, ?, ?)"
_COARSEN_EVERY = 3600.0
_MOST_BYTES = 64 << 20  # of one entry, where it has more than one row
_MOST_BYTES_SPREAD = 800_000  # where it is to fit into a message


class JournalWriter:
    """Ingest's end of the journal; there is one for each pipeline. One thread at a time. Counts go into its `ledger`.

    Promise: `commit` makes everything since the last one durable together, in order, and readers see all of it or nothing. After an
    error nothing of the open transaction stays.
    """

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        lock: Closing,
        limits: JournalConfig,
        partitions: int = 0,
        publisher: Publication | None = None,
    ) -> None:
        """`db` is the file at `path`, which `lock` keeps others from writing. With a publisher a commit is its own first."""
        self._lock = lock
        self._partitions = partitions
        self._publisher = publisher
        self._path = path
        self._db = db
        self.ledger = Ledger()
        self.seal = Seal(path.parent)
        self._last: list[object] | None = None  # the newest entry, written once it is known whether a commit ends with it
        self._coarsen_at = 0.0
        with reported(self._path):
            self.id: str = self._db.execute("select value from kept where name = 'id'").fetchone()[0]
            age, wall = self._db.execute("select age, wall from position union all select 0.0, 0.0 order by age desc").fetchone()
            self._age = age + (max(0.0, time.time() - wall) if wall else 0.0) - time.monotonic()
            self.lookups = LookupLog(self._db, self._writing, self._beside, lambda: self._streams)
            self.waiting = WaitingRows(self._db, self._writing, self._beside, lambda: self._streams)
            self.sitting = SittingKeys(self._db, self._writing)
            self._load()
            self._space = Space(self._db, self._path, limits)

    @classmethod
    def open(cls, folder: Path, pipeline: str, limits: JournalConfig, *, partitions: int = 0) -> JournalWriter:
        """Opens the journal in `folder`, or makes it; its changes are spread over `partitions` (0: not).

        Raises AlreadyRunningError when another process has it, JournalError when it is damaged, newer or another pipeline's, TerminalError
        when it cannot be written.
        """
        with ExitStack() as kept:
            lock = kept.enter_context(ProcessLock(folder, "journal", f"ingest of {pipeline}"))
            db = kept.enter_context(closing(store.open_for_writing(folder, pipeline)))
            store.refuse_copy(db, folder)
            writer = cls(folder / store.FILE, db, lock, limits, partitions)
            kept.pop_all()
            return writer

    def _load(self) -> None:
        """What is kept in memory, as the last commit left it."""
        self._streams = Streams(self._db)
        self._ids = {(s.source, s.table, s.sink, s.partition, s.schema.encoded): number for number, s in self._streams.all().items()}
        self._schemas = {encoded: number for number, encoded in self._db.execute("select id, encoded from schema")}
        self._newest = {
            (source, table): schema for source, table, schema in self._db.execute("select source, table_name, schema from tables")
        }
        self._seq = store.last_seq(self._db)
        self._next_ordinal: int = self._db.execute("select coalesce(max(next_ordinal), 1) from position").fetchone()[0]
        self.ledger.forget()
        self.lookups.reload()
        self.sitting.reload()
        self._last = None
        self._pieces = Pieces(self._partitions)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Inside the transaction, which is opened if none is. After an error of SQLite's nothing of it stays."""
        try:
            with reported(self._path):
                if not self._db.in_transaction:
                    self._db.execute("begin immediate")
                yield
        except SluiceError:
            self.rollback()
            raise

    def _stream(self, schema: TableSchema, source: str, table: str, sink: str | None, partition: int | None = None) -> int:
        """The number of a stream, made when it is new; the schema becomes the table's newest."""
        number = self._numbered(schema, source, table, sink, partition)
        if self._newest.get((source, table)) != self._schemas[schema.encoded]:
            newest = self._newest[source, table] = self._schemas[schema.encoded]
            self._db.execute(
                "insert into tables values (?, ?, ?, null) on conflict do update set schema = excluded.schema", (source, table, newest)
            )
        return number

    def _beside(self, schema: TableSchema, source: str, table: str) -> int:
        """The number of a stream of what is kept beside the entries, which says nothing of what the table looks like now."""
        return self._numbered(schema, source, table, None, None)

    def _numbered(self, schema: TableSchema, source: str, table: str, sink: str | None, partition: int | None) -> int:
        key = (source, table, sink, partition, schema.encoded)
        number = self._ids.get(key)
        if number is None:
            kept = self._schemas.get(schema.encoded)
            if kept is None:
                made = self._db.execute("insert into schema (dataset, encoded) values (?, ?)", (schema.dataset, schema.encoded))
                kept = self._schemas[schema.encoded] = made.lastrowid or 0
            made = self._db.execute(
                "insert into stream (source, table_name, sink, schema, partition) values (?, ?, ?, ?, ?)",
                (source, table, sink, kept, partition),
            )
            number = self._ids[key] = made.lastrowid or 0
        return number

    def _entry(self, stream: int, kind: int, row: Row) -> None:
        self._flush()
        self._seq += 1
        numbers = (row.op, row.lsn, row.nth, row.time, row.ordinal)
        self._last = [self._seq, stream, kind, row.rows, len(row.payload), *numbers, None, None, row.payload]

    def _flush(self) -> None:
        if self._last is not None:
            self._db.execute(_ENTRY, self._last)
            self._last = None

    @property
    def clock(self) -> float:
        """Seconds of the journal's own clock, which goes on while nothing runs and never goes back."""
        now: float = self._age + time.monotonic()
        return now

    @property
    def next_ordinal(self) -> int:
        """The ordinal after the newest change that was appended or counted."""
        return self._next_ordinal

    def resume(self, source: str) -> Known:
        """What the journal knows of a source."""
        with reported(self._path):
            return known_of(self._db, source)

    def held_tables(self, source: str) -> frozenset[str]:
        """Tables of a source for which changes are held, for all sinks."""
        with reported(self._path):
            return held.tables(self._db, source)

    def start_over(self, source: str, tables: Mapping[str, TableSchema], above: int) -> None:
        """For `resync`: forgets, durably, where a source stands; each of its tables (`tables`: as they are now) is to be copied again.

        What such a copy lacks goes from the sinks. A source without tables gives everything again by itself: what is held for it, too.
        Ordinals go on above `above`.
        """
        with self._writing():
            for table, schema in tables.items():
                self._stream(schema, source, table, None)
            if tables:
                self._db.execute("update tables set copy = 'begun' where source = ?", (source,))
            else:
                self._db.execute("delete from held where stream in (select id from stream where source = ?)", (source,))
            self._db.execute("delete from note where source = ?", (source,))
            self._db.execute("delete from waiting where stream in (select id from stream where source = ?)", (source,))
            if tables:
                self.lookups.unsettle(source)
        self._next_ordinal = max(self._next_ordinal, above + 1)
        self.commit(source, "")

    def append(self, batch: ChangeBatch, *, again: bool = False) -> None:
        """Changes for the sinks; `again`: those of records that were in quarantine, with the ordinals that they had.

        Raises ValueError unless ordinals go on increasing.
        """
        if not len(batch):
            return
        ordinals = batch.ordinal
        if (not again and ordinals[0] < self._next_ordinal) or not (ordinals[1:] > ordinals[:-1]).all():
            raise ValueError(f"ordinals of {batch.dataset} do not increase from {self._next_ordinal} on")
        for partition, piece in self._pieces.of(batch):
            for part in parts(piece, _MOST_BYTES_SPREAD if self._partitions else _MOST_BYTES):
                row = encode(part)
                with self._writing():
                    stream = self._stream(batch.schema, batch.source, batch.table, batch.sink, partition)
                    self._entry(stream, store.REPLAYED if again else store.CHANGES, row)
        self._next_ordinal = max(self._next_ordinal, int(ordinals[-1]) + 1)

    def mark(self, marker: CopyMarker) -> None:
        """A copy begins, ends, or is given up. When it begins or is given up, what is held for it is forgotten."""
        told = json.dumps({"phase": marker.phase, "first": marker.first}).encode()
        with self._writing():
            stream = self._stream(marker.schema, marker.source, marker.table, marker.sink)
            self._entry(stream, store.MARKER, Row(0, 0, 0, 0, 0, marker.ordinal, told))
            if marker.sink is None and marker.phase != "abandoned":
                copy = "begun" if marker.phase == "start" else "copied"
                self._db.execute("update tables set copy = ? where source = ? and table_name = ?", (copy, marker.source, marker.table))
            if marker.phase != "end":
                streams = self._streams.of(marker.source, marker.table, marker.sink)
                self._db.executemany("delete from held where stream = ?", [(number,) for number in streams])

    def hold(self, batch: ChangeBatch) -> None:
        """Keeps changes back until `released`. Their ordinals mean nothing yet."""
        for part in parts(batch, _MOST_BYTES):
            row = encode(part)
            with self._writing():
                self._db.execute(_HELD, (self._stream(batch.schema, batch.source, batch.table, batch.sink), *row))

    def released(self, source: str, table: str, sink: str | None) -> Iterator[ChangeBatch]:
        """The held changes of a table, in order, each forgotten as it is given; inside the open transaction.

        What is held meanwhile stays.
        """
        return held.released(self._db, self._writing, self._streams, (source, table, sink))

    def note(self, source: str, notes: Mapping[str, str]) -> None:
        """Keeps small facts of a source, by name; see Segment.notes."""
        with self._writing():
            self._db.executemany("insert or replace into note values (?, ?, ?)", [(source, *note) for note in notes.items()])

    def quarantine(self, records: Sequence[QuarantineRecord], of: ChangeBatch | None = None) -> None:
        """Keeps records that are not delivered, under the columns of a batch, if those are news. Ordinals go on above theirs."""
        if records:
            with self._writing():
                if of is not None and (of.source, of.table) not in self._newest:
                    self._stream(of.schema, of.source, of.table, None)
                evidence.hold(self._db, records, self.seal)
                self.sitting.add(records)
            self._next_ordinal = max(self._next_ordinal, 1 + max(record.ordinal for record in records))

    def open_keys(self, dataset: str) -> list[Values]:
        """The keys of a dataset's open records."""
        with reported(self._path):
            return quarantine.open_keys(self._db, dataset)

    def count(
        self,
        dataset: str,
        *,
        source: str,
        rows: int,
        first_ordinal: int,
        last_ordinal: int,
        quarantined: int = 0,
        dropped: Mapping[str, int] | None = None,
        warned: Mapping[str, int] | None = None,
        failed: Mapping[str, int] | None = None,
        evaluated: Mapping[str, int] | None = None,
        times: tuple[int, int] | None = None,
    ) -> None:
        """Counts changes that came in, `rows` in all, and others by rule id; `times` is their range of commit times (see Tally)."""
        rules = {"dropped": dropped or {}, "warned": warned or {}, "failed": failed or {}, "evaluated": evaluated or {}}
        with self._writing():
            self.ledger.count(dataset, source, rows, quarantined, (first_ordinal, last_ordinal), times, rules)
        self._next_ordinal = max(self._next_ordinal, last_ordinal + 1)

    @contextmanager
    def view(self) -> Iterator[sqlite3.Connection]:
        """As the journal is now, with what is open, for the other modules of this room, which change nothing."""
        with reported(self._path):
            yield self._db

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """The open transaction, for the other modules of this room."""
        with self._writing():
            yield self._db

    def commit(self, source: str, watermark: str) -> int:
        """Everything since the last commit becomes durable, with the source's position. Returns the seq of the last entry."""
        with self._writing():
            self._db.execute(_POSITION, (source, watermark, self._seq, self._next_ordinal, *self._end()))
            self._commit()
        return self._seq

    def commit_beside(self) -> int:
        """The same for what came of no source: all of them stand where they stood. Something must have come of one before."""
        with self._writing():
            self._db.execute(_BESIDE, (self._seq, self._next_ordinal, *self._end()))
            self._commit()
        return self._seq

    def _end(self) -> tuple[float, float]:
        """Writes what the open transaction has still in memory. Returns when it ends, by both clocks."""
        age, wall = self._age + time.monotonic(), time.time()
        if self._last is not None:
            self._last[-3:-1] = [int(wall * 1e6), age]
            self._flush()
        self.ledger.write(self._db, wall)
        return age, wall

    def _commit(self) -> None:
        if self._publisher is not None:
            self._publisher.publish(self._db)
        self._db.execute("commit")
        if self._publisher is not None:
            self._publisher.followed()

    def rollback(self) -> None:
        """Nothing since the last commit stays. Also right when nothing is open."""
        with reported(self._path):
            if self._db.in_transaction:
                self._db.execute("rollback")
            if self._publisher is not None:
                self._publisher.abandon()
            self._load()

    def size(self) -> int:
        """Bytes in use, as of the last `prune`. Any thread."""
        return self._space.used

    @property
    def full(self) -> bool:
        """Whether ingest has to wait: from `max_bytes` on, until a tenth of it is free again. As of the last `prune`."""
        return self._space.full

    def prune(self, passed: int | None) -> int:
        """Forgets entries up to `passed`, which every sink has, as far as retention is over or room is needed; a step that takes
        milliseconds. Returns how many went. Does nothing inside an open transaction.
        """
        if self._db.in_transaction:
            return 0
        if time.monotonic() >= self._coarsen_at:
            self._coarsen_at = time.monotonic() + _COARSEN_EVERY
            with self._writing():
                coarsen(self._db, time.time())
                self._commit()
        with reported(self._path):
            gone = self._space.prune(passed, self._age + time.monotonic())
        if self._publisher is not None:
            with self._writing():
                self._publisher.tend(self._db)
                self._db.execute("commit")
            self._publisher.followed()
        return gone

    @property
    def trouble(self) -> str | None:
        """Why a commit has not come through for a while. Any thread."""
        return None if self._publisher is None else self._publisher.trouble

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Rolls back what is open."""
        with ExitStack() as open_:
            open_.enter_context(closing(self._lock))
            open_.enter_context(closing(self._db))
            if self._publisher is not None:
                open_.enter_context(closing(self._publisher))
            if self._db.in_transaction:
                self._db.execute("rollback")
