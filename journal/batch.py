"""Changes on the move: one dataset's changes as columns, never as rows.

Every column holds Postgres' own text for its value (see types.py), which loses nothing and costs no cast. Beside the columns
stand, for each row, the operation, the position and time of its commit, and which values the log did not carry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journal.schema import TableSchema

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


HIDDEN = "***"
"""What stands for a value that is confidential."""
_SHOWN = 1000  # bytes
_QUOTE = re.compile(r"(?<!\w)['\"]")  # no apostrophe


class Op(IntEnum):
    """What a change did; the value is the letter that pgoutput uses (R, a copied row, is ours)."""

    INSERT = ord("I")
    UPDATE = ord("U")
    DELETE = ord("D")
    TRUNCATE = ord("T")
    READ = ord("R")

    @property
    def word(self) -> str:
        return self.name.lower()


class Presence(IntEnum):
    """Whether a column of a row was in the log. Absent is not null.

    RECALLED: absent from the log, but read again from the source afterwards, so it may be newer than the row's position.
    """

    PRESENT = 0
    ABSENT = 1
    RECALLED = 2


@dataclass(frozen=True, slots=True)
class Defect:
    """A value which cannot be held as text (bytes that are not UTF-8, a NUL): its row goes to quarantine with the raw bytes."""

    row: int
    column: str | None
    message: str
    raw: bytes

    @property
    def shown(self) -> str:
        """The raw bytes for people: of large ones the beginning."""
        if len(self.raw) <= _SHOWN:
            return self.raw.decode("utf-8", "backslashreplace")
        return self.raw[:_SHOWN].decode("utf-8", "backslashreplace") + f"… ({len(self.raw)} bytes)"

    @property
    def unquoted(self) -> str:
        """The message without the value that it quotes: what comes first is cut out, what comes later is cut off."""
        found = _QUOTE.search(self.message)
        if found is None:
            return self.message
        head = self.message[: found.start()]
        if not head:
            return HIDDEN + self.message[max(1, self.message.rfind(found[0]) + 1) :]
        return head[:-1].rstrip() if head.endswith("(") else head + HIDDEN


class Payload(NamedTuple):
    """A record as it was received, before anything was made of it. A value of None is a tombstone, which an empty one is not."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Payloads:
    """What the rows of a batch were received as. `row(n)` is the nth row's; `index` finds it among `all`."""

    all: Sequence[Payload]
    index: Longs

    def row(self, row: int) -> Payload:
        return self.all[int(self.index[row])]

    def take(self, rows: Longs | Mask | slice) -> Payloads:
        return Payloads(self.all, self.index[rows])


