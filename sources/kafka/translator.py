"""From messages to a batch of changes: payloads, positions, and the columns that the decoder makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import structlog
from confluent_kafka import Message

from journal.batch import ChangeBatch, Defect, Op, Payload, Payloads, Presence
from journal.schema import Column, TableSchema
from journal.trace_context import contexts_of
from journal.types import parse_type
from pipeline.errors import Refused
from pipeline.names import nearest
from sources.base import KEY_PREFIX, SourceContext
from sources.kafka.config import KafkaConfig
from sources.records.base import Decoded, Field, RecordSchema, make_decoder

log = structlog.get_logger("sluice.kafka")

_PAYLOAD = partial(tuple.__new__, Payload)  # no call of Python's own for a message
_LATEST = 253_402_214_400_000  # ms: the year 9999; whoever writes a message says when, and what is later cannot be told
_MOST_NAMES = 100  # of unknown fields: they come from outside, and each is a line in the log and a metric


class Translator:
    """Makes batches of the messages of one topic. For one thread, but for `unknown`.

    schema   what the batches look like. Where a map makes the dataset's rows of them, the columns of its key follow, each behind
             KEY_PREFIX: they are filled from the message's key, for deletes alone
    unknown  field that messages have and the schema lacks -> messages it was in
    """

    def __init__(self, config: KafkaConfig, context: SourceContext) -> None:
        """Raises Refused where nothing says which columns there are, ConfigError for columns that cannot be read."""
        self._source = context.name
        self._topic = config.topic
        records = _records(config, context)
        self._decoder = make_decoder(config.format, records, config.decoding)
        columns = [Column(one.name, str(parse_type(one.type)), nullable=not one.required) for one in self._decoder.schema.fields]
        keys = _mapped_key(config, context)
        self._keys = None if keys is None else make_decoder(config.format, keys, replace(config.decoding, extra="drop", paths={}))
        if keys is not None:
            columns += [Column(KEY_PREFIX + one.name, str(parse_type(one.type))) for one in keys.fields]
        self.schema = TableSchema(context.tables.get(config.topic, config.topic), tuple(columns), records.key)
        self.unknown: Counter[str] = Counter()

    def batch(self, messages: Sequence[Any], sink: str | None = None) -> ChangeBatch:
        """One row for each message, in order. Raises TransientError where a schema registry is away."""
        headers, unreadable = _headers(messages)
        payloads = list(map(_PAYLOAD, zip(map(Message.key, messages), map(Message.value, messages), headers, strict=True)))
        decoded = self._decoder.decode(payloads)
        columns, presence, defects = list(decoded.columns), dict(decoded.presence), [*decoded.defects, *unreadable]
        if self._keys is not None:
            defects += self._delete_keys(decoded, payloads, columns, presence, defects)
        if sink is None:  # a copy for one sink has no news
            self._note(decoded.extra)
        n = len(messages)
        return ChangeBatch(
            schema=self.schema,
            source=self._source,
            table=self._topic,
            op=decoded.op,
            lsn=np.fromiter(map(Message.partition, messages), np.int64, n),
            nth=np.fromiter(map(Message.offset, messages), np.int64, n),
            time=np.fromiter((time for _, time in map(Message.timestamp, messages)), np.int64, n).clip(0, _LATEST) * 1000,
            ordinal=np.zeros(n, np.int64),
            columns=tuple(columns),
            presence=presence,
            old=decoded.old,
            has_old=decoded.has_old,
            defects=tuple(defects),
            sink=sink,
            payloads=Payloads(payloads, np.arange(n, dtype=np.int64)),
            traces=contexts_of(headers) if any(headers) else None,
        )

    def close(self) -> None:
        for decoder in (self._decoder, self._keys):
            if decoder is not None:
                decoder.close()

    def _delete_keys(
        self,
        decoded: Decoded,
        payloads: Sequence[Payload],
        columns: list[pa.StringArray],
        presence: dict[int, Any],
        defects: list[Defect],
    ) -> list[Defect]:
        """Appends the columns of the mapped dataset's key, read from the keys of deletes. Returns the defects of those keys.

        What the input's own decoder had against a message without a value does not count: it knows no key. A delete that has a value
        tells the old row, from which the map makes the key; that of its message helps where it can be read.
        """
        assert self._keys is not None  # noqa: S101  (the caller has looked)
        n, first = len(payloads), len(columns)
        rows = np.flatnonzero(decoded.op == Op.DELETE)
        bare = {row for row in rows.tolist() if payloads[row].value is None}
        defects[:] = [defect for defect in defects if defect.row not in bare]
        if not len(rows):
            columns += [pa.nulls(n, pa.string())] * len(self._keys.schema.fields)
            return []
        found = self._keys.decode([Payload(payloads[row].key, None, payloads[row].headers) for row in rows.tolist()])
        places = np.full(n, -1, np.int64)
        places[rows] = np.arange(len(rows))
        index = pa.array(places, mask=places < 0)
        columns += [column.take(index) for column in found.columns]
        for column in range(first):
            codes = presence.get(column)
            codes = np.zeros(n, np.uint8) if codes is None else codes.copy()
            codes[list(bare)] = Presence.ABSENT
            presence[column] = codes
        return [replace(defect, row=row, column=None) for defect in found.defects if (row := int(rows[defect.row])) in bare]

    def _note(self, extra: Counter[str]) -> None:
        for name, count in extra.items():
            if name not in self.unknown:
                if len(self.unknown) >= _MOST_NAMES:
                    continue
                log.warning("messages have a field that the schema lacks", source=self._source, topic=self._topic, field=name)
            self.unknown = self.unknown + Counter({name: count})


def _headers(messages: Sequence[Any]) -> tuple[list[Sequence[tuple[str, bytes]]], list[Defect]]:
    try:
        found: list[Any] = list(map(Message.headers, messages))
    except UnicodeDecodeError:
        return _headers_one_by_one(messages)
    if found.count(None) == len(found):
        return [()] * len(found), []
    given = [one or () for one in found]
    if None in map(itemgetter(1), chain.from_iterable(given)):
        given = [[(name, value or b"") for name, value in one] for one in given]
    return given, []


def _headers_one_by_one(messages: Sequence[Any]) -> tuple[list[Sequence[tuple[str, bytes]]], list[Defect]]:
    """For a batch in which a header's name is not UTF-8: the client cannot give that message's headers at all."""
    headers: list[Sequence[tuple[str, bytes]]] = []
    defects: list[Defect] = []
    for row, message in enumerate(messages):
        try:
            headers.append([(name, value or b"") for name, value in message.headers() or ()])
        except UnicodeDecodeError as error:
            headers.append(())
            defects.append(Defect(row, None, f"the name of a header is not UTF-8: {error.reason}", error.object))
    return headers, defects


def _records(config: KafkaConfig, context: SourceContext) -> RecordSchema:
    """What messages have to hold: what the source's block says, else what the contract of its dataset says."""
    topic = config.topic
    declared = context.schemas.get(topic)
    mapped = topic in context.mapped
    dataset = context.tables.get(topic, topic)
    key = () if mapped else context.keys.get(dataset) or (declared.key if declared is not None else ())
    if config.schema_:
        fields = [Field(name, kind, name in key) for name, kind in config.schema_.items()]
    elif declared is not None:
        fields = [Field(one.name, one.type, one.name in key) for one in declared.columns]  # what is required, the gate judges
    else:
        hint = "write `schema` in its block (field -> Postgres type), or give its dataset a contract"
        raise Refused(f"nothing says which fields the messages of {topic} have", hint=hint)
    known = [one.name for one in fields]
    try:
        config.check_paths(known)
    except ValueError as error:
        raise Refused(f"topic {topic}: {error}") from None
    for name in key:
        if name not in known:
            raise Refused(f"{name}, of the key of {dataset}, is not in the schema of the topic {topic}", hint=nearest(name, known))
    return RecordSchema(tuple(fields), tuple(key))


def _mapped_key(config: KafkaConfig, context: SourceContext) -> RecordSchema | None:
    """The key of the dataset that a map makes of the topic; None without a map. Columns of an unknown type are text."""
    if config.topic not in context.mapped:
        return None
    declared = context.schemas.get(config.topic)
    types: Mapping[str, str] = {} if declared is None else declared.types
    key = context.keys.get(context.tables[config.topic]) or (declared.key if declared is not None else ())
    return RecordSchema(tuple(Field(name, types.get(name, "text")) for name in key), tuple(key))
