"""The middle of ingest: every change gets its ordinal and its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog
from msgspec import structs

from dataflows.given import given_note
from dataflows.judged_by import JudgedBy
from dataflows.mapping import Mapped
from dataflows.records import for_sink
from journal.batch import ChangeBatch, CopyMarker, Held, Segment
from journal.quarantine import QuarantineRecord, Reason
from journal.schema import TableSchema
from pipeline.errors import ConfigError
from quality.judgement import BREAKER, Judgement, QuarantinedRow, undecodable

if TYPE_CHECKING:
    from dataflows.earlier_values import EarlierValues
    from dataflows.strict_order import StrictOrder
    from dataflows.versions import Sifted, Versions
    from dataflows.waiting import Part, Settled, Waiting
    from quality.gate import Gate

log = structlog.get_logger("sluice.ingest")

MakeGate = Callable[[TableSchema], "Gate | None"]
Learn = Callable[[str, Mapping[str, str]], None]
Record = Callable[[ChangeBatch, Sequence[QuarantinedRow], "Gate | None"], Sequence[QuarantineRecord]]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedBatch:
    """What became of one batch: `passed` goes to the sinks, `records` to quarantine.

    `judged` rows were judged; `held_back`, `dropped` and `warned` are counts by rule. `times` is the range of the commit times in
    microseconds since 1970, UTC. What is `waiting` for a lookup is not among the `rows`. `versions` are to be remembered of what passed,
    and so are the values that later changes are compared with, `earlier`.
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
    waiting: Part | None = None
    versions: ChangeBatch | None = None
    earlier: ChangeBatch | None = None

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


LATE = "order_by"
"""The rule by which a row is dropped that comes behind a newer version of it."""

RESUMED = (
    "`sluice quarantine list` says what is wrong; mend the source, or the contract, then start ingest again:"
    " changes are kept meanwhile, and are judged then, with a count of the breaker's that begins anew"
)
"""How a dataset goes on that its breaker has paused."""

WAITED = "lookup"
"""The rule that a row breaks which cannot be let go any more, and waited for a lookup."""

Judged = JudgedBatch | CopyMarker | Held | Stopped


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSegment:
    """A segment, and what became of its entries, in their order."""

    segment: Segment
    entries: Sequence[Judged]


