"""The middle of ingest: every change gets its ordinal and its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from journal.quarantine import QuarantineRecord
from quality.gate import Gate, Judgement

from journal.batch import ChangeBatch, CopyMarker, Held, Segment
from journal.schema import TableSchema

MakeGate = Callable[[TableSchema], Gate]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedBatch:
    """What became of one batch: `passed` goes to the sinks, `records` to quarantine, `dropped` and `warned` are counts by rule.

    `held` are the rows from the first one on that stopped its table: nothing of the table is delivered until its contract, or the
    data, has been mended. They are not counted yet.
    """

    passed: ChangeBatch
    rows: int
    first: int
    last: int
    records: Sequence[QuarantineRecord] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    held: ChangeBatch | None = None
    error: str | None = None


Judged = JudgedBatch | CopyMarker | Held


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSegment:
    """A segment, and what became of its entries, in their order."""

    segment: Segment
    entries: Sequence[Judged]


class Judge:
    """Numbers changes and passes them through the gates of their datasets, in order. One for all sources of a pipeline."""

    def __init__(
        self, next_ordinal: int, gate: MakeGate, record: Callable[[ChangeBatch, Judgement, Gate], Sequence[QuarantineRecord]]
    ) -> None:
        self._next = next_ordinal
        self._make = gate
        self._record = record
        self._gates: dict[str, Gate] = {}
        self._copies: dict[tuple[str, str | None], int] = {}
        self.stopped: dict[str, str] = {}

    def segment(self, segment: Segment) -> JudgedSegment:
        return JudgedSegment(segment, [self.entry(entry) for entry in segment.entries])

    def entry(self, entry: ChangeBatch | CopyMarker | Held) -> Judged:
        if isinstance(entry, ChangeBatch):
            return self.batch(entry)
        if isinstance(entry, CopyMarker):
            return self._marker(entry)
        return entry

    def batch(self, batch: ChangeBatch) -> JudgedBatch | Held:
        """Held, where the dataset is stopped."""
        if batch.dataset in self.stopped and batch.sink is None:
            return Held(batch)
        rows = len(batch)
        first = self._next
        batch = replace(batch, ordinal=np.arange(first, first + rows, dtype=np.int64))
        gate = self._gate(batch.schema)
        judgement = gate.judge(batch)
        held = None
        error = None
        if judgement.fatal is not None:
            row = judgement.fatal.row
            error = f"{batch.dataset} is stopped: {judgement.fatal.message}"
            self.stopped[batch.dataset] = error
            held, batch = batch.slice(row, rows), batch.slice(0, row)
            judgement = gate.judge(batch)
            rows = row
        self._next = first + rows
        return JudgedBatch(
            passed=batch if judgement.all_pass else batch.take(judgement.passed),
            rows=rows,
            first=first,
            last=first + rows - 1,
            records=() if batch.sink else self._record(batch, judgement, gate),
            dropped=judgement.dropped,
            warned=judgement.warned,
            failed=judgement.failed,
            held=held,
            error=error,
        )

    def _marker(self, marker: CopyMarker) -> CopyMarker:
        key = (marker.table, marker.sink)
        if marker.phase == "start":
            self._copies[key] = self._next
        return replace(marker, ordinal=self._copies.get(key, self._next))

    def _gate(self, schema: TableSchema) -> Gate:
        gate = self._gates.get(schema.encoded)
        if gate is None:
            gate = self._gates[schema.encoded] = self._make(schema)
        return gate
