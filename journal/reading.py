"""The readers' end of the embedded journal: any number of processes, while ingest writes."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from journal import ledger, lookups, quarantine, sitting, store, waiting
from journal.batch import ChangeBatch, CopyMarker
from journal.codec import Row, Stream, decode
from journal.grouping import Group, grouped, in_order
from journal.known import Known, Streams, known_of
from journal.lanes import Lanes
from journal.ledger import Minute, Tally
from journal.quarantine import Cause, QuarantineRecord, Values, Wanted
from journal.sealing import Seal
from journal.trouble import damaged, reported
from pipeline.errors import JournalError

_MOST_ENTRIES = 20_000  # of one read
PIECES = 1000
"""Entries that one batch becomes at most: of its pieces for the partitions the first need not have its first change."""
_PAYLOAD = "seq, stream, kind, rows, op, lsn, nth, time, ordinal, payload"


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Consecutive entries (seq, entry) for one sink, read up to and with `last`.

    Neighbouring batches of a dataset are joined, and have the seq of the last of them; the order of a dataset's changes is kept, that of
    different datasets is not. `whole`: `last` is where a commit of ingest ended; else more of it follows. `common`: these are
    entries that concern all partitions, and nothing else.
    """

    entries: Sequence[tuple[int, ChangeBatch | CopyMarker]]
    last: int
    whole: bool
    common: bool = False