class Judge:
    """Numbers changes and passes them through the gates of their datasets, in order. One for all sources of a pipeline.

    `stopped` maps a dataset that a rule has stopped to the reason, `stopped_tables` (source, table) whose map does not fit any more,
    `tripped` a dataset whose breaker has tripped, whether that has stopped it or lets rows go on with warnings.
    """

    def __init__(
        self,
        next_ordinal: int,
        gate: MakeGate,
        record: Record,
        learn: Callable[[str, Mapping[str, str]], None] = lambda source, notes: None,
        maps: MapsOfFeeds | None = None,
        waiting: Waiting | None = None,
        judged_by: JudgedBy | None = None,
        versions: Versions | None = None,
        earlier: EarlierValues | None = None,
        order: StrictOrder | None = None,
    ) -> None:
        """`learn` is told what a source notes, before the changes that came with it are judged; `maps` come before the gates, and
        lookups, for which rows may have to wait, behind them; last come `versions`, which rows that are late do not pass.
        `judged_by` says what is to be noted of what judged, and `earlier` remembers what the gates compare changes with. `order` knows
        what has to wait for a record of its key."""
        self._order = order
        self._maps = maps
        self._versions = versions
        self._earlier = earlier
        self._waiting = waiting
        self._judged_by = judged_by
        self._given: dict[str, str] = {}
        self._learn = learn
        self._next = next_ordinal
        self._make = gate
        self._record = record
        self._gates: dict[str, Gate | None] = {}
        self._copies: dict[tuple[str, str, str | None], int] = {}
        self.stopped: dict[str, str] = {}
        self.stopped_tables: dict[tuple[str, str], str] = {}
        self.tripped: dict[str, str] = {}

    def segment(self, segment: Segment) -> JudgedSegment:
        if segment.notes:
            self._learn(segment.source, segment.notes)
        ordered = segment.entries if self._waiting is None else self._waiting.in_order(segment.entries)
        entries = [judged for entry in ordered if (judged := self.entry(entry)) is not None]
        notes = self._described(segment)
        if self._judged_by is not None:
            for judged in entries:
                if isinstance(judged, JudgedBatch):
                    notes |= self._judged_by.note(judged.passed)
        return JudgedSegment(segment if not notes else replace(segment, notes={**segment.notes, **notes}), entries)

    def written(self, judged: JudgedBatch) -> None:
        """The journal has what became of a batch, and of all before it."""
        if self._order is not None:
            self._order.written(judged.passed.dataset, judged.last)

    def entry(self, entry: ChangeBatch | CopyMarker | Held) -> Judged | None:
        """None for a marker of a table whose map does not fit: what is copied is kept, and copied again once the map is mended."""
        if isinstance(entry, ChangeBatch):
            return self.batch(entry)
        return self._marker(entry) if isinstance(entry, CopyMarker) else entry

    def _described(self, segment: Segment) -> dict[str, str]:
        """What the journal has to note of the columns of mapped tables, which it does not see: see given_schemas."""
        notes: dict[str, str] = {}
        for entry in segment.entries:
            of = entry.batch if isinstance(entry, Held) else entry
            if (of.source, of.table) in self.stopped_tables:
                continue
            try:
                mapped = self._shape(of)
            except ConfigError:  # stops the table when its changes are judged
                continue
            if mapped is not of.schema:
                name, told = given_note(of.table, of.schema, mapped)
                key = f"{of.source} {name}"
                if self._given.get(key) != told:
                    self._given[key] = notes[name] = told
        return notes

    def _shape(self, of: ChangeBatch | CopyMarker) -> TableSchema:
        """What the journal holds of a table with these columns. Raises ConfigError."""
        schema = of.schema if self._maps is None else self._maps.schema(of.source, of.table, of.schema)
        return schema if self._waiting is None else self._waiting.enrichments.schema(schema)

    def batch(self, batch: ChangeBatch) -> JudgedBatch | Stopped:
        """Ordinals and verdicts for a batch. A table that its contract does not fit any more is stopped, as by a rule."""
        if batch.dataset in self.stopped or (batch.source, batch.table) in self.stopped_tables:
            return Stopped(batch)
        if not batch.schema.columns:
            return self._stop(batch, "the table has no columns any more: give it one, or leave it out")
        given, rows, first = batch, len(batch), self._next
        batch = replace(batch, ordinal=np.arange(first, first + rows, dtype=np.int64))
        try:
            mapped = None if self._maps is None else self._maps.apply(batch)
        except ConfigError as error:
            self._stop_table(batch, error.message)
            return Stopped(given)
        failed: Sequence[QuarantinedRow] = ()
        unmapped: Sequence[QuarantineRecord] = ()
        if mapped is not None:
            batch, failed = mapped.passed, mapped.rows
        try:
            gate = self._gate(batch.schema)
        except ConfigError as error:
            return self._stop(given, error.message)
        judgement = undecodable(batch) if gate is None else gate.judge(batch)
        self._note_breaker(batch.dataset, judgement)
        if judgement.failure is not None:
            way_out = f"\n  hint: {RESUMED}" if judgement.failure.rule == BREAKER else ""
            return self._stop(given, judgement.failure.message + way_out)
        if mapped is not None and mapped.failed is not None and mapped.failed.sink is None:
            unmapped = self._recorded(mapped, gate)
        if self._order is not None:
            judgement = self._order.applied(batch, judgement, unmapped, () if gate is None else gate.over_steps)
        passed = batch if judgement.passed.all() else batch.take(judgement.passed)
        try:
            passed, poor, part, sifted = self._enriched(passed)
        except ConfigError as error:
            self._stop_table(batch, error.message)
            return Stopped(given)
        self._next = first + rows
        records: Sequence[QuarantineRecord] = ()
        if batch.sink is None:
            records = [*unmapped, *self._record(batch, judgement.quarantined, gate), *self._recorded(poor, gate)]
        else:  # a row that the contract holds back is in quarantine since it came; what a lookup lacks now is news for this sink
            records = [for_sink(record, batch.sink) for record in self._recorded(poor, gate)]
        unfit = () if poor is None else poor.rows
        return JudgedBatch(
            passed=passed,
            rows=rows - (len(part.batch) if part else 0),
            first=first,
            last=first + rows - 1,
            records=records,
            judged=judgement.judged,
            times=_times(given),
            held_back=Counter(reason.rule for row in (*failed, *judgement.quarantined, *unfit) for reason in row.reasons),
            dropped={**{rule: len(index) for rule, index in judgement.dropped.items()}, **_late(sifted)},
            warned=judgement.warnings,
            waiting=part,
            versions=None if sifted is None else sifted.news,
            earlier=self._remembered(batch, judgement, poor, sifted),
        )

    def _remembered(self, batch: ChangeBatch, judgement: Judgement, poor: Mapped | None, sifted: Sifted | None) -> ChangeBatch | None:
        """What later changes are to be compared with: of what the gate let pass all but what went no further."""
        if self._earlier is None:
            return None
        gone = [*([] if sifted is None else [sifted.gone]), *([] if poor is None or poor.failed is None else [poor.failed.ordinal])]
        passed = judgement.passed & ~np.isin(batch.ordinal, np.concatenate([np.zeros(0, np.int64), *gone]))
        return self._earlier.take(batch if passed.all() else batch.take(passed))

    def _note_breaker(self, dataset: str, judgement: Judgement) -> None:
        failure = judgement.failure
        said = failure.message if failure is not None and failure.rule == BREAKER else judgement.alert
        if said is not None:
            if dataset not in self.tripped and judgement.alert is not None:  # one that stops the table says so itself
                log.warning("too many bad rows: they go on, with warnings", dataset=dataset, why=said)
            self.tripped[dataset] = said
        elif judgement.judged and self.tripped.pop(dataset, None) is not None:
            log.info("enough rows are good again", dataset=dataset)

    def _enriched(self, batch: ChangeBatch) -> tuple[ChangeBatch, Mapped | None, Part | None, Sifted | None]:
        """What goes on of what the contract has passed, what was made of it where it is enriched, what waits, and what was late.

        Raises ConfigError.
        """
        if self._versions is not None:
            self._versions.check(batch.schema if self._waiting is None else self._waiting.enrichments.schema(batch.schema))
        if self._waiting is not None:
            self._waiting.lookups.check(batch)
        made = None if self._waiting is None else self._waiting.apply(batch)
        mapped, part = (None, None) if made is None else made
        if self._order is not None and mapped is not None and mapped.failed is not None:
            mapped = self._order.enriched(batch, mapped, part)
        passed, sifted = self._sifted(batch if mapped is None else mapped.passed)
        if self._waiting is not None:
            self._waiting.lookups.take(passed)
        return passed, mapped, part, sifted

    def _sifted(self, passed: ChangeBatch) -> tuple[ChangeBatch, Sifted | None]:
        if self._versions is None:
            return passed, None
        sifted = self._versions.sift(passed)
        return sifted.passed, sifted

    def _recorded(self, mapped: Mapped | None, gate: Gate | None) -> list[QuarantineRecord]:
        """Records of the rows that a map does not take."""
        if mapped is None or mapped.failed is None:
            return []
        records = self._record(mapped.failed, mapped.rows, gate)
        return [structs.replace(record, key=key) for record, key in zip(records, mapped.keys, strict=True)]

    def settle(self) -> list[tuple[Settled, JudgedBatch | None]]:
        """What need not wait for a lookup any more, with what became of it."""
        if self._waiting is None or not self._waiting.due():
            return []
        return [(one, self._settled(one)) for one in self._waiting.settle(self._numbers)]

    def _numbers(self, rows: int) -> int:
        first = self._next
        self._next += rows
        return first

    def _settled(self, one: Settled) -> JudgedBatch | None:
        if one.batch is None:
            return None
        batch = one.batch
        gate = self._gates.get(batch.schema.encoded)
        if one.mapped is None:
            spoiled = [QuarantinedRow(row, (Reason(WAITED, None, one.why, None),)) for row in range(len(batch))]
            judgement = Judgement(np.zeros(len(batch), np.bool_), spoiled)
            rows = list((judgement if self._order is None else self._order.applied(batch, judgement)).quarantined)
            passed, records = batch.slice(0, 0), list(self._record(batch, rows, gate))
        else:
            mapped = one.mapped if self._order is None else self._order.enriched(batch, one.mapped)
            passed, rows, records = mapped.passed, list(mapped.rows), self._recorded(mapped, gate)
        passed, sifted = self._sifted(passed)
        if self._waiting is not None:
            self._waiting.lookups.take(passed)
        return JudgedBatch(
            passed=passed,
            rows=len(batch),
            first=int(batch.ordinal[0]),
            last=int(batch.ordinal[-1]),
            records=records,
            times=_times(batch),
            held_back=Counter(reason.rule for row in rows for reason in row.reasons),
            dropped=_late(sifted),
            versions=None if sifted is None else sifted.news,
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
        if (marker.source, marker.table) in self.stopped_tables:
            return None
        try:
            marker = replace(marker, schema=self._shape(marker))
        except ConfigError as error:
            self._stop_table(marker, error.message)
            return None
        if self._maps is not None:  # rows of the dataset's other sources are not in this copy, and stay
            marker = replace(marker, first=marker.first or self._maps.merged(marker.source, marker.table))
        key = (marker.source, marker.table, marker.sink)
        if marker.phase == "start":
            self._copies[key] = self._next
        marker = replace(marker, ordinal=self._copies.get(key, self._next))
        if self._earlier is not None:
            self._earlier.mark(marker)
        if self._waiting is not None:
            self._waiting.mark(marker)
            try:
                self._waiting.lookups.take(marker)
            except ConfigError as error:
                self._stop_table(marker, error.message)
                return None
        return marker

    def _gate(self, schema: TableSchema) -> Gate | None:
        if schema.encoded not in self._gates:
            self._gates[schema.encoded] = self._make(schema)
        return self._gates[schema.encoded]


def _late(sifted: Sifted | None) -> dict[str, int]:
    return {} if sifted is None or not sifted.late else {LATE: sifted.late}


def _times(batch: ChangeBatch) -> tuple[int, int] | None:
    return (int(batch.time.min()), int(batch.time.max())) if len(batch) else None
