"""The ingest flow: sources, gate, journal.

No recovery store of Bytewax's: what a source has to give again is what the journal does not hold, and the journal keeps changes and
position in one transaction. The source is acknowledged once that transaction is on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import bytewax.operators as op
import structlog
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from dataflows.ending import Ending
from dataflows.judging import Judge, Judged, JudgedBatch, JudgedSegment
from dataflows.lookups import Lookups
from dataflows.observe import IngestMetrics
from dataflows.stopping import Stop
from dataflows.versions import Versions
from journal.batch import ChangeBatch, CopyMarker, Segment
from journal.bell import Ringer
from journal.local import JournalWriter
from journal.quarantine import QuarantineRecord
from journal.state import EVERY_SINK
from pipeline.errors import TerminalError
from sources.base import Source

if TYPE_CHECKING:
    from dataflows.earlier_values import EarlierValues

log = structlog.get_logger("sluice.ingest")

_PATIENCE = 0.1  # seconds that an idle flow waits for its source, which wakes it
_PRUNE_EVERY = 1.0
_PRUNE_SOON = 0.2
_PRUNE_REST = 4.0  # longer, where nothing came in and nothing went

EVERY_RULE = "*"
"""In the ledger: the line that counts the changes which the rules of a dataset were asked about."""


@dataclass
class IngestState:
    """What the two ends of the flow and the threads around it share. `handed` and `done` count segments."""

    handed: int = 0
    done: int = 0
    full: bool = False
    stopped: dict[str, TerminalError] = field(default_factory=dict)  # by source
    ending: Ending = field(default_factory=Ending)
    begun: bool = False
    drained: bool = False

    def stop(self, source: str, error: TerminalError) -> None:
        """The source is not read any more."""
        if source not in self.stopped:
            log.error("source stopped", source=source, error=error.message, hint=error.hint)
            self.stopped[source] = error


Precedence = Callable[[list[str]], list[str]]
"""Of the names of the sources that run those that are to be read now."""


class _Intake(StatefulSourcePartition[tuple[str, Segment], None]):
    """Takes what the sources have read, in turn, one source's open transaction to its end before another's."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        state: IngestState,
        stop: Stop,
        relieve: Callable[[], bool],
        precedence: Precedence,
        busy: Callable[[], bool],
        together: bool,
    ) -> None:
        """`busy`: what relieves has more to do. `together`: with other processes, which read for this one."""
        self._busy, self._precedence = busy, precedence
        self._sources = dict(sources)
        self._order = list(sources)
        self._state = state
        self._stop = stop
        self._relieve, self._together = relieve, together
        self._open: str | None = None

    def next_batch(self) -> list[tuple[str, Segment]]:
        with self._state.ending.on_error():
            if not self._state.ending:
                return self._next()
        if self._together:
            self._state.ending.raised()  # its end alone would not end the others
        raise StopIteration

    def _next(self) -> list[tuple[str, Segment]]:
        idle = self._state.handed == self._state.done
        self._state.begun = True
        if self._stop and idle:
            self._state.drained = True
            raise StopIteration
        self._state.full = self._open is None and not self._relieve()
        if self._state.full:
            if idle:
                self._stop.wait(_PATIENCE)
            return []
        running = [name for name in self._order if name not in self._state.stopped]
        if not running:
            if self._together:
                raise next(iter(self._state.stopped.values()))
            raise StopIteration
        running = self._precedence(running)
        for name in [self._open] if self._open else running:
            # blocking is right here: nothing else happens in this flow, and the source wakes us
            segment = self._take(name, _PATIENCE / len(running) if idle and not self._busy() else 0.0)
            if segment is not None:
                self._open = None if segment.watermark is not None else name
                self._order.append(self._order.pop(self._order.index(name)))
                self._state.handed += 1
                return [("journal", segment)]
        return []

    def _take(self, name: str, timeout: float) -> Segment | None:
        try:
            return self._sources[name].take(timeout)
        except TerminalError as error:
            self._state.stop(name, error)
            if self._open == name:
                raise  # what was written of its open transaction must not be committed with another source's
            return None

    def next_awake(self) -> datetime | None:
        return None

    def snapshot(self) -> None:
        """The journal is the resume state."""


