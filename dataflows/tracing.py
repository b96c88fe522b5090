"""One record, from its source to every sink: each change of a key that the journal still knows, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from dataflows.at_sinks import AtSink, AtSinks
from dataflows.judged_by import Judged, judged_by
from dataflows.records import Places, trace_id
from journal.batch import ChangeBatch, Mask, Op, Presence
from journal.following import Following
from journal.local import JournalReader
from journal.opening import has_journal
from journal.quarantine import QuarantineRecord, Values
from journal.state import State
from journal.trace_context import Traces
from pipeline.model import Pipeline

Key = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedChange:
    """One change.

    state         `passed`, `quarantined` (by `record`), `waiting` for a lookup, or `held` back with its table
    key, old_key  the row's key, and the one that the change moved it from
    row, before   the new row and the old one, as far as they are known, in Postgres' text
    context       the trace context that it came with
    committed_at  at the source, microseconds since 1970; received_at: into the journal, seconds since 1970
    judged        the contract that judged it; None where nothing is known of that
    """

    state: str
    ordinal: int | None
    operation: str
    key: Values
    old_key: Values | None = None
    row: Values | None = None
    before: Values | None = None
    trace_id: str | None = None
    context: str | None = None
    source: str
    table: str
    position: str
    committed_at: int
    received_at: float | None = None
    judged: Judged | None = None
    record: QuarantineRecord | None = None
    sinks: Mapping[str, AtSink] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gone:
    """What the journal has forgotten: entries up to `seq`, all of changes before `ordinal`."""

    seq: int
    ordinal: int
    sinks: Mapping[str, AtSink]


class Tracer:
    """Follows records of a pipeline that has run. Changes nothing; works beside a running service."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Raises JournalError where there is no journal, or one that cannot be read."""
        self._open = ExitStack()
        self._pipeline = pipeline
        self.reader = self._open.enter_context(closing(JournalReader.open(pipeline.state, pipeline.name)))
        state = self._open.enter_context(closing(State.open(pipeline.state)))
        self.following = Following(self.reader)
        self._notes = {name: dict(self.reader.resume(name).notes) for name in pipeline.sources}
        self._place = Places(pipeline, self._notes.__getitem__)
        self.traces = Traces(self.reader.id)
        self.sinks = AtSinks(pipeline, self.reader, state)

    def datasets(self) -> frozenset[str]:
        """Every dataset that changes came for."""
        tables = {schema.dataset for name in self._notes for schema in self.reader.resume(name).schemas.values()}
        return frozenset(tables | self.reader.totals().keys())

    def changes(self, dataset: str, key: Key, last: int | None) -> list[TracedChange]:
        """The `last` changes of a key, or all that are known, oldest first. A truncate of the table is one of them."""
        apart = [*self._quarantined(dataset, key), *self._apart(dataset, key)]
        found = sorted([*apart, *self._delivered(dataset, key, last)], key=lambda one: (one.ordinal is None, one.ordinal or 0))
        touched = [place for place, one in enumerate(found) if one.operation != Op.TRUNCATE.word]
        return found[touched[0 if last is None else max(0, len(touched) - last)] :] if touched else []

    def _delivered(self, dataset: str, key: Key, last: int | None) -> Iterator[TracedChange]:
        """Newest first; from the journal's entries."""
        left = last
        for seq, batch in self.following.backwards(dataset):
            own, moved = _touching(batch, key)
            cleared = batch.op == Op.TRUNCATE
            for row in np.flatnonzero(own | moved | cleared)[::-1].tolist():
                yield self._change("passed", batch, row, seq)
            left = None if left is None else left - int(np.count_nonzero(own | moved))
            if left is not None and left <= 0:
                return

    def _apart(self, dataset: str, key: Key) -> Iterator[TracedChange]:
        """What is not among the entries yet."""
        for state, batches in (("waiting", self.reader.waiting_rows(dataset)), ("held", self.following.held(dataset))):
            for batch in batches:
                own, moved = _touching(batch, key)
                for row in np.flatnonzero(own | moved).tolist():
                    yield self._change(state, batch, row)

    def _quarantined(self, dataset: str, key: Key) -> Iterator[TracedChange]:
        for record in self.following.records(dataset, key):
            yield TracedChange(
                state="quarantined",
                ordinal=record.ordinal,
                operation=record.operation,
                key=record.key,
                row=record.after,
                before=record.before,
                trace_id=trace_id(self.traces, record),
                source=record.source,
                table=record.table,
                position=record.position,
                committed_at=record.committed_at,
                received_at=record.quarantined_at,
                judged=Judged(record.ordinal, record.contract, record.contract_version, record.rules_hash),
                record=record,
            )

    def _change(self, state: str, batch: ChangeBatch, row: int, seq: int | None = None) -> TracedChange:
        one = batch.take(np.array([row], np.int64))
        values, key = _row(one), batch.schema.key
        before = {batch.schema.names[c]: column[0].as_py() for c, column in one.old.items()} if _has_old(one)[0] else None
        ordinal = None if seq is None else int(one.ordinal[0])
        context = None if one.traces is None else one.traces[0].as_py()
        op = Op(int(one.op[0]))
        own = {name: values.get(name) for name in key} if op is not Op.TRUNCATE else {}
        old = {name: before.get(name, own[name]) for name in key} if before and any(name in before for name in key) else own
        return TracedChange(
            state=state,
            ordinal=ordinal,
            operation=op.word,
            key=own,
            old_key=None if old == own else old,
            row=None if op in (Op.DELETE, Op.TRUNCATE) else values,
            before=values if op is Op.DELETE else before,
            trace_id=self.traces.id(ordinal or 0, context) if ordinal is not None or context else None,
            context=context,
            source=batch.source,
            table=batch.table,
            position=self._position(one),
            committed_at=int(one.time[0]),
            received_at=None if seq is None else self.following.committed_at(seq),
            judged=None if ordinal is None else judged_by(self._notes.get(batch.source, {}), batch.dataset, ordinal),
            sinks={} if seq is None else self.sinks.of(one, seq),
        )

    def _position(self, one: ChangeBatch) -> str:
        """In the words of the source; as the journal has it, of a source that is not in the pipeline file any more, or was begun anew."""
        try:
            return self._place(one, 0)
        except KeyError:
            return f"{int(one.lsn[0])}:{int(one.nth[0])}"

    def gone(self, dataset: str) -> Gone | None:
        """What the journal has forgotten, and what its sinks prove of that; None where it has forgotten nothing."""
        first = self.reader.first_seq()
        return None if first <= 1 else Gone(first - 1, self.following.first_ordinal(), self.sinks.passed(dataset, first - 1))

    def close(self) -> None:
        """Closes journal and state."""
        self._open.close()


