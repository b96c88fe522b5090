"""Debezium's events in avro, behind the id of their schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from sources.records.assembling import Rows
from sources.records.avro import AvroKeys, AvroMessages
from sources.records.avro_schemas import WriterSchema, WriterSchemas, field_readers, record_fields
from sources.records.base import DecodeOptions, RecordSchema
from sources.records.debezium_rows import Event
from sources.records.object_rows import ObjectColumns, Record


class AvroEvents:
    """Takes events apart; `keys` reads the keys of the same topic."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions) -> None:
        self._schema = schema
        self._options = options
        self._messages = AvroMessages(WriterSchemas(options))
        self._readers: dict[int, _AvroRows] = {}
        self.keys = AvroKeys(schema, options, self._messages)

    def close(self) -> None:
        """Lets go of connections."""
        self._messages.close()

    def read(self, values: Sequence[bytes]) -> Iterator[Event | str]:
        """An event for each message, or why it is none. Raises TransientError where the registry is away."""
        for number, schema, found in self._messages.read(values):
            if schema is None:
                yield str(found)
            elif not isinstance(found, Mapping) or not isinstance(found.get("op"), str):
                yield "is no change event: it has no op"
            else:
                before, after = found.get("before"), found.get("after")
                if isinstance(before, Mapping | None) and isinstance(after, Mapping | None):
                    yield Event(found["op"], before, after, number, partial(self._reader, number, schema))
                else:
                    yield "is no change event: before or after is no record"

    def _reader(self, number: int, schema: WriterSchema) -> _AvroRows:
        if number not in self._readers:
            self._readers[number] = _AvroRows(self._schema, self._options, schema)
        return self._readers[number]


class _AvroRows:
    """Rows of one schema."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions, writer: WriterSchema) -> None:
        fields = record_fields(writer.fields.get("after"), writer.named) or record_fields(writer.fields.get("before"), writer.named)
        readers = field_readers(schema, options, fields)
        self._names = list(fields)
        self._new = ObjectColumns(schema, options, readers=readers)
        self._old = ObjectColumns(schema, replace(options, extra="drop"), readers=readers, required=False)
        self._keep = options.extra == "keep"

    def new(self, items: Sequence[Record], raw: Sequence[bytes]) -> Rows:
        return self._new.read(items, self._names, raw)

    def old(self, items: Sequence[Record], raw: Sequence[bytes]) -> Rows:
        rows = self._old.read(items, self._names, raw)
        rows.extra.clear()
        if self._keep:
            rows.columns.append(pa.nulls(len(items), pa.string()))
        return rows
