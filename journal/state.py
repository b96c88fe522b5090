"""What processes say of themselves and ask of each other: everything that is not the changes themselves.

SQLAlchemy over `state.db` in the state folder. Several processes write, each its own rows, in transactions of milliseconds. Losing this
file loses no change: what a sink holds is what the sink says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from journal import state_file as tables
from journal.passages import Passage, note
from journal.quarantine import COLUMNS, UNRESOLVED, Cause, QuarantineRecord, Reason, Values, Wanted, from_row, to_row, values_of
from journal.sealing import Seal
from journal.sitting import given_up
from journal.state_access import StateAccess
from journal.trends import Waiting

EVERY_SINK = "*"
"""Stands for a sink where a copy is asked for that all of them get."""

# a refused row counts once its sink has committed what came with it: until then it may be offered again, and taken
_settled = (
    sa.select(tables.refused)
    .join(
        tables.sink,
        sa.and_(tables.sink.c.name == tables.refused.c.sink, sa.func.substr(tables.sink.c.journal, 1, 8) == tables.refused.c.journal),
    )
    .where(tables.refused.c.seq <= tables.sink.c.seq)
)
_waits = tables.refused.c.status.in_(UNRESOLVED)
# a request is open until an answer names it
_asked = sa.select(tables.request).where(
    ~sa.exists().where(
        tables.done.c.sink == tables.request.c.sink,
        tables.done.c.dataset == tables.request.c.dataset,
        tables.done.c.requested_at == tables.request.c.requested_at,
    )
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


@dataclass(frozen=True, slots=True)
class Folder:
    """Another state folder of the pipeline, as told last: its machine, and the locks that processes hold there, with since when."""

    machine: str
    running: Mapping[str, float]
    updated_at: float


class State(StateAccess):
    """What sources, sinks and those who ask for copies have told; see StateAccess."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._seal = Seal(folder)

    def source_status(self, name: str, status: Mapping[str, Any]) -> None:
        """What a source says of itself; JSON values."""
        with self._writing() as connection:
            _put(connection, tables.source, name, {"status": json.dumps(status), "updated_at": time.time()})

    def sources(self) -> dict[str, SourceReport]:
        """The last status of each source."""
        return {row["name"]: SourceReport(json.loads(row["status"]), row["updated_at"]) for row in self._read(sa.select(tables.source))}

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
            _put(connection, tables.sink, name, values)
            if passage is not None:
                note(connection, tables.passed, name, journal, passage, oldest)

    def passages(self, sink: str, journal: str) -> list[Passage]:
        """When a sink had what of a journal, oldest first; see passages.py."""
        lines = tables.passed.c
        if not self._has(tables.passed):
            return []
        chosen = sa.select(lines.seq, lines.at, lines.ordinal).where(lines.sink == sink, lines.journal == journal)
        return [Passage(**row) for row in self._read(chosen.order_by(lines.seq))]

    def sinks(self) -> dict[str, SinkProgress]:
        """How far each sink is, by name."""
        return {row["name"]: SinkProgress(**{**row, "seq": row["seq"] or 0}) for row in self._read(sa.select(tables.sink))}

    def passed(self, journal: str, sinks: Sequence[str]) -> int | None:
        """The last entry of the journal that every one of the sinks holds; None where one of them has said nothing yet."""
        known = self.sinks()
        seqs = [known[name].seq for name in sinks if name in known and known[name].journal == journal]
        return min(seqs) if seqs and len(seqs) == len(sinks) else None

    def request_copies(self, sink: str, datasets: Sequence[str]) -> None:
        """Whole copies of datasets are needed, for a sink of its own or for EVERY_SINK; one that is being made already is none of them."""
        asked = {"requested_at": time.time()}
        with self._writing() as connection:
            for dataset in datasets:
                made = insert(tables.request).values(sink=sink, dataset=dataset, **asked)
                connection.execute(made.on_conflict_do_update(index_elements=["sink", "dataset"], set_=asked))

    def remind_of_copies(self, sink: str, datasets: Sequence[str]) -> None:
        """A sink waits for copies that it has requested before: what this file knows nothing of is requested anew."""
        with self._writing() as connection:
            for dataset in datasets:
                made = insert(tables.request).values(sink=sink, dataset=dataset, requested_at=time.time())
                connection.execute(made.on_conflict_do_nothing())

    def copy_requests(self) -> dict[str, frozenset[str]]:
        """Sink -> the datasets that it still waits for."""
        rows = self._read(_asked)
        return {sink: frozenset(row["dataset"] for row in rows if row["sink"] == sink) for sink in {row["sink"] for row in rows}}

    def copy_requested(self, sink: str, dataset: str) -> float | None:
        """When the copy was asked for that the sink still waits for, if it does."""
        chosen = sa.and_(tables.request.c.sink == sink, tables.request.c.dataset == dataset)
        return next((float(row["requested_at"]) for row in self._read(_asked.where(chosen))), None)

    def copies_done(self, sink: str, datasets: Sequence[str], requested: float | None = None) -> None:
        """The sink has the copies of these. With `requested`, only where nobody has asked again since (see `copy_requested`)."""
        chosen = sa.and_(tables.request.c.sink == sink, tables.request.c.dataset.in_(list(datasets)))
        if requested is not None:
            chosen = sa.and_(chosen, tables.request.c.requested_at == requested)
        with self._writing() as connection:
            for row in connection.execute(_asked.where(chosen)).all():
                told = {"requested_at": row.requested_at, "done_at": time.time()}
                made = insert(tables.done).values(sink=row.sink, dataset=row.dataset, **told)
                connection.execute(made.on_conflict_do_update(index_elements=["sink", "dataset"], set_=told))

    def keep_refused(self, sink: str, records: Sequence[QuarantineRecord], seq: int) -> None:
        """Rows of entry `seq` that a sink's target can't hold. Durable before the sink commits; harmless when told again."""
        rows = [
            {**dict(zip(COLUMNS, to_row(record, self._seal), strict=True)), "sink": sink, "journal": _journal_of(record), "seq": seq}
            for record in records
        ]
        if rows:
            with self._writing() as connection:
                made = insert(tables.refused)
                again = {name: made.excluded[name] for name in ("seq", "reasons", "cause", "pattern")}
                connection.execute(made.on_conflict_do_update(index_elements=["id"], set_=again), rows)

    def forget_refused(self, sink: str, after: int) -> None:
        """What a sink refused behind entry `after` will be offered again: nothing of it has happened."""
        if self._path.exists():
            with self._writing() as connection:
                connection.execute(sa.delete(tables.refused).where(tables.refused.c.sink == sink, tables.refused.c.seq > after))

    def refused(self, wanted: Wanted, after: tuple[int, str] = (0, ""), limit: int = 1000) -> list[QuarantineRecord]:
        """Refused records in the order of the stream, from behind an (ordinal, id)."""
        place = sa.tuple_(tables.refused.c.ordinal, tables.refused.c.id) > sa.tuple_(*map(sa.literal, after))
        chosen = [tables.refused.c[column] == value for column, value in wanted.conditions.items()]
        return self._records(_settled.where(place, *chosen).order_by(tables.refused.c.ordinal, tables.refused.c.id).limit(limit))

    def _records(self, query: sa.Select[Any]) -> list[QuarantineRecord]:
        return [from_row([row[name] for name in COLUMNS], self._seal, row["sink"]) for row in self._read(query)]

    def refused_record(self, name: str) -> QuarantineRecord | None:
        """The refused record with this id."""
        found = self._records(_settled.where(tables.refused.c.id == name))
        return found[0] if found else None

    def refused_causes(self, dataset: str | None = None) -> list[Cause]:
        """Why sinks refused rows that are still open, the most frequent cause first."""
        found = _settled.where(_waits, *([tables.refused.c.dataset == dataset] if dataset else [])).subquery().c
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
        open_ = _settled.where(_waits).subquery()
        rows = self._read(sa.select(open_.c.sink, open_.c.dataset, sa.func.count().label("n")).group_by(open_.c.sink, open_.c.dataset))
        return {(row["sink"], row["dataset"]): row["n"] for row in rows}

    def refused_statuses(self, sinks: Collection[str]) -> dict[str, Waiting]:
        """What these sinks refused, by dataset."""
        found = _settled.where(tables.refused.c.sink.in_(list(sinks))).subquery().c
        values = (sa.func.count().label("n"), sa.func.min(found.quarantined_at).label("oldest"))
        waiting: dict[str, Waiting] = {}
        for row in self._read(sa.select(found.dataset, found.status, *values).group_by(found.dataset, found.status)):
            waiting.setdefault(row["dataset"], Waiting()).add(row["status"], row["n"], row["oldest"])
        return waiting

    def refused_keys(self, sink: str, dataset: str) -> list[Values]:
        """The keys of the open records of a dataset that a sink refused."""
        chosen = _settled.where(tables.refused.c.sink == sink, tables.refused.c.dataset == dataset, _waits)
        rows = self._read(chosen.with_only_columns(tables.refused.c.key))
        return [values_of(row["key"]) or {} for row in rows]

    def mended(self, sink: str, ordinals: Sequence[int]) -> set[int]:
        """Which of these are rows that a sink refused, and got with values of their owner's."""
        told = tables.refused.c.patch.is_not(None), tables.refused.c.status == "resolved"
        wanted = sa.select(sa.func.json_each(json.dumps(list(ordinals))).table_valued("value").c.value)
        rows = self._read(_settled.where(tables.refused.c.sink == sink, *told, tables.refused.c.ordinal.in_(wanted)))
        return {row["ordinal"] for row in rows}

    def discarded(self, sink: str, dataset: str) -> list[tuple[Values, int]]:
        """The keys and ordinals of rows of a dataset that a sink refused, and that were given up; of a changed key the former one, too."""
        of = tables.refused.c.sink == sink, tables.refused.c.dataset == dataset, tables.refused.c.status == "discarded"
        return given_up(self._read(_settled.where(*of)), self._seal)

    def trail_head(self, journal: str) -> tuple[int, str] | None:
        """How far the audit trail of a journal was when that was noted last: the number of its last line, and its hash."""
        if not self._read(sa.text("select 1 as found from sqlite_master where name = 'trail_head'")):
            return None
        rows = self._read(sa.select(tables.head).where(tables.head.c.journal == journal))
        return (rows[0]["n"], rows[0]["hash"]) if rows else None

    def elsewhere(self) -> list[Folder]:
        """The other folders of the pipeline that have told what runs in them; none where its journal is not in topics."""
        here = sa.select(tables.own.c.value).where(tables.own.c.name == tables.ID).scalar_subquery()
        rows = self._read(sa.select(tables.folder).where(tables.folder.c.id != here))
        return [Folder(row["machine"], json.loads(row["running"]), row["updated_at"]) for row in rows]


def _put(connection: sa.Connection, table: sa.Table, name: str, values: Mapping[str, Any]) -> None:
    connection.execute(insert(table).values(name=name, **values).on_conflict_do_update(index_elements=["name"], set_=dict(values)))


def _journal_of(record: QuarantineRecord) -> str:
    return record.id.partition("-")[0]
