"""A journal and its sinks in miniature: follows a source, keeps what a mirror of its tables would hold, and can be killed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from journal.batch import ChangeBatch, CopyMarker, Entry, Held, Op, Presence, Segment
from journal.schema import TableSchema
from sources.base import CopyState, Resume, SourceContext
from sources.postgres.config import PostgresConfig
from sources.postgres.session import SETTINGS
from sources.postgres.source import PostgresSource
from tests.fix_postgres import Database

Row = dict[str, str | None]
ABSENT = "(absent)"


@dataclass
class Mirror:
    """One table as a sink would hold it; without a key, rows are a multiset."""

    schema: TableSchema
    rows: dict[Any, tuple[int, Row]] = field(default_factory=dict)
    loose: list[tuple[int, Row]] = field(default_factory=list)

    def follow(self, schema: TableSchema) -> None:
        """Columns keep their values by their number; a new one begins with its default."""
        if schema == self.schema:
            return
        names = {column.attnum: column.name for column in self.schema.columns}

        def changed(row: Row) -> Row:
            return {c.name: row[names[c.attnum]] if c.attnum in names else c.default for c in schema.columns}

        self.rows = {tuple(new[name] for name in schema.key): (o, new) for o, row in self.rows.values() for new in [changed(row)]}
        self.loose = [(o, changed(row)) for o, row in self.loose]
        self.schema = schema

    def apply(self, batch: ChangeBatch, first: int) -> None:
        """Applies changes in order; their ordinals count from `first`."""
        self.follow(batch.schema)
        names = batch.schema.names
        columns = [column.to_pylist() for column in batch.columns]
        old = {c: column.to_pylist() for c, column in batch.old.items()}
        for i in range(len(batch)):
            row: Row = {name: columns[c][i] for c, name in enumerate(names)}
            gone = {names[c] for c, codes in batch.presence.items() if codes[i] == Presence.ABSENT}
            has_old = batch.has_old is not None and bool(batch.has_old[i])
            before = {names[c]: values[i] for c, values in old.items()} if has_old else {}
            self._change(Op(int(batch.op[i])), first + i, row, gone, before)

    def _change(self, op: Op, ordinal: int, row: Row, gone: set[str], before: Row) -> None:
        key = self.schema.key
        if op == Op.TRUNCATE:
            self.rows, self.loose = {}, []
        elif not key:
            if op in (Op.UPDATE, Op.DELETE):
                wanted = before if op == Op.UPDATE else row
                self.loose.pop(next(i for i, (_, held) in enumerate(self.loose) if held == wanted))
            if op != Op.DELETE:
                self.loose.append((ordinal, row))
        elif op == Op.DELETE:
            self.rows.pop(tuple(row[name] for name in key), None)
        else:
            place = tuple(row[name] for name in key)
            source = place
            if op == Op.UPDATE and before:
                source = tuple(before[name] for name in key)
            held = self.rows.pop(source, (0, {}))[1]
            self.rows[place] = (ordinal, {name: held.get(name, ABSENT) if name in gone else value for name, value in row.items()})

    def sweep(self, ordinal: int) -> None:
        self.rows = {key: (o, row) for key, (o, row) in self.rows.items() if o >= ordinal}
        self.loose = [(o, row) for o, row in self.loose if o >= ordinal]

    def sorted(self) -> list[tuple[str | None, ...]]:
        found = [row for _, row in (*self.rows.values(), *self.loose)]
        return sorted(
            (tuple(row[name] for name in self.schema.names) for row in found), key=lambda row: tuple((v is None, v or "") for v in row)
        )


@dataclass
class Follower:
    """Takes from a source, and applies what a journal would have committed: whole transactions, together with the position."""

    database: Database
    folder: Path
    tables: Sequence[str]
    config: dict[str, Any] = field(default_factory=dict)
    recall: bool = False
    context: dict[str, Any] = field(default_factory=dict)
    watermark: str | None = None
    copied: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    schemas: dict[str, TableSchema] = field(default_factory=dict)
    mirrors: dict[tuple[str | None, str], Mirror] = field(default_factory=dict)
    waiting: set[tuple[str | None, str]] = field(default_factory=set)
    held: dict[tuple[str | None, str], list[ChangeBatch]] = field(default_factory=lambda: defaultdict(list))
    starts: dict[tuple[str | None, str], int] = field(default_factory=dict)
    log: list[Entry] = field(default_factory=list)
    requested: dict[str, str | None] = field(default_factory=dict)
    source: PostgresSource | None = None
    ordinal: int = 1
    segments: int = 0
    _open: list[Segment] = field(default_factory=list)

    def make(self) -> PostgresSource:
        """A source that has not been started."""
        config = PostgresConfig(**{"dsn": self.database.dsn, "tables": list(self.tables), "slot": self.slot, **self.config})
        context = SourceContext(pipeline="test", name="portal", state=self.folder, recall=lambda table: self.recall, **self.context)
        return PostgresSource(config, context)

    @property
    def slot(self) -> str:
        """A name of this database's own: slots belong to the whole server."""
        return str(self.config.get("slot", f"slot_{self.database.name}"))

    @property
    def resume(self) -> Resume:
        state = CopyState(frozenset(self.copied), frozenset(self.begun), dict(self.requested))
        return Resume(self.watermark, state, dict(self.schemas))

    def start(self) -> PostgresSource:
        assert self.source is None
        self.source = self.make()
        self.source.start(self.resume)
        return self.source

    def kill(self) -> None:
        """What was not committed is lost, as with SIGKILL."""
        if self.source is not None:
            self.source.close()
        self.source = None
        self._open = []

    @contextmanager
    def running(self) -> Iterator[Follower]:
        self.start()
        try:
            yield self
        finally:
            self.kill()

    def step(self, timeout: float = 0.05) -> bool:
        """Takes one segment, if there is one."""
        assert self.source is not None
        segment = self.source.take(timeout)
        if segment is None:
            return False
        self.segments += 1
        self._open.append(segment)
        if segment.watermark is not None:
            for done in self._open:
                for entry in done.entries:
                    self._apply(entry)
            self._open = []
            self.watermark = segment.watermark
            self.source.confirm(segment.watermark)
        return True

    def until(self, condition: Callable[[], bool], timeout: float = 60.0, message: str = "the condition") -> None:
        """Takes until the condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            self.step()
            assert time.monotonic() < deadline, f"still waiting for {message}: {self.source.status() if self.source else None}"

    def caught_up(self) -> bool:
        """Takes until all is here that is committed at the source now, and every copy is whole."""
        assert self.source is not None
        source, head = self.source, self.source.head()
        self.until(lambda: source.reached(self.watermark, head) and source.status().state == "streaming", message="the head")
        self.until(lambda: all(t.state != "copying" for t in source.status().tables.values()), message="copies")
        return True

    def same(self, table: str, query: str | None = None, sink: str | None = None) -> None:
        """Catches up, and compares the mirror with the table."""
        self.caught_up()
        mirror = self.mirrors[sink, table]
        names = ", ".join(f'"{name}"' for name in mirror.schema.names)
        found = texts(self.database, query or f"SELECT {names} FROM {table}")
        found.sort(key=lambda row: tuple((v is None, v or "") for v in row))
        assert mirror.sorted() == found

    def _apply(self, entry: Entry) -> None:
        self.log.append(entry)
        if isinstance(entry, CopyMarker):
            self._mark(entry)
        elif isinstance(entry, Held):
            self.held[entry.batch.sink, entry.batch.table].append(entry.batch)
        else:
            self._change(entry)

    def _change(self, batch: ChangeBatch) -> None:
        first, self.ordinal = self.ordinal, self.ordinal + len(batch)
        if batch.sink is None:
            self.schemas[batch.table] = batch.schema
        views = {sink for sink, table in self.mirrors if table == batch.table and (sink, table) not in self.waiting} | {None}
        for sink in views if batch.sink is None else {batch.sink}:
            mirror = self.mirrors.setdefault((sink, batch.table), Mirror(batch.schema))
            mirror.apply(batch, first)

    def _mark(self, marker: CopyMarker) -> None:
        place = (marker.sink, marker.table)
        self.schemas[marker.table] = marker.schema
        if marker.phase == "start":
            self.starts[place] = self.ordinal
            self.held[place] = []
            self.mirrors.setdefault(place, Mirror(marker.schema)).follow(marker.schema)
            if marker.first:
                assert not self.mirrors[place].sorted(), "a first copy of a table that has rows"
            if marker.sink is None:
                self.copied.discard(marker.table)
                self.begun.add(marker.table)
        elif marker.phase == "abandoned":
            self.held[place] = []
        else:
            self.mirrors[place].sweep(self.starts[place])
            self.waiting.discard(place)
            if marker.sink is None:
                self.begun.discard(marker.table)
                self.copied.add(marker.table)
            released, self.held[place] = self.held[place], []
            for batch in released:
                self._change(batch)


def texts(database: Database, query: str) -> list[tuple[str | None, ...]]:
    """Rows in Postgres' own words, with the settings of a source's session."""
    with database.connect() as connection:
        for name, value in SETTINGS.items():
            if name != "search_path":
                connection.execute(f"SET {name} = '{value}'".encode())
        cursor = connection.execute(query.encode())
        result = cursor.pgresult
        assert result is not None
        values = [[result.get_value(i, j) for j in range(result.nfields)] for i in range(result.ntuples)]
        return [tuple(None if value is None else value.decode() for value in row) for row in values]


def batches(follower: Follower, table: str) -> list[ChangeBatch]:
    """The table's batches that the journal holds, held ones too."""
    found = [entry.batch if isinstance(entry, Held) else entry for entry in follower.log]
    return [entry for entry in found if isinstance(entry, ChangeBatch) and entry.table == table]


def renamed(batch: ChangeBatch, dataset: str) -> ChangeBatch:
    """The batch under another dataset's name."""
    return replace(batch, schema=batch.schema.rename(dataset))
