"""The protocol of a sink: what a deliver process asks of whatever it writes to.

A sink is registered by an entry point of the group `sluice.sinks` under its `type`, so that a package of one's own can add one.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from journal.batch import ChangeBatch, CopyMarker, Longs
from journal.lanes import Done
from journal.schema import TableSchema
from pipeline.file import RouteBlock


@dataclass(frozen=True, slots=True)
class Counts:
    """Changes of one dataset since the journal began, as one sink has settled them."""

    delivered: int = 0
    filtered: int = 0
    quarantined: int = 0

    def plus(self, delivered: int = 0, filtered: int = 0, quarantined: int = 0) -> Counts:
        return Counts(self.delivered + delivered, self.filtered + filtered, self.quarantined + quarantined)


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a sink holds: everything of journal `journal` up to and with entry `seq`. Committed with the rows, in the target itself.

    `epoch` counts the openings: a writer with an older one is fenced off.
    `routes` holds, for each dataset that goes here, a digest of how: a dataset that is new here, or goes differently now, needs a copy.
    `waiting` are datasets of which only such a copy is taken until it ends: what the stream brings meanwhile follows behind it. Of these,
    `begun` are those whose copy has been taken from its start: the rest of one is of no use to a target that lacks its beginning.
    `of` is how many workers share the target: this is what one of them holds, of its part of the journal (see journal/lanes.py). `ahead`
    are partitions of which the target holds more.
    """

    journal: str
    seq: int
    epoch: int = 0
    counts: Mapping[str, Counts] = field(default_factory=dict)
    routes: Mapping[str, str] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()
    of: int = 1
    ahead: tuple[Done, ...] = ()

    def at(self, seq: int) -> Cursor:
        """The cursor, moved on to entry `seq`."""
        return replace(self, seq=seq, ahead=tuple(done for done in self.ahead if done.seq > seq))

    def encode(self) -> str:
        counts = {name: [c.delivered, c.filtered, c.quarantined] for name, c in self.counts.items()}
        told = {"journal": self.journal, "seq": self.seq, "epoch": self.epoch, "counts": counts, "of": self.of, "ahead": self.ahead}
        return json.dumps({**told, "routes": dict(self.routes), "waiting": sorted(self.waiting), "begun": sorted(self.begun)})

    @classmethod
    def decode(cls, text: str) -> Cursor:
        found = json.loads(text)
        counts = {name: Counts(*c) for name, c in found["counts"].items()}
        waiting, begun = frozenset(found["waiting"]), frozenset(found.get("begun", found["waiting"]))
        ahead = tuple(Done(*done) for done in found.get("ahead", ()))
        return cls(found["journal"], found["seq"], found["epoch"], counts, found["routes"], waiting, begun, found.get("of", 1), ahead)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a target says it holds (None: nothing yet), and the highest position that a row of its tables carries (0: no rows)."""

    cursor: Cursor | None
    newest: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where one dataset goes in one sink, after the pipeline file and its defaults.

    `schema` is that of the rows that the sink gets: columns already dropped, cast and masked.
    """

    dataset: str
    table: str
    schema: TableSchema
    mode: str = "mirror"  # mirror | history
    on_delete: str = "delete"  # delete | soft | ignore
    on_truncate: str = "truncate"  # truncate | ignore
    filtered: bool = False  # a `where` stands before it


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that the target cannot hold: its index in the batch, the column if known, and the target's message."""

    row: int
    column: str | None
    message: str