class JournalReader:
    """A sink's, or a command's, view of the journal. One thread at a time. Changes nothing, and never keeps ingest waiting."""

    def __init__(self, folder: Path, pipeline: str) -> None:
        self._path = folder / store.FILE
        self._db = store.open_for_reading(folder, pipeline)
        self._inode = _inode(self._path)
        self.seal = Seal(folder)
        self._streams = Streams(self._db)
        self._version = 0
        with self._view():
            self.id: str = self._db.execute("select value from kept where name = 'id'").fetchone()[0]

    @classmethod
    def open(cls, folder: Path, pipeline: str) -> JournalReader:
        """Raises JournalError where there is no journal, or one that is damaged, newer, or another pipeline's."""
        return cls(folder, pipeline)

    @contextmanager
    def _view(self) -> Iterator[sqlite3.Connection]:
        """One state of the journal, held no longer than needed: the log cannot be taken back while somebody looks at it."""
        with reported(self._path):
            self._db.execute("begin")
            try:
                yield self._db
            finally:
                if self._db.in_transaction:
                    self._db.execute("rollback")

    @contextmanager
    def view(self) -> Iterator[tuple[sqlite3.Connection, Streams]]:
        """One state of the journal, for the other modules of this room; see `following`."""
        with self._view() as db:
            yield db, self._streams

    def last_seq(self) -> int:
        """The newest entry; 0 where there was never one."""
        with self._view() as db:
            return store.last_seq(db)

    def first_seq(self) -> int:
        """The oldest entry that is still there; the one after the last where there is none."""
        with self._view() as db:
            first = db.execute("select min(seq) from entry").fetchone()[0]
            return store.last_seq(db) + 1 if first is None else int(first)

    def copied(self) -> bool:
        """Whether this is a copy of topics, which may hold less than they do."""
        with self._view() as db:
            return db.execute("select 1 from kept where name = 'commit'").fetchone() is not None

    def gone(self) -> bool:
        """Whether the file was removed since this was opened, or made anew: nothing comes into it any more."""
        return _inode(self._path) != self._inode

    def changed(self) -> bool:
        """Whether ingest has committed anything since this was last asked. Takes microseconds."""
        with reported(self._path):
            version: int = self._db.execute("pragma data_version").fetchone()[0]
        changed, self._version = version != self._version, version
        return changed

    def read(self, after: int, *, max_bytes: int, sink: str, lanes: Lanes | None = None) -> Stretch:
        """The entries for a sink behind `after`, about `max_bytes` of them, to the end of a commit where that lies within.

        Entries for other sinks are passed over. With `lanes` those of the worker's partitions, up to the next that concerns all: that is
        the end of a stretch, and those entries are one of their own. Raises JournalError where entries behind `after` have been pruned.
        """
        with self._view() as db:
            if lanes is not None:
                return self._read_lanes(db, after, max_bytes, sink, lanes)
            last, whole = self._reach(after, max_bytes, sink)
            if last == after:
                return Stretch((), after, True)
            found = db.execute(f"select {_PAYLOAD} from entry where seq > ? and seq <= ? order by seq", (after, last))
            groups = grouped((row for row in found if self._streams[row[1]].sink in (None, sink)), self._streams)
        return Stretch([(group.seq, self._entry(group)) for group in groups], last, whole)

    def _read_lanes(self, db: sqlite3.Connection, after: int, max_bytes: int, sink: str, lanes: Lanes) -> Stretch:
        last, whole, common = self._reach_lanes(after, max_bytes, sink, lanes)
        if last == after:
            return Stretch((), after, True)
        mine = [
            number
            for number, stream in self._streams.all().items()
            if stream.sink in (None, sink)
            and (stream.partition is None if common else stream.partition is not None and stream.partition % lanes.of == lanes.worker)
        ]
        places = ", ".join(map(str, mine))  # the payloads of others stay on disk
        found = db.execute(
            f"select {_PAYLOAD} from entry where seq > ? and seq <= ? and stream in ({places}) order by seq", (after, last)
        ).fetchall()
        groups = grouped((row for row in found if common or self._wanted(row[1], row[0], lanes)), self._streams)
        return Stretch([(group.seq, self._entry(group)) for group in groups], last, whole, common)

    def _wanted(self, stream: int, seq: int, lanes: Lanes) -> bool:
        partition = self._streams[stream].partition
        return partition is not None and lanes.takes(partition, seq)

    def _reach_lanes(self, after: int, max_bytes: int, sink: str, lanes: Lanes) -> tuple[int, bool, bool]:
        """How far to read, whether to commit there, and whether what is there concerns all."""
        last = whole = after
        room = max_bytes
        common: bool | None = None
        for seq, stream, size, committed in self._behind(after):
            found = self._streams[stream]
            if found.sink in (None, sink):
                if common is None:
                    common = found.partition is None
                if common != (found.partition is None):
                    return last, True, common
                if common and seq > lanes.together >= last and last > after:
                    return last, True, True  # up to there it has been written
                if common or self._wanted(stream, seq, lanes):
                    room -= size
            elif common is None:
                common = False
            last = seq
            if committed is not None:
                whole = seq
            if room <= 0 or seq - after >= _MOST_ENTRIES:
                break
        if common:
            return last, True, True
        return (whole, True, False) if whole > after else (last, last == after, False)

    def _behind(self, after: int) -> Iterator[tuple[int, int, int, int | None]]:
        """Entries without what is in them."""
        newest = store.last_seq(self._db)  # a copy of topics can hold more, which does not count yet
        found = self._db.execute("select seq, stream, bytes, committed from entry where seq > ? and seq <= ? order by seq", (after, newest))
        last = after
        for entry in found:
            if entry[0] != last + 1:
                raise self._gap(after, entry[0]) if last == after else damaged(self._path, f"entry {last + 1} is missing")
            last = entry[0]
            yield entry
        if last == after and newest > after:
            raise self._gap(after, newest + 1)

    def _reach(self, after: int, max_bytes: int, sink: str) -> tuple[int, bool]:
        """How far to read, and whether a commit ends there."""
        last = whole = after
        room = max_bytes
        for seq, stream, size, committed in self._behind(after):
            last = seq
            if committed is not None:
                whole = seq
            if self._streams[stream].sink in (None, sink):
                room -= size
            if room <= 0 or seq - after >= _MOST_ENTRIES:
                break
        return (whole, True) if whole > after else (last, last == after)

    def _gap(self, after: int, first: int) -> JournalError:
        return JournalError(
            f"{self._path} has forgotten the entries {after + 1} to {first - 1}",
            hint="start the sink's process again: it asks for a new copy of what it lacks",
        )

    def _entry(self, group: Group) -> ChangeBatch | CopyMarker:
        if group.kind != store.MARKER:
            return self.decoded(group.rows, group.stream, group.first, group.seq)
        return self.marker(group.seq, group.stream, group.rows[0].ordinal, group.rows[0].payload)

    def marker(self, seq: int, stream: Stream, ordinal: int, payload: bytes) -> CopyMarker:
        """The marker in an entry. Raises JournalError for one that is not as it was written."""
        try:
            told = json.loads(payload)
        except ValueError as error:
            raise damaged(self._path, f"the entry {seq} cannot be read: {error}") from error
        return CopyMarker(stream.schema, stream.source, stream.table, told["phase"], ordinal, told["first"], stream.sink)

    def decoded(self, rows: Sequence[Row], stream: Stream, first: int, last: int | None = None) -> ChangeBatch:
        """The changes of the entries `first` to `last`. Raises JournalError for what is not as it was written."""
        try:
            return in_order(decode(rows, stream))
        except ValueError as error:
            raise damaged(self._path, f"the entries {first} to {last or first} cannot be read: {error}") from error

    def lag(self, seq: int) -> tuple[int, float]:
        """How many entries are behind `seq`, and how many seconds ago the first of them was committed."""
        with self._view() as db:
            behind = store.last_seq(self._db) - seq
            if behind <= 0:
                return 0, 0.0
            oldest = db.execute(
                "select committed from entry where seq > ? and committed is not null order by seq limit 1", (seq,)
            ).fetchone()
        return behind, max(0.0, time.time() - oldest[0] / 1e6) if oldest else 0.0

    def ordinal_at(self, seq: int) -> int:
        """No change in an entry behind `seq` has this ordinal or a lower one; those up to `seq` have no higher one."""
        with self._view() as db:
            behind = f"select min(ordinal) from (select ordinal from entry where seq > ? and kind = ? order by seq limit {PIECES})"
            found = db.execute(f"select coalesce(({behind}), max(next_ordinal), 1) from position", (seq, store.CHANGES)).fetchone()
        return int(found[0]) - 1

    def lookup(self, name: str) -> Iterator[ChangeBatch | CopyMarker]:
        """What is kept of a lookup, in order and in one state of the journal: nothing else is to be asked meanwhile."""
        with self._view() as db:
            yield from lookups.entries(db, self._streams, name)

    def resume(self, source: str) -> Known:
        """What the journal knows of a source."""
        with self._view() as db:
            return known_of(db, source)

    def totals(self) -> dict[str, Tally]:
        """Counts by dataset since the journal began."""
        with self._view() as db:
            return ledger.totals(db)

    def balance(self) -> tuple[int, dict[str, Tally]]:
        """The newest entry, and the counts by dataset up to just there: what is to add up must be of one moment."""
        with self._view() as db:
            return store.last_seq(db), ledger.totals(db)

    def rule_totals(self, dataset: str) -> dict[str, Tally]:
        """Counts by rule of a dataset since the journal began."""
        with self._view() as db:
            return ledger.rule_totals(db, dataset)

    def minutes(self, dataset: str, since: float, rule: str = "") -> list[Minute]:
        """Counts of a dataset, or one of its rules, by minute (long ago: by hour) since a time in seconds since 1970."""
        with self._view() as db:
            return ledger.minutes(db, dataset, since, rule)

    def quarantined(self, wanted: Wanted, after: int = 0, limit: int = 1000) -> list[QuarantineRecord]:
        """Records in the order of the stream, from behind the ordinal `after`."""
        with self._view() as db:
            return quarantine.listed(db, wanted, after, limit, self.seal)

    def record(self, name: str) -> QuarantineRecord | None:
        """The record with this id."""
        with self._view() as db:
            return quarantine.record(db, name, self.seal)

    def newer(self, records: Sequence[QuarantineRecord]) -> frozenset[str]:
        """The ids of those of the records of which a newer change has passed: of their key, or of the one before."""
        with self._view() as db:
            return sitting.newer_than(db, records)

    def causes(self, dataset: str | None = None) -> list[Cause]:
        """Why open records are where they are, the most frequent cause first."""
        with self._view() as db:
            return quarantine.causes(db, dataset)

    def open_quarantine(self) -> dict[str, int]:
        """How many records of each dataset wait for somebody."""
        with self._view() as db:
            return quarantine.open_records(db)

    def statuses(self, *statuses: str) -> dict[str, int]:
        """How many records of each dataset have one of these statuses."""
        with self._view() as db:
            return quarantine.with_status(db, statuses)

    def quarantined_keys(self, dataset: str) -> list[Values]:
        """The keys of a dataset's open records; of a changed key the former one, too."""
        with self._view() as db:
            found = [*quarantine.open_keys(db, dataset), *sitting.keys(db, dataset)]
        return list({quarantine.key_text(key): key for key in found}.values())

    def mended(self, ordinals: Sequence[int]) -> set[int]:
        """Which of these are records that were released with values of their owner's."""
        with self._view() as db:
            return quarantine.mended(db, ordinals)

    def discarded(self, dataset: str) -> list[tuple[Values, int]]:
        """The keys and ordinals of a dataset's records that were given up; of a changed key the former one, too."""
        with self._view() as db:
            return sitting.given_up(quarantine.discarded(db, dataset), self.seal)

    def waiting(self) -> dict[str, int]:
        """How many rows of each dataset wait for a lookup."""
        with self._view() as db:
            return waiting.count(db)

    def waiting_rows(self, dataset: str) -> list[ChangeBatch]:
        """The rows of a dataset that do."""
        with self._view() as db:
            found = waiting.read(db, self._streams) if waiting.count(db) else []
        return [batch for _, _, batch in found if batch.dataset == dataset]

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