@dataclass(frozen=True, slots=True, eq=False)
class ChangeBatch:
    """Consecutive changes of one dataset under one schema, in commit order; n rows.

    op        uint8[n], values of Op
    lsn       int64[n], the commit's position at the source (Postgres: LSN of the commit record; copied rows: of their snapshot; Kafka:
              the partition; files: the file's number)
    nth       int64[n], the ordinal within that transaction, from 0 (Kafka: the offset; files: the line or record, from 1)
    time      int64[n], commit time in microseconds since 1970-01-01 UTC, for people; never decides what is newer
    ordinal   int64[n], strictly increasing: the place of the change in its pipeline, over all sources; it alone decides what is
              newer, and sinks keep it as `_sluice_position`. Zeros until ingest has assigned it.
    columns   one string array[n] for each column of the schema: the new row; for a delete the old one (columns which
              the old tuple did not carry are absent); for a truncate nulls
    presence  column index -> uint8[n] of Presence, for those columns which are not PRESENT in every row
    old       column index -> string array[n]: for an update the old row's values, as far as the log carried them; else null
    has_old   bool[n]: the update carried an old tuple (its key columns, or the whole row under REPLICA IDENTITY FULL)
    source    name of the source, and `table` what it calls the table
    defects   rows that cannot be taken as they are
    sink      the one sink this is meant for (a copy made for it alone), or None for all
    payloads  what the rows were received as, where the source has messages; it ends at the journal
    traces    string[n], the trace contexts that rows came with (see trace_context.py), null for one without; None where none did
    """

    schema: TableSchema
    source: str
    table: str
    op: Bytes
    lsn: Longs
    nth: Longs
    time: Longs
    ordinal: Longs
    columns: tuple[pa.StringArray, ...]
    presence: Mapping[int, Bytes] = field(default_factory=dict)
    old: Mapping[int, pa.StringArray] = field(default_factory=dict)
    has_old: Mask | None = None
    defects: tuple[Defect, ...] = ()
    sink: str | None = None
    payloads: Payloads | None = None
    traces: pa.StringArray | None = None

    def __len__(self) -> int:
        return len(self.op)

    @property
    def dataset(self) -> str:
        return self.schema.dataset

    @property
    def nbytes(self) -> int:
        """Bytes of the values, about what the batch takes in memory."""
        values: int = sum(column.nbytes for column in (*self.columns, *self.old.values()))
        return values + 33 * len(self) + (0 if self.traces is None else self.traces.nbytes)

    def column(self, name: str) -> pa.StringArray:
        return self.columns[self.schema.index(name)]

    def take(self, rows: Longs | Mask) -> ChangeBatch:
        """The given rows (indices, or a mask), in that order. Defects stay with their rows."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        if len(index) == len(self) and (index == np.arange(len(self))).all():
            return self
        chosen = pa.array(index)
        places = {int(old): new for new, old in enumerate(index)} if self.defects else {}
        return replace(
            self,
            op=self.op[index],
            lsn=self.lsn[index],
            nth=self.nth[index],
            time=self.time[index],
            ordinal=self.ordinal[index],
            columns=tuple(column.take(chosen) for column in self.columns),
            presence={c: codes[index] for c, codes in self.presence.items() if codes[index].any()},
            old={c: column.take(chosen) for c, column in self.old.items()},
            has_old=None if self.has_old is None else self.has_old[index],
            defects=tuple(replace(d, row=places[d.row]) for d in self.defects if d.row in places),
            payloads=None if self.payloads is None else self.payloads.take(index),
            traces=None if self.traces is None else self.traces.take(chosen),
        )

    def slice(self, start: int, stop: int) -> ChangeBatch:
        """Rows start to stop, without a copy."""
        if start == 0 and stop >= len(self):
            return self
        cut = slice(start, stop)
        return replace(
            self,
            op=self.op[cut],
            lsn=self.lsn[cut],
            nth=self.nth[cut],
            time=self.time[cut],
            ordinal=self.ordinal[cut],
            columns=tuple(column.slice(start, stop - start) for column in self.columns),
            presence={c: codes[cut] for c, codes in self.presence.items() if codes[cut].any()},
            old={c: column.slice(start, stop - start) for c, column in self.old.items()},
            has_old=None if self.has_old is None else self.has_old[cut],
            defects=tuple(replace(d, row=d.row - start) for d in self.defects if start <= d.row < stop),
            payloads=None if self.payloads is None else self.payloads.take(cut),
            traces=None if self.traces is None else self.traces.slice(start, stop - start),
        )

    def absent(self, column: int) -> Mask:
        """bool[n]: rows for which the log did not carry the column (recalled or not)."""
        codes = self.presence.get(column)
        return np.zeros(len(self), np.bool_) if codes is None else codes != Presence.PRESENT


@dataclass(frozen=True, slots=True)
class CopyMarker:
    """Between the changes: a copy of a dataset begins, ends, or is given up (to be followed by another).

    Rows that a sink holds for the dataset with an ordinal below the `start` marker's are not in the source's table any more once
    the `end` marker comes: the sink sweeps them. `first` says that nothing of this dataset was ever copied before, so that
    there is nothing to sweep. `ordinal` is that of the start marker. A copy that is given up before it began tells the columns alone.
    """

    schema: TableSchema
    source: str
    table: str
    phase: str  # "start" | "end" | "abandoned"
    ordinal: int
    first: bool = False
    sink: str | None = None

    @property
    def dataset(self) -> str:
        return self.schema.dataset


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Changes of a table that is being copied, newer than the copy: kept in the journal until the copy's end marker, then let go.

    When another copy of the table starts, what is held for it is forgotten: the new snapshot contains it.
    """

    batch: ChangeBatch


Entry = ChangeBatch | CopyMarker | Held


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A stretch of one source's stream, the unit that flows through a dataflow.

    `watermark` is set where the stretch ends between two transactions: everything that the source has committed up to it is then
    in this segment or before it. It is the source's own text (JSON), which it gets back when it resumes. None: a transaction is
    still open at the end, and what has been written must not be committed yet. `notes` are small facts that the source wants kept
    with it (files that it has read, schemas that it knows), by name; it gets all of them back when it resumes.
    """

    source: str
    entries: Sequence[Entry]
    watermark: str | None
    received: float = 0.0  # time.monotonic() when its last byte was read, for latency
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(len(entry) for entry in self.entries if isinstance(entry, ChangeBatch))


def batch_from_columns(
    schema: TableSchema, columns: Sequence[pa.StringArray], op: Op, *, source: str = "", table: str = "", lsn: int = 0, first: int = 0
) -> ChangeBatch:
    """A batch in which every row has the same operation, position and time 0; ordinals count from `first`."""
    n = len(columns[0]) if columns else 0
    return ChangeBatch(
        schema=schema,
        source=source,
        table=table,
        op=np.full(n, op, np.uint8),
        lsn=np.full(n, lsn, np.int64),
        nth=np.arange(n, dtype=np.int64),
        time=np.zeros(n, np.int64),
        ordinal=np.arange(first, first + n, dtype=np.int64),
        columns=tuple(columns),
    )
