"""The middle of ingest: every change gets its ordinal and its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog

from dataflows.given import given_note
from dataflows.mapping import Mapped
from journal.batch import ChangeBatch, CopyMarker, Held, Segment
from journal.quarantine import QuarantineRecord, Reason
from journal.schema import TableSchema
from pipeline.errors import ConfigError
from quality.judgement import UNDECODABLE, Judgement, QuarantinedRow

if TYPE_CHECKING:
    from quality.gate import Gate

log = structlog.get_logger("sluice.ingest")

MakeGate = Callable[[TableSchema], "Gate | None"]
Learn = Callable[[str, Mapping[str, str]], None]
Record = Callable[[ChangeBatch, Sequence[QuarantinedRow], "Gate | None"], Sequence[QuarantineRecord]]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedBatch:
    """What became of one batch: `passed` goes to the sinks, `records` to quarantine.

    `judged` rows were judged; `held_back`, `dropped` and `warned` are counts by rule. `times` is the range of the commit times in
    microseconds since 1970, UTC.
    """

    passed: ChangeBatch
    rows: int
    first: int
    last: int
    records: Sequence[QuarantineRecord] = ()
    judged: int = 0
    times: tuple[int, int] | None = None
    held_back: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> Mapping[str, int]:
        """Rows that broke a rule, whatever became of them."""
        return Counter(self.held_back) + Counter(self.dropped) + Counter(self.warned)


@dataclass(frozen=True, slots=True, eq=False)
class Stopped:
    """A batch whose table a rule has stopped: nothing of the table goes on until its contract, or the data, has been mended.

    It is kept, and not counted yet.
    """

    batch: ChangeBatch


class MapsOfFeeds(Protocol):
    """What makes changes of datasets of those of sources: see Maps."""

    def apply(self, batch: ChangeBatch) -> Mapped | None: ...

    def schema(self, source: str, table: str, given: TableSchema) -> TableSchema: ...

    def merged(self, source: str, table: str) -> bool: ...


Judged = JudgedBatch | CopyMarker | Held | Stopped


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSegment:
    """A segment, and what became of its entries, in their order."""

    segment: Segment
    entries: Sequence[Judged]


class Judge:
    """Numbers changes and passes them through the gates of their datasets, in order. One for all sources of a pipeline.

    `stopped` maps a dataset that a rule has stopped to the reason, `stopped_tables` (source, table) whose map does not fit any more.
    """

    def __init__(
        self,
        next_ordinal: int,
        gate: MakeGate,
        record: Record,
        learn: Callable[[str, Mapping[str, str]], None] = lambda source, notes: None,
        maps: MapsOfFeeds | None = None,
    ) -> None:
        """`learn` is told what a source notes, before the changes that came with it are judged; `maps` come before the gates."""
        self._maps = maps
        self._given: dict[str, str] = {}
        self._learn = learn
        self._next = next_ordinal
        self._make = gate
        self._record = record
        self._gates: dict[str, Gate | None] = {}
        self._copies: dict[tuple[str, str, str | None], int] = {}
        self.stopped: dict[str, str] = {}
        self.stopped_tables: dict[tuple[str, str], str] = {}

    def segment(self, segment: Segment) -> JudgedSegment:
        if segment.notes:
            self._learn(segment.source, segment.notes)
        entries = [judged for entry in segment.entries if (judged := self.entry(entry)) is not None]
        notes = self._described(segment)
        return JudgedSegment(segment if not notes else replace(segment, notes={**segment.notes, **notes}), entries)

    def entry(self, entry: ChangeBatch | CopyMarker | Held) -> Judged | None:
        """None for a marker of a table whose map does not fit: what is copied is kept, and copied again once the map is mended."""
        if isinstance(entry, ChangeBatch):
            return self.batch(entry)
        return self._marker(entry) if isinstance(entry, CopyMarker) else entry

    def _described(self, segment: Segment) -> dict[str, str]:
        """What the journal has to note of the columns of mapped tables, which it does not see: see given_schemas."""
        notes: dict[str, str] = {}
        for entry in segment.entries if self._maps is not None else ():
            of = entry.batch if isinstance(entry, Held) else entry
            if (of.source, of.table) in self.stopped_tables or self._maps is None:
                continue
            try:
                mapped = self._maps.schema(of.source, of.table, of.schema)
            except ConfigError:  # stops the table when its changes are judged
                continue
            if mapped is not of.schema:
                name, told = given_note(of.table, of.schema, mapped)
                key = f"{of.source} {name}"
                if self._given.get(key) != told:
                    self._given[key] = notes[name] = told
        return notes

    def batch(self, batch: ChangeBatch) -> JudgedBatch | Stopped:
        """Ordinals and verdicts for a batch. A table that its contract does not fit any more is stopped, as by a rule."""
        if batch.dataset in self.stopped or (batch.source, batch.table) in self.stopped_tables:
            return Stopped(batch)
        if not batch.schema.columns:
            return self._stop(batch, "the table has no columns any more: give it one, or leave it out")
        rows, first = len(batch), self._next
        times = (int(batch.time.min()), int(batch.time.max())) if rows else None
        batch = replace(batch, ordinal=np.arange(first, first + rows, dtype=np.int64))
        try:
            mapped = None if self._maps is None else self._maps.apply(batch)
        except ConfigError as error:
            self._stop_table(batch, error.message)
            return Stopped(batch)
        failed: Sequence[QuarantinedRow] = ()
        unmapped: Sequence[QuarantineRecord] = ()
        if mapped is not None:
            batch, failed = mapped.passed, mapped.rows
        try:
            gate = self._gate(batch.schema)
        except ConfigError as error:
            return self._stop(batch, error.message)
        judgement = undecodable(batch) if gate is None else gate.judge(batch)
        if judgement.failure is not None:
            return self._stop(batch, judgement.failure.message)
        if judgement.alert is not None:
            log.warning("too many bad rows", dataset=batch.dataset, alert=str(judgement.alert))
        self._next = first + rows
        if mapped is not None and mapped.failed is not None and mapped.failed.sink is None:
            unmapped = [
                replace(record, key=key) for record, key in zip(self._record(mapped.failed, failed, gate), mapped.keys, strict=True)
            ]
        return JudgedBatch(
            passed=batch if judgement.passed.all() else batch.take(judgement.passed),
            rows=rows,
            first=first,
            last=first + rows - 1,
            records=() if batch.sink else [*unmapped, *self._record(batch, judgement.quarantined, gate)],
            judged=judgement.judged,
            times=times,
            held_back=Counter(reason.rule for row in (*failed, *judgement.quarantined) for reason in row.reasons),
            dropped={rule: len(index) for rule, index in judgement.dropped.items()},
            warned=judgement.warnings,
        )

    def _stop(self, batch: ChangeBatch, error: str) -> Stopped:
        log.error("table stopped", dataset=batch.dataset, source=batch.source, table=batch.table, error=error)
        self.stopped[batch.dataset] = error
        return Stopped(batch)

    def _stop_table(self, of: ChangeBatch | CopyMarker, error: str) -> None:
        """As a rule stops a dataset, but the other sources of the dataset go on."""
        log.error("table stopped", dataset=of.dataset, source=of.source, table=of.table, error=error)
        self.stopped_tables[of.source, of.table] = error

    def _marker(self, marker: CopyMarker) -> CopyMarker | None:
        if self._maps is not None:
            if (marker.source, marker.table) in self.stopped_tables:
                return None
            try:
                schema = self._maps.schema(marker.source, marker.table, marker.schema)
            except ConfigError as error:
                self._stop_table(marker, error.message)
                return None
            # rows of the dataset's other sources are not in this copy, and stay
            marker = replace(marker, schema=schema, first=marker.first or self._maps.merged(marker.source, marker.table))
        key = (marker.source, marker.table, marker.sink)
        if marker.phase == "start":
            self._copies[key] = self._next
        return replace(marker, ordinal=self._copies.get(key, self._next))

    def _gate(self, schema: TableSchema) -> Gate | None:
        if schema.encoded not in self._gates:
            self._gates[schema.encoded] = self._make(schema)
        return self._gates[schema.encoded]


def undecodable(batch: ChangeBatch) -> Judgement:
    """The verdict where no contract is: only what cannot be held as text is held back."""
    passed = np.ones(len(batch), np.bool_)
    reasons: dict[int, list[Reason]] = {}
    for defect in batch.defects:
        value = defect.raw.decode("utf-8", "backslashreplace")
        reasons.setdefault(defect.row, []).append(Reason(UNDECODABLE, defect.column, defect.message, value))
    passed[list(reasons)] = False
    return Judgement(passed, [QuarantinedRow(row, tuple(reasons[row])) for row in sorted(reasons)])
