"""What processes say of themselves and ask of each other: everything that is not the changes themselves.

SQLAlchemy over `state.db` in the state folder. Several processes write, each its own rows, in transactions of milliseconds. Losing this
file loses no change: what a sink holds is what the sink says.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.schema import CreateIndex, CreateTable

from journal.passages import Passage, note, passage_table
from journal.quarantine import COLUMNS, Cause, QuarantineRecord, Reason, Values, Wanted, from_row, to_row, values_of
from journal.trouble import may_write, reading_uri, told
from pipeline.errors import JournalError, TerminalError

FILE = "state.db"
_FORMAT = 1
EVERY_SINK = "*"
"""Stands for a sink where a copy is asked for that all of them get."""
_PATIENCE = 10.0  # seconds for another process's transaction
_WAY_OUT = (
    "put the whole state folder back from a backup; or stop everything, move this one file away and start again: no change is lost,"
    " but what sinks have refused is not listed any more"
)

_tables = sa.MetaData()
_source = sa.Table(
    "source",
    _tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)
_sink = sa.Table(
    "sink",
    _tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("journal", sa.Text),
    sa.Column("seq", sa.BigInteger),
    sa.Column("cursor", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("updated_at", sa.Float, nullable=False),
)
_request = sa.Table(
    "copy_request",
    _tables,
    sa.Column("sink", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("requested_at", sa.Float, nullable=False),
    sa.Column("done_at", sa.Float),
)
_passed = passage_table(_tables)
_NUMBERS = {"ordinal": sa.BigInteger(), "committed_at": sa.BigInteger(), "attempts": sa.Integer()}
_TIMES = {"resolved_at": sa.Float(), "quarantined_at": sa.Float()}
_refused = sa.Table(
    "refused",
    _tables,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("sink", sa.Text, nullable=False),
    sa.Column("journal", sa.Text, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    *(sa.Column(name, (_NUMBERS | _TIMES).get(name, sa.Text())) for name in COLUMNS if name != "id"),
    sa.Index("refused_by_cause", "sink", "dataset", "status", "cause"),
    sa.Index("refused_in_order", "ordinal", "id"),
)
# a refused row counts once its sink has committed what came with it: until then it may be offered again, and taken
_settled = (
    sa.select(_refused)
    .join(_sink, sa.and_(_sink.c.name == _refused.c.sink, sa.func.substr(_sink.c.journal, 1, 8) == _refused.c.journal))
    .where(_refused.c.seq <= _sink.c.seq)
)


class SourceReport(dict[str, Any]):
    """The status of a source as JSON values, and when it was told."""

    def __init__(self, status: Mapping[str, Any], updated_at: float) -> None:
        super().__init__(status)
        self.updated_at = updated_at


@dataclass(frozen=True, slots=True)
class SinkProgress:
    """How far a sink is: `cursor` is what its target holds, in its own encoding, `seq` the entry of `journal` in it."""

    name: str
    journal: str | None
    seq: int
    cursor: str | None
    state: str
    error: str | None
    updated_at: float


class State:
    """The state of a pipeline. Any thread, any number of processes; before anything has run everything is empty.

    Raises JournalError for a file that is damaged or of a newer version, TransientError where it is locked for long or the disk is
    full, TerminalError where it cannot be opened or written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._engine = sa.create_engine("sqlite://", creator=self._connect, poolclass=sa.QueuePool, pool_size=2)
        sa.event.listen(self._engine, "connect", self._connected)

    @classmethod
    def open(cls, folder: Path) -> State:
        """The state in a folder; its file is made by the first write."""
        return cls(folder)

    def _connect(self) -> sqlite3.Connection:
        here = may_write(self._path.parent)
        address = self._path.absolute().as_uri() if here else reading_uri(self._path)
        return sqlite3.connect(address, uri=True, timeout=_PATIENCE, check_same_thread=False)

    def _connected(self, connection: sqlite3.Connection, record: object) -> None:
        connection.execute("pragma synchronous = full")
        version = connection.execute("pragma user_version").fetchone()[0]
        if version > _FORMAT:
            raise JournalError(
                f"{self._path} was made by a newer Sluice (format {version}, this one knows {_FORMAT})", hint="upgrade this installation"
            )

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        if not self._path.exists():
            _make(self._path)
        with _reported(self._path), self._engine.begin() as connection:
            yield connection

    def _read(self, query: sa.Executable) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with _reported(self._path), self._engine.connect() as connection:
            result = connection.execute(query)
            names = list(result.keys())
            return [dict(zip(names, row, strict=True)) for row in result]

    def source_status(self, name: str, status: Mapping[str, Any]) -> None:
        """What a source says of itself; JSON values."""
        with self._writing() as connection:
            _put(connection, _source, name, {"status": json.dumps(status), "updated_at": time.time()})

    def sources(self) -> dict[str, SourceReport]:
        """The last status of each source."""
        return {row["name"]: SourceReport(json.loads(row["status"]), row["updated_at"]) for row in self._read(sa.select(_source))}

    def sink_progress(
        self,
        name: str,
        *,
        state: str,
        error: str | None,
        journal: str,
        seq: int,
        cursor: str | None,
        passage: Passage | None = None,
        oldest: int = 0,
    ) -> None:
        """How a sink does. Without a cursor, what was known of what the target holds stays.

        `passage` is kept as a line of when it had what; `oldest` is the first entry that the journal still has.
        """
        values: dict[str, Any] = {"state": state, "error": error, "updated_at": time.time()}
        if cursor is not None:
            values |= {"journal": journal, "seq": seq, "cursor": cursor}
        with self._writing() as connection:
            _put(connection, _sink, name, values)
            if passage is not None:
                note(connection, _passed, name, journal, passage, oldest)

    def passages(self, sink: str, journal: str) -> list[Passage]:
        """When a sink had what of a journal, oldest first; see passages.py."""
        if not self._read(sa.text("select 1 as found from sqlite_master where name = 'passed'")):
            return []  # made before there were lines
        chosen = sa.select(_passed.c.seq, _passed.c.at, _passed.c.ordinal).where(_passed.c.sink == sink, _passed.c.journal == journal)
        return [Passage(**row) for row in self._read(chosen.order_by(_passed.c.seq))]

    def sinks(self) -> dict[str, SinkProgress]:
        """How far each sink is, by name."""
        return {row["name"]: SinkProgress(**{**row, "seq": row["seq"] or 0}) for row in self._read(sa.select(_sink))}

    def passed(self, journal: str, sinks: Sequence[str]) -> int | None:
        """The last entry of the journal that every one of the sinks holds; None where one of them has said nothing yet."""
        known = self.sinks()
        seqs = [known[name].seq for name in sinks if name in known and known[name].journal == journal]
        return min(seqs) if seqs and len(seqs) == len(sinks) else None

    def request_copies(self, sink: str, datasets: Sequence[str]) -> None:
        """Whole copies of datasets are needed, for a sink of its own or for EVERY_SINK; one that is being made already is none of them."""
        asked = {"requested_at": time.time(), "done_at": None}
        with self._writing() as connection:
            for dataset in datasets:
                made = insert(_request).values(sink=sink, dataset=dataset, **asked)
                connection.execute(made.on_conflict_do_update(index_elements=["sink", "dataset"], set_=asked))

    def remind_of_copies(self, sink: str, datasets: Sequence[str]) -> None:
        """A sink waits for copies that it has requested before: what this file knows nothing of is requested anew."""
        with self._writing() as connection:
            for dataset in datasets:
                made = insert(_request).values(sink=sink, dataset=dataset, requested_at=time.time(), done_at=None)
                connection.execute(made.on_conflict_do_nothing())

    def copy_requests(self) -> dict[str, frozenset[str]]:
        """Sink -> the datasets that it still waits for."""
        rows = self._read(sa.select(_request).where(_request.c.done_at.is_(None)))
        return {sink: frozenset(row["dataset"] for row in rows if row["sink"] == sink) for sink in {row["sink"] for row in rows}}

    def copy_requested(self, sink: str, dataset: str) -> float | None:
        """When the copy was asked for that the sink still waits for, if it does."""
        chosen = sa.and_(_request.c.sink == sink, _request.c.dataset == dataset, _request.c.done_at.is_(None))
        return next((float(row["requested_at"]) for row in self._read(sa.select(_request).where(chosen))), None)

    def copies_done(self, sink: str, datasets: Sequence[str], requested: float | None = None) -> None:
        """The sink has the copies of these. With `requested`, only where nobody has asked again since (see `copy_requested`)."""
        with self._writing() as connection:
            chosen = sa.and_(_request.c.sink == sink, _request.c.dataset.in_(list(datasets)), _request.c.done_at.is_(None))
            if requested is not None:
                chosen = sa.and_(chosen, _request.c.requested_at == requested)
            connection.execute(sa.update(_request).where(chosen).values(done_at=time.time()))

    def keep_refused(self, sink: str, records: Sequence[QuarantineRecord], seq: int) -> None:
        """Rows of entry `seq` that a sink's target can't hold. Durable before the sink commits; harmless when told again."""
        rows = [{**to_row(record), "sink": sink, "journal": _journal_of(record), "seq": seq} for record in records]
        if rows:
            with self._writing() as connection:
                made = insert(_refused)
                again = {name: made.excluded[name] for name in ("seq", "reasons", "cause", "pattern")}
                connection.execute(made.on_conflict_do_update(index_elements=["id"], set_=again), rows)

    def forget_refused(self, sink: str, after: int) -> None:
        """What a sink refused behind entry `after` will be offered again: nothing of it has happened."""
        if self._path.exists():
            with self._writing() as connection:
                connection.execute(sa.delete(_refused).where(_refused.c.sink == sink, _refused.c.seq > after))

    def refused(self, wanted: Wanted, after: tuple[int, str] = (0, ""), limit: int = 1000) -> list[QuarantineRecord]:
        """Refused records in the order of the stream, from behind an (ordinal, id)."""
        place = sa.tuple_(_refused.c.ordinal, _refused.c.id) > sa.tuple_(*map(sa.literal, after))
        chosen = [_refused.c[column] == value for column, value in wanted.conditions.items()]
        rows = self._read(_settled.where(place, *chosen).order_by(_refused.c.ordinal, _refused.c.id).limit(limit))
        return [from_row(row, row["sink"]) for row in rows]

    def refused_record(self, name: str) -> QuarantineRecord | None:
        """The refused record with this id."""
        rows = self._read(_settled.where(_refused.c.id == name))
        return from_row(rows[0], rows[0]["sink"]) if rows else None

    def refused_causes(self, dataset: str | None = None) -> list[Cause]:
        """Why sinks refused rows that are still open, the most frequent cause first."""
        found = _settled.where(_refused.c.status == "open", *([_refused.c.dataset == dataset] if dataset else [])).subquery().c
        group = (found.cause, found.dataset, found.sink, found.pattern)
        when = found.quarantined_at
        values = (sa.func.count().label("n"), sa.func.min(found.reasons), sa.func.min(when), sa.func.max(when))
        rows = [tuple(row.values()) for row in self._read(sa.select(*group, *values).group_by(*group).order_by(sa.desc("n"), found.cause))]
        return [
            Cause(cause, name, sink, Reason(**json.loads(reasons)[0]), pattern, records, first, last)
            for cause, name, sink, pattern, records, reasons, first, last in rows
        ]

    def open_refused(self) -> dict[tuple[str, str], int]:
        """(sink, dataset) -> how many refused records wait for somebody."""
        open_ = _settled.where(_refused.c.status == "open").subquery()
        rows = self._read(sa.select(open_.c.sink, open_.c.dataset, sa.func.count().label("n")).group_by(open_.c.sink, open_.c.dataset))
        return {(row["sink"], row["dataset"]): row["n"] for row in rows}

    def refused_keys(self, sink: str, dataset: str) -> list[Values]:
        """The keys of the open records of a dataset that a sink refused."""
        chosen = _settled.where(_refused.c.sink == sink, _refused.c.dataset == dataset, _refused.c.status == "open")
        rows = self._read(chosen.with_only_columns(_refused.c.key))
        return [values_of(row["key"]) or {} for row in rows]

    def close(self) -> None:
        self._engine.dispose()


