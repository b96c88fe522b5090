"""Debezium's events as JSON: with the schema that Connect's converter puts before each, or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa

from sources.records.assembling import Rows
from sources.records.base import DecodeOptions, RecordSchema
from sources.records.connect import connect_type, described
from sources.records.debezium_rows import Event
from sources.records.json_level import BAD, MISSING, Buffer, Slot
from sources.records.json_objects import JsonObjects, not_utf8, slots, unsound
from sources.records.json_types import JsonType
from sources.records.scalars import pg_type

UNAVAILABLE = "__debezium_unavailable_value"
_SCHEMAS = 64  # of which readers are kept; a topic has a few
_TOKENS = (
    f'"{UNAVAILABLE}"'.encode(), b'"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="', f'["{UNAVAILABLE}"]'.encode(),
)  # fmt: skip


class _Envelope(msgspec.Struct, gc=False):
    op: str | None = None
    before: msgspec.Raw = MISSING
    after: msgspec.Raw = MISSING
    schema: msgspec.Raw = MISSING
    payload: msgspec.Raw = MISSING


_envelope = msgspec.json.Decoder(_Envelope).decode
_any = msgspec.json.Decoder().decode
_text = msgspec.json.Decoder(str).decode


class JsonEvents:
    """Takes events apart; their rows are read by JsonObjects, one for each schema."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions) -> None:
        self._schema = schema
        self._options = options
        self._readers: dict[bytes, _JsonRows] = {}

    def read(self, values: Sequence[bytes]) -> Iterator[Event | str]:
        """An event for each message, or why it is none."""
        broken = not_utf8(values)
        for row, value in enumerate(values):
            try:
                if broken[row]:
                    yield unsound(value) or "is not UTF-8"
                    continue
                found = _envelope(value)
                schema = b""
                if found.payload is not MISSING and found.op is None:
                    schema = bytes(found.schema)
                    found = _envelope(found.payload)
                if found.op is None:
                    yield "is no change event: it has no op"
                    continue
                before, after = _row(found.before), _row(found.after)
            except BAD:
                yield unsound(value) or "is no change event: it is not an object with op, before and after"
                continue
            yield Event(found.op, before, after, schema, partial(self._reader, schema))

    def _reader(self, schema: bytes) -> _JsonRows:
        if schema not in self._readers:
            if len(self._readers) >= _SCHEMAS:
                self._readers.clear()
            self._readers[schema] = _JsonRows(self._schema, self._options, _described(schema))
        return self._readers[schema]


class _JsonRows:
    """Rows of one schema."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions, connect: Mapping[str, object]) -> None:
        kinds = {field.name: pg_type(field.type) for field in schema.fields}
        made: list[Slot] = []
        for slot, field in zip(slots(schema, options), schema.fields, strict=True):
            kind = connect_type(connect[slot.path[0]], kinds[field.name]) if len(slot.path) == 1 and slot.path[0] in connect else slot.type
            made.append(replace(slot, type=_available(kind)))
        self._new = JsonObjects(made, schema.names, options)
        loose = [replace(slot, required=False) for slot in made]
        self._old = JsonObjects(loose, schema.names, replace(options, extra="drop"))
        self._keep = options.extra == "keep"

    def new(self, items: Sequence[Buffer], raw: Sequence[bytes]) -> Rows:
        return self._new.read(items)

    def old(self, items: Sequence[Buffer], raw: Sequence[bytes]) -> Rows:
        rows = self._old.read(items)
        rows.extra.clear()
        if self._keep:
            rows.columns.append(pa.nulls(len(items), pa.string()))
        return rows


def _available(kind: JsonType) -> JsonType:
    """A type that lets pass what stands in place of a value which Debezium did not have."""
    return replace(kind, read=lambda token: UNAVAILABLE if token in _TOKENS else kind.read(token))


def _row(token: msgspec.Raw) -> Buffer | None:
    """The token of a row; MongoDB's are JSON within a string."""
    if token is MISSING:
        return None
    first = bytes(token)[:1]
    if first == b"n":
        return None
    return _text(token).encode() if first == b'"' else token


def _described(schema: bytes) -> dict[str, Any]:
    """Column -> what Connect says of it, of the schema of an event: that of its `after`, which `before` shares."""
    if schema in (b"", b"null"):
        return {}
    envelope = described(_any(schema))
    return described(envelope.get("after") or envelope.get("before"))
