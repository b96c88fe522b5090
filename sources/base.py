"""The protocol of a source: what a dataflow asks of whatever changes are read from.

A source is registered by an entry point of the group `sluice.sources` under its `type`. It is made from its block of the
pipeline file, reads in a thread of its own, and is told what has become durable. It keeps no state: where to resume is what
the journal says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import BaseModel

from journal.batch import ChangeBatch, Segment
from journal.schema import TableSchema
from pipeline.errors import PreflightError, Problem, Refused, TerminalError

KEY_PREFIX = "_sluice_key_"
"""Before the name of a key column of a dataset: what its source reads from a message's key, beside the columns that a map makes rows of.

Messages without a value have nothing else; a map is not applied to them.
"""


@dataclass(frozen=True, slots=True)
class CopyState:
    """What the journal knows of the copies of one source's tables: `copied` are whole, `begun` were started and not finished.

    `requested` maps tables to the sink that asked for a copy of its own (a new sink), or to None for all sinks.
    """

    copied: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()
    requested: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a source goes on: the journal's watermark (None: never ran), its copies, the last schema of each table, and its notes."""

    watermark: str | None
    copies: CopyState
    schemas: Mapping[str, TableSchema]
    notes: Mapping[str, str] = field(default_factory=dict)


class Recall(Protocol):
    """Which tables need values that the log left out to be read again from the source (see Presence.RECALLED)."""

    def __call__(self, table: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source is given to work with.

    pipeline    the pipeline's name; name: the source's own
    state       folder for spool files
    tables      table -> dataset: what the pipeline's `datasets` says; a table that is not in it is a dataset under its bare name
    keys        dataset -> the key that the pipeline file sets for it
    recall      see Recall
    schemas     table -> what the pipeline says its rows look like (a dataset's contract), for sources without a catalogue
    mapped      tables whose rows a map turns into those of their dataset
    first       tables that are copied before the others: rows of those may ask for theirs
    """

    pipeline: str
    name: str
    state: Path
    recall: Recall
    tables: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    schemas: Mapping[str, TableSchema] = field(default_factory=dict)
    mapped: frozenset[str] = frozenset()
    first: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TableStatus:
    """How one table does."""

    state: str  # "copying" | "streaming" | "stopped"
    error: str | None = None
    rows_copied: int = 0
    rows_total: int | None = None  # an estimate
    bytes_copied: int = 0


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What `sluice status` says of a source. Positions are the source's own words (Postgres: 0/1A2B3C8).

    lag_messages     messages that are there and not durable yet, for sources that count in these
    unknown_fields   field that records have and the schema lacks -> records it was in, since the start
    breakers         dataset whose breaker has tripped -> why; the gate's word, not the source's
    """

    state: str  # "starting" | "copying" | "streaming" | "retrying" | "paused" | "stopped"
    confirmed: str | None = None
    server: str | None = None
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    wal_status: str | None = None
    safe_wal_size: int | None = None
    error: str | None = None
    reconnects: int = 0
    bytes_read: int = 0
    lag_messages: int | None = None
    unknown_fields: Mapping[str, int] = field(default_factory=dict)
    tables: Mapping[str, TableStatus] = field(default_factory=dict)
    breakers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a look at the source found: what is wrong, and what would be made there (SQL or plain words), nothing done yet.

    missing   tables that the pipeline names and the source does not have; each has its problem too
    advice    what could be better at the source; it stops nothing
    old_rows  table -> columns that are told of the old row of an update or delete; of a table that is not in it all are
    """

    problems: Sequence[Problem]
    actions: Sequence[str]
    tables: Mapping[str, TableSchema]
    missing: Sequence[str] = ()
    advice: Sequence[Problem] = ()
    old_rows: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def refusal(self) -> TerminalError | None:
        """The error that a command ends with: Refused (exit code 2) for a missing table, PreflightError (1) for other problems."""
        if not self.problems:
            return None
        text = "\n".join(str(problem) for problem in self.problems)
        return Refused(text) if self.missing else PreflightError(text, problems=self.problems)


class Source(ABC):
    """A place that changes are read from."""

    kind: ClassVar[str]
    Config: ClassVar[type[BaseModel]]
    waited_for: ClassVar[bool] = False
    """Whether `sync` waits for a server that is away when it begins."""
    compared: ClassVar[bool] = True
    """Whether `read_table` can tell the rows as they are now. Where it can't, `verify` counts, and does not compare."""
    divisible: ClassVar[bool] = False
    """Whether several processes can read it, each a part; see `part`."""

    def __init__(self, config: BaseModel, context: SourceContext) -> None:
        self.config = config
        self.context = context

    @classmethod
    @abstractmethod
    def place(cls, table: str, lsn: int, nth: int, notes: Mapping[str, str]) -> str:
        """A change's position in the source's own words; see ChangeBatch."""

    @classmethod
    @abstractmethod
    def number(cls, position: str) -> int | None:
        """A position of `SourceStatus` as a number, for metrics; None where it is none."""

    @abstractmethod
    def preflight(self, resume: Resume) -> Preflight:
        """Connects, changes nothing, and says what is there. Raises Refused or TransientError where it can't."""

    @abstractmethod
    def start(self, resume: Resume) -> None:
        """Makes what is missing at the source and starts reading in a thread of its own.

        A server that is away is retried for ever; what cannot be mended by waiting is raised by `take`.
        """

    @abstractmethod
    def take(self, timeout: float = 0.0) -> Segment | None:
        """The next stretch of the stream, or None if nothing came within `timeout` seconds.

        Whole transactions in commit order; copies with their markers. Raises TerminalError where the source has stopped. Reading
        ahead is bounded in bytes: what is not taken stays at the server.
        """

    def part(self, number: int, of: int) -> None:
        """Reads part `number` of `of` alone; before `start`. Part 0 is that of ingest, which gets the others' by `receive`.

        Watermarks of a part are of it alone, but those that part 0 gives, which are of all that it gave so far.
        """
        raise TypeError(f"{self.kind} sources are read by one process")

    def receive(self, part: int, segment: Segment, unknown: Mapping[str, int], taken: Callable[[], None]) -> None:
        """What the process of another part has read, with all unknown fields so far; `taken` is called when `take` gives it."""
        raise TypeError(f"{self.kind} sources are read by one process")

    @abstractmethod
    def confirm(self, watermark: str) -> None:
        """Everything up to `watermark` is durable in the journal; the source may forget it. Any thread; never blocks."""

    @abstractmethod
    def status(self) -> SourceStatus:
        """A snapshot of the state; cheap, any thread."""

    @abstractmethod
    def head(self) -> str:
        """The watermark of all that is committed at the source now; `reached` compares with it."""

    @abstractmethod
    def reached(self, watermark: str | None, head: str) -> bool:
        """Whether a journal at `watermark` holds all that was committed at `head`."""

    @abstractmethod
    def copy_again(self, table: str, sink: str | None = None) -> None:
        """Copies a table again while streaming goes on, for all sinks or for one. Any thread; never blocks.

        Nothing more happens if such a copy is already waiting or under way. A table that the source does not have is no error here.
        """

    @abstractmethod
    def start_over(self, do: bool) -> Preflight:
        """For `resync`: how the source would start for a journal that knows nothing of it, whatever is left there of an earlier one.

        With `do`, what is in the way of that (a slot) goes. Raises PreflightError or Refused with every reason why it could not start.
        """

    @abstractmethod
    def close(self) -> None:
        """Stops reading. What was not confirmed will come again."""

    @abstractmethod
    def read_table(self, table: str, schema: TableSchema, keys: ChangeBatch | None, receive: Callable[[ChangeBatch], None]) -> str:
        """For `verify`: reads the table as it is now, in batches of one snapshot; only rows with the keys in `keys`, if given.

        Returns a watermark which covers everything that was read. Raises TableGone.
        """