class Sink(ABC):
    """A place that changes are written to.

    Promise: rows and cursor become visible in one transaction of the target, or neither does.
    Errors are Terminal, Transient (both of pipeline.errors) or of rows (RefusedRow); a target's own errors never get out.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[BaseModel]]
    Route: ClassVar[type[RouteBlock]] = RouteBlock
    """How a dataset goes into sinks of this kind; a sink with keys of its own has a model of its own."""
    whole_rows: ClassVar[bool] = False
    """Whether an update must bring every column: the sink cannot look up what the log left out as unchanged."""
    pace: ClassVar[float] = 0.0
    """Seconds from one commit to the next while changes come in small numbers, so that more of them share what a commit costs."""
    most_rows: ClassVar[int | None] = None
    """Rows that a transaction should not have many more of, where there are so many; None: as many as fit in memory."""
    shared: ClassVar[bool] = False
    """Whether several workers can write into the target at once: then it is a SharedSink."""

    def __init__(self, name: str, config: BaseModel, pipeline: str) -> None:
        self.name = name
        self.config = config
        self.pipeline = pipeline

    @classmethod
    def prefix(cls, pipeline: str) -> str:
        """What the tables of a pipeline are called, before the dataset's name, where no route names them."""
        return ""

    @abstractmethod
    def open(self, journal: str) -> Cursor | None:
        """Connects, fences off any older writer, and reads what the target says it holds (None: nothing yet).

        Raises TerminalError for a target that is fed by another journal.
        """

    @abstractmethod
    def standing(self) -> Standing:
        """What the target holds, whichever journal it counts in. Changes nothing, and leaves a writer alone."""

    @abstractmethod
    def adopt(self, cursor: Cursor) -> None:
        """For `resync`: the target counts in another journal from now on, as `cursor` says, and an older writer is fenced off."""

    @abstractmethod
    def plan(self, targets: Sequence[Target]) -> Sequence[str]:
        """The statements that `prepare` would run, in order. Changes nothing."""

    @abstractmethod
    def prepare(self, target: Target) -> None:
        """Makes or alters the target's table for the schema. Inside the open transaction where the target has transactional DDL."""

    @abstractmethod
    def begin(self) -> None:
        """Opens the transaction."""

    @abstractmethod
    def write(self, target: Target, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        """Writes changes in their order. `leaving` are indices of rows that the filter turned away: a row with that key must go.

        Returns the rows that the target can't hold; all others are written.
        """

    @abstractmethod
    def mark(self, target: Target, marker: CopyMarker) -> None:
        """A copy begins, ends or is given up: sweep as CopyMarker says."""

    @abstractmethod
    def commit(self, cursor: Cursor) -> None:
        """Rows and cursor become visible. Raises TerminalError when a newer writer has taken over."""

    @abstractmethod
    def rollback(self) -> None:
        """Nothing of the open transaction stays. Also right when none is open."""

    def rest(self) -> str | None:
        """Called when there was nothing to do for a quarter of a second: let go of what others wait for."""
        return None

    @abstractmethod
    def held(self, target: Target, batch: ChangeBatch) -> pa.Table:
        """For `verify`: the batch's rows as `read` would give them back: one text column for each column of the schema."""

    @abstractmethod
    def read(self, target: Target, keys: pa.Table | None) -> Iterator[pa.Table]:
        """For `verify`: the rows that are in the target now, all or those with the given keys, as text columns named as in the schema.

        Of a history table the newest of each key; soft-deleted rows are left out. Reads on a connection of its own, beside a writer.
        """

    @abstractmethod
    def close(self) -> None:
        """Rolls back and disconnects."""


class SharedSink(Sink):
    """A sink that several workers write into, each with a cursor of its own in the target.

    The first worker opens the target as a single process does. Any of them is fenced off on its own; the first can do so with all others.
    """

    shared = True

    @abstractmethod
    def join(self, journal: str, worker: int, of: int) -> Cursor:
        """What `open` is to the first worker, to another one: connects, fences off an older one, and reads what it holds.

        Raises TransientError until the first worker has handed out the cursors of so many workers.
        """

    @abstractmethod
    def seize(self) -> Sequence[Cursor]:
        """For the first worker, once it is open: fences off all others, and reads what they hold. They cannot join until `hand_out`."""

    @abstractmethod
    def hand_out(self, cursors: Sequence[Cursor]) -> None:
        """What each worker holds from now on, the first one's first. In one transaction, which ends what `seize` began."""

    @abstractmethod
    def cursors(self) -> Sequence[Cursor]:
        """What each worker holds now, the first one's first; none where the target holds nothing. Beside a writer, at any time."""


NO_ROWS: Longs = np.empty(0, np.int64)

ANOTHER_JOURNAL = (
    "the state folder is not the one that it was fed from: put that back; or, if it is lost, `sluice resync` takes the sink over and copies"
    " everything again"
)
"""What to do about a target that counts in another journal."""