def _put(connection: sa.Connection, table: sa.Table, name: str, values: Mapping[str, Any]) -> None:
    connection.execute(insert(table).values(name=name, **values).on_conflict_do_update(index_elements=["name"], set_=dict(values)))


def _journal_of(record: QuarantineRecord) -> str:
    return record.id.partition("-")[0]


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not isinstance(error.orig, sqlite3.Error) or not hasattr(error.orig, "sqlite_errorcode"):
            raise  # a mistake in the use of the library, not trouble with the file
        raise told(path, error.orig, _WAY_OUT) from error


def _url(path: Path) -> sa.URL:
    return sa.URL.create("sqlite", database=str(path))


def _make(path: Path) -> None:
    """Whole, under another name, and then in its place unless another process was quicker."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(_url(fresh), poolclass=sa.NullPool)
        try:
            with _reported(path), engine.begin() as connection:
                connection.exec_driver_sql("pragma journal_mode = wal")
                connection.exec_driver_sql(f"pragma user_version = {_FORMAT}")
                for table in _tables.sorted_tables:
                    connection.execute(CreateTable(table))
                    for index in table.indexes:
                        connection.execute(CreateIndex(index))
            with suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise TerminalError(f"{path} cannot be made: {error.strerror}", hint="make the state folder writable") from error
