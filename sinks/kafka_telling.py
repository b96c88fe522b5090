"""Puts changes into the open transaction: batches as messages, and tombstones for rows that are gone without a change of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from confluent_kafka import Message

from journal.batch import ChangeBatch, Longs, Mask, Op
from journal.kafka_link import Link
from journal.kafka_topics import Topic
from journal.trace_context import MOST_STATE, Traces
from sinks.base import RefusedRow, Target
from sinks.kafka_changes import Changes, changes_of
from sinks.kafka_formats import Facts, Format, numbered, with_states
from sinks.kafka_newest import Newest

log = structlog.get_logger("sluice.kafka")

_OVERHEAD = 1024 + MOST_STATE  # bytes of a message beside key and value, at most: headers, lengths
_WORDS = pa.array([op.word for op in Op])
_PLACE = {int(op): place for place, op in enumerate(Op)}


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """Messages with keys that nobody may be able to read yet."""

    keys: pa.Array
    position: Longs
    alive: Mask


class Telling:
    """What one sink has told, and tells. `newest` is the highest position that it was given, `traces` are those of its journal."""

    def __init__(self, sink: str, format: Format, read: Callable[[Topic], Iterable[Sequence[Message]]]) -> None:
        """`read` gives the messages of a topic that are committed."""
        self._sink = sink
        self._format = format
        self._read = read
        self._told: dict[str, list[_Told]] = {}
        self._before: dict[str, list[_Told]] = {}
        self.newest = 0
        self.traces = Traces("")

    def committed(self) -> None:
        """What was told is kept until the next commit: brokers answer before readers can see it."""
        self._before, self._told = self._told, {}

    def undone(self) -> None:
        """What was told since the last commit is not there."""
        self._told = {}

    def write(self, link: Link, target: Target, topic: Topic, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        """Tells a batch, in its order. Returns the rows that no message can hold."""
        refused: list[RefusedRow] = []
        start = 0
        for end in [*np.flatnonzero(batch.op == Op.TRUNCATE).tolist(), len(batch)]:
            part = batch.slice(start, end)
            inside = leaving[(leaving >= start) & (leaving < end)] - start
            refused += [replace(one, row=one.row + start) for one in self._write(link, target, topic, part, inside)]
            if end < len(batch) and target.on_truncate == "truncate":
                self.sweep(link, target, topic, int(batch.ordinal[end]), int(batch.time[end]))
            start = end + 1
        if len(batch):
            self.newest = max(self.newest, int(batch.ordinal[-1]))
        return refused

    def _write(self, link: Link, target: Target, topic: Topic, batch: ChangeBatch, leaving: Longs) -> list[RefusedRow]:
        """Tells a batch without truncates."""
        if not len(batch):
            return []
        changes = changes_of(target, batch, leaving)
        refused = {one.row: one for one in changes.refused}
        if not len(changes.rows):
            return list(refused.values())
        schema = target.schema
        facts = self._facts(batch, changes)
        keys, bad_keys = self._format.keys(topic.name, schema, changes.keys) if schema.key else (pa.nulls(len(facts.put), pa.binary()), {})
        values, bad = self._format.values(topic.name, schema, changes.columns, facts.take(facts.put))
        written = changes.rows[changes.put]
        for c, wrong in bad.items():
            for row in written[wrong]:
                message = f"the value does not fit {self._format.name}: it is no {schema.columns[c].type}"
                refused.setdefault(int(row), RefusedRow(int(row), schema.names[c], message))
        for row in written[_sizes(keys.filter(pa.array(changes.put)), values) > topic.max_bytes]:
            message = f"the message is larger than the {topic.max_bytes} bytes that the topic takes (`max.message.bytes`)"
            refused.setdefault(int(row), RefusedRow(int(row), None, message))
        kept = ~np.isin(changes.rows, [*refused]) if refused else np.ones(len(changes.rows), np.bool_)
        for wrong in bad_keys.values():
            kept &= ~wrong  # without a value: what cannot be a key was never there
        place = np.cumsum(changes.put) - 1
        spread = values if changes.put.all() else values.take(pa.array(place, mask=~changes.put))
        if not kept.all():
            chosen = pa.array(kept)
            keys, spread, facts = keys.filter(chosen), spread.filter(chosen), facts.take(kept)
        self._send(link, target, topic, keys, spread, facts)
        return [refused[row] for row in sorted(refused)]

    def _facts(self, batch: ChangeBatch, changes: Changes) -> Facts:
        rows, put = changes.rows, changes.put
        places = np.zeros(256, np.int64)
        places[[*_PLACE]] = [*_PLACE.values()]
        words = _WORDS.take(pa.array(places[np.where(put, batch.op[rows], Op.DELETE)]))
        position = batch.ordinal[rows]
        left = np.zeros(len(rows), np.bool_)
        left[:-1] = rows[1:] == rows[:-1]
        contexts = None if batch.traces is None else batch.traces.take(pa.array(rows))
        parents, states = self.traces.spans(self._sink, position, left.astype(np.int64), contexts)
        return Facts(words, position, batch.time[rows], numbered(position, left), put, parents, states)

    def _send(self, link: Link, target: Target, topic: Topic, keys: pa.Array, values: pa.Array, facts: Facts) -> None:
        headers = self._format.headers(target.schema, facts)
        if facts.states is not None:
            headers = with_states(headers, facts.states)
        link.send(topic.name, keys.cast(pa.binary()).to_pylist(), values.cast(pa.binary()).to_pylist(), headers)
        if target.schema.key:
            self._told.setdefault(topic.name, []).append(_Told(keys, facts.position, facts.put))

    def sweep(self, link: Link, target: Target, topic: Topic, position: int, time: int) -> None:
        """Tells that every row whose last message is older than `position` is gone."""
        if not target.schema.key:
            log.warning(
                "rows that the source has no longer stay in the topic: without a key no message can say which",
                sink=self._sink, dataset=target.dataset, topic=topic.name,
            )  # fmt: skip
            return
        self.newest = max(self.newest, position)
        number = 0
        with Newest(with_values=False) as newest:
            newest.read(self._read(topic))
            for one in (*self._before.get(topic.name, ()), *self._told.get(topic.name, ())):
                newest.add(one.keys, one.position, one.alive)
            for keys in newest.stale(position):
                n = len(keys)
                numbers = np.arange(number, number + n)
                ids = pc.binary_join_element_wise(str(position), pa.array(numbers).cast(pa.string()), "-")
                number += n
                words, places = pa.array([Op.DELETE.word] * n), np.full(n, position, np.int64)
                parents, _ = self.traces.spans(self._sink, places, numbers, None)
                facts = Facts(words, places, np.full(n, time, np.int64), ids, np.zeros(n, np.bool_), parents)
                self._send(link, target, topic, pa.array(keys, pa.binary()), pa.nulls(n, pa.binary()), facts)


def _sizes(keys: pa.Array, values: pa.Array) -> Longs:
    sizes: Longs = np.asarray(pc.binary_length(values)).astype(np.int64) + np.asarray(pc.binary_length(keys).fill_null(0))
    return sizes + _OVERHEAD