class _Sources(FixedPartitionedSource[tuple[str, Segment], None]):
    def __init__(self, intake: _Intake) -> None:
        self._intake = intake

    def list_parts(self) -> list[str]:
        return ["sources"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Intake:
        return self._intake


class JournalStep(StatefulSinkPartition[JudgedSegment, None]):
    """Writes segments to the journal and commits at each transaction boundary; then, and only then, the source may forget.

    Guaranteed: what is committed ends between two transactions of the source and carries the position of just that place.
    """

    def __init__(
        self,
        journal: JournalWriter,
        judge: Judge,
        sources: Mapping[str, Source],
        state: IngestState,
        metrics: IngestMetrics,
        ringer: Ringer,
        copy_requested: Callable[[str, str], float | None],
        copy_done: Callable[[str, str, float], None],
        copy_name: Callable[[str, str], str],
        lookups: Lookups | None = None,
        versions: Versions | None = None,
        earlier: EarlierValues | None = None,
    ) -> None:
        """`copy_name` names the copy of a source's table; `copy_requested` tells when one was asked for, for a sink;
        `copy_done` is told so when that one has become
        durable: who asks while a copy is being made gets another one."""
        self._journal = journal
        self._judge = judge
        self._sources = sources
        self._state = state
        self._metrics = metrics
        self._ringer = ringer
        self._copy_requested = copy_requested
        self._copy_done = copy_done
        self._copy_name = copy_name
        self._lookups = lookups
        self._versions = versions
        self._earlier = earlier
        self._copying: dict[tuple[str, str, str], float | None] = {}  # by source, table and sink: when the copy was asked for
        self._copied: list[tuple[str, str, float]] = []
        self._open_keys: dict[
            tuple[str, str, str], set[frozenset[tuple[str, str | bytes | None]]]
        ] = {}  # of what is in quarantine already, while a copy is made for one sink

    def write_batch(self, items: list[JudgedSegment]) -> None:
        for item in items:
            if not self._state.ending:
                with self._state.ending.on_error():
                    self._write_segment(item)
            self._state.done += 1

    def _write_segment(self, item: JudgedSegment) -> None:
        for entry in item.entries:
            self._write(entry)
        if item.segment.notes:
            self._journal.note(item.segment.source, item.segment.notes)
        self._settle()
        if item.segment.watermark is not None:
            self._commit(item.segment.source, item.segment.watermark)
            self._answer_copies()

    def _settle(self) -> str | None:
        """Lets go, inside the open transaction, what need not wait for a lookup any more. Returns a source of which anything did."""
        of: str | None = None
        for settled, judged in self._judge.settle():
            self._journal.waiting.remove(settled.gone)
            for part in settled.parts:
                part.number = self._journal.waiting.add(part.batch, part.since)
            if judged is not None:
                self._write_batch(judged)
                of = judged.passed.source
        return of

    def look_after_waiting(self) -> None:
        """The same between two segments: a lookup may not come in time."""
        source = self._settle()
        if source is not None:
            self.commit_release(source)

    def release(self, source: str, table: str, sink: str | None = None) -> None:
        """Lets go what was held for a table, through its gate and into the journal, inside the open transaction."""
        for batch in self._journal.released(source, table, sink):
            self._write(self._judge.batch(batch))

    def commit_release(self, source: str) -> None:
        """Commits a release that no segment asked for, at the position where the journal stands."""
        watermark = self._journal.resume(source).watermark
        if watermark is not None:  # which the source knows already: there is nothing to confirm
            self._journal.commit(source, watermark)
            self._ringer.ring()

    def _write(self, entry: Judged) -> None:
        if isinstance(entry, JudgedBatch):
            self._write_batch(entry)
        elif isinstance(entry, CopyMarker):
            sink = entry.sink or EVERY_SINK
            self._open_keys.pop((entry.source, entry.table, sink), None)
            if entry.phase == "start":
                self._copying[entry.source, entry.table, sink] = self._copy_requested(sink, self._copy_name(entry.source, entry.table))
            self._journal.mark(entry)
            if self._lookups is not None:
                self._lookups.keep(entry, self._journal.lookups)
            if self._earlier is not None:
                self._earlier.keep_mark(entry, self._journal.lookups)
            if entry.phase == "end":
                if entry.sink is None:
                    self._journal.sitting.copied(entry)
                self.release(entry.source, entry.table, entry.sink)
                requested = self._copying.pop((entry.source, entry.table, sink), None)
                if requested is not None:
                    self._copied.append((sink, self._copy_name(entry.source, entry.table), requested))
        else:
            self._journal.hold(entry.batch)

    def _write_batch(self, judged: JudgedBatch) -> None:
        batch = judged.passed
        if len(batch):
            self._journal.append(batch)
            if self._lookups is not None:
                self._lookups.keep(batch, self._journal.lookups)
        if judged.versions is not None and self._versions is not None:
            self._versions.keep(judged.versions, self._journal.lookups)
        if judged.earlier is not None and self._earlier is not None:
            self._earlier.keep(judged.earlier, self._journal.lookups)
        if judged.waiting is not None:
            judged.waiting.number = self._journal.waiting.add(judged.waiting.batch, judged.waiting.since)
        self._journal.quarantine(judged.records if batch.sink is None else self._unknown(judged), batch)
        if batch.sink is None:  # a copy for one sink brings nothing new into the pipeline
            self._journal.sitting.passed(batch)
            self._journal.count(
                batch.dataset,
                source=batch.source,
                rows=judged.rows,
                first_ordinal=judged.first,
                last_ordinal=judged.last,
                quarantined=len(judged.records),
                dropped=judged.dropped,
                warned=judged.warned,
                failed=judged.failed,
                evaluated={EVERY_RULE: judged.judged} if judged.judged else None,
                times=judged.times,
            )
            self._count(batch, judged)
        self._judge.written(judged)

    def _unknown(self, judged: JudgedBatch) -> list[QuarantineRecord]:
        """Of the records of a copy for one sink those of rows that are in quarantine for nothing else."""
        copy = judged.passed.source, judged.passed.table, judged.passed.sink or EVERY_SINK
        if judged.records and copy not in self._open_keys:
            self._open_keys[copy] = {frozenset(key.items()) for key in self._journal.open_keys(judged.passed.dataset)}
        return [one for one in judged.records if frozenset(one.key.items()) not in self._open_keys[copy]]

    def _count(self, batch: ChangeBatch, judged: JudgedBatch) -> None:
        metrics = self._metrics
        metrics.rows.labels(batch.source, batch.dataset).inc(judged.rows)
        metrics.bytes.labels(batch.source, batch.dataset).inc(batch.nbytes)
        for rule, count in judged.dropped.items():
            metrics.dropped.labels(batch.dataset, rule).inc(count)
        for rule, count in judged.warned.items():
            metrics.warned.labels(batch.dataset, rule).inc(count)
        for rule, count in judged.held_back.items():
            metrics.quarantined.labels(batch.dataset, rule).inc(count)

    def _commit(self, source: str, watermark: str) -> None:
        with self._metrics.commit.time():
            self._journal.commit(source, watermark)
        self._sources[source].confirm(watermark)
        self._ringer.ring()

    def _answer_copies(self) -> None:
        while self._copied:
            self._copy_done(*self._copied.pop())

    def snapshot(self) -> None:
        """Nothing to keep: see write_batch."""

    def close(self) -> None:
        """Also runs when an error ends the flow: what is open must not stay."""
        self._journal.rollback()


class _Journal(FixedPartitionedSink[JudgedSegment, None]):
    def __init__(self, step: JournalStep) -> None:
        self._step = step

    def list_parts(self) -> list[str]:
        return ["journal"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> JournalStep:
        return self._step


class Relief:
    """Prunes the journal now and then, and says whether there is room in it."""

    def __init__(self, journal: JournalWriter, passed: Callable[[], int | None]) -> None:
        self._journal = journal
        self._passed = passed
        self._next = 0.0
        self._room = True
        self._rest = 0.0
        self._seen = 0

    def __call__(self) -> bool:
        now, seen = time.monotonic(), self._journal.next_ordinal
        if now < self._next + (self._rest if seen == self._seen else 0.0):
            return self._room
        self._seen = seen
        gone = self._journal.prune(self._passed())
        full = self._journal.full
        if full is self._room:
            log.warning(
                "journal is full, reading pauses" if full else "journal has room again, reading goes on", bytes=self._journal.size()
            )
        self._room = not full
        self._next = now + (_PRUNE_SOON if gone else _PRUNE_EVERY)  # a step is small: more of it follows while it finds something
        self._rest = 0.0 if gone or full else _PRUNE_REST
        return self._room


def ingest_flow(
    name: str,
    sources: Mapping[str, Source],
    judge: Judge,
    step: JournalStep,
    state: IngestState,
    stop: Stop,
    relieve: Callable[[], bool],
    precedence: Precedence = lambda running: running,
    busy: Callable[[], bool] = lambda: False,
    exchange: Callable[[Dataflow], None] | None = None,
) -> Dataflow:
    """sources → judge → journal, in one worker. `exchange` adds what goes to and from processes that read for it."""
    flow = Dataflow(name)
    stream = op.input("sources", flow, _Sources(_Intake(sources, state, stop, relieve, precedence, busy, exchange is not None)))

    def judge_segment(segment: Segment) -> list[JudgedSegment]:
        with state.ending.on_error():
            if not state.ending:
                return [judge.segment(segment)]
        return []

    judged = op.flat_map_value("judge", stream, judge_segment)
    op.output("journal", judged, _Journal(step))
    if exchange is not None:
        exchange(flow)
    return flow