def has_run(pipeline: Pipeline) -> bool:
    """Whether there is a journal to look into."""
    return has_journal(pipeline)


def _touching(batch: ChangeBatch, key: Key) -> tuple[Mask, Mask]:
    """bool[n]: rows with a key, and rows that left it for another."""
    schema = batch.schema
    none = np.zeros(len(batch), np.bool_)
    if not all(name in schema.names for name in key):
        return none, none
    places = {schema.index(name): value for name, value in key.items()}
    own = _all([pc.equal(batch.columns[c], value) for c, value in places.items()])
    if not any(c in batch.old for c in places):
        return own, none
    return own, _all([pc.equal(batch.old.get(c, batch.columns[c]), value) for c, value in places.items()]) & _has_old(batch) & ~own


def _all(found: Sequence[object]) -> Mask:
    mask: Mask = np.logical_and.reduce([np.asarray(pc.fill_null(one, False)) for one in found])
    return mask


def _has_old(batch: ChangeBatch) -> Mask:
    return np.zeros(len(batch), np.bool_) if batch.has_old is None else batch.has_old


def _row(one: ChangeBatch) -> dict[str, str | None]:
    """What is known of a single row."""
    absent = {c for c, codes in one.presence.items() if codes[0] == Presence.ABSENT}
    return {name: column[0].as_py() for c, (name, column) in enumerate(zip(one.schema.names, one.columns, strict=True)) if c not in absent}
