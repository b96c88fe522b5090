"""Messages in avro, as Confluent's serializers write them: a zero byte, the schema's id in four bytes, the record.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

from fastavro import schemaless_reader
from fastavro.schema import SchemaParseException

from sources.records.assembling import Careful, Rows, assembled, merged, overruled, unreadable
from sources.records.avro_lean import lean
from sources.records.avro_schemas import WriterSchema, WriterSchemas, field_reader, field_readers
from sources.records.base import Decoded, DecodeOptions, Decoder, Payload, RecordSchema
from sources.records.keys import KeyReader
from sources.records.object_rows import ObjectColumns
from sources.records.objects import object_text
from sources.records.scalars import Unfit, pg_type

_HEAD = struct.Struct(">BI")
_CORRUPT = (
    EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, StopIteration, RecursionError,
    MemoryError, struct.error, SchemaParseException,
)  # fmt: skip


class AvroDecoder(Decoder):
    """The record's fields are the columns, by their names; one that the writer's schema lacks is null."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions) -> None:
        super().__init__(schema, options)
        schemas = WriterSchemas(options)
        self._messages = AvroMessages(schemas, self._prepared)
        self._columns: dict[int, ObjectColumns] = {}
        self._keys = AvroKeys(schema, options, AvroMessages(schemas))

    def decode(self, payloads: Sequence[Payload]) -> Decoded:
        return assembled(self.schema, self._keys, payloads, self._read)

    def close(self) -> None:
        self._messages.close()

    def _read(self, values: Sequence[bytes]) -> Rows:
        width = len(self.schema.fields)
        refused: dict[int, Careful] = {}
        groups: dict[int, tuple[WriterSchema, list[int], list[Mapping[str, Any]]]] = {}
        for row, (number, schema, found) in enumerate(self._messages.read(values)):
            if schema is None or not isinstance(found, Mapping):
                refused[row] = unreadable(width, row, found if schema is None else "its schema is no record", values[row])
                continue
            _, rows, records = groups.setdefault(number, (schema, [], []))
            rows.append(row)
            records.append(found)
        parts = [
            (rows, self._columns[number].read(records, list(schema.fields), [values[row] for row in rows]))
            for number, (schema, rows, records) in groups.items()
        ]
        return overruled(merged(parts, len(values), width), refused)

    def _prepared(self, number: int, schema: WriterSchema) -> WriterSchema:
        """How messages of this schema are read, and what reads their columns."""
        bare, readers = lean(schema, self.given, self.options)
        readers |= field_readers(self.given, self.options, schema.fields)
        self._columns[number] = ObjectColumns(self.given, self.options, readers=readers)
        return bare


class AvroMessages:
    """Takes messages apart: which schema they were written with, and what they hold."""

    def __init__(self, schemas: WriterSchemas, prepare: Callable[[int, WriterSchema], WriterSchema] | None = None) -> None:
        """`prepare` is called once for each schema, and says with which one its messages are read."""
        self._schemas = schemas
        self._prepare = prepare
        self._prepared: dict[int, WriterSchema] = {}

    def read(self, values: Sequence[bytes]) -> Iterator[tuple[int, WriterSchema | None, Any]]:
        """For each message its schema's id, the schema and the value; without a schema the reason in place of the value.

        Raises TransientError where the registry is away.
        """
        known: dict[int, WriterSchema | str] = {}
        for value in values:
            if len(value) < _HEAD.size or value[0] != 0:
                yield 0, None, _headless(value)
                continue
            number = _HEAD.unpack_from(value)[1]
            schema = known.get(number)
            if schema is None:
                try:
                    schema = self._of(number)
                except Unfit as error:
                    schema = str(error)
                known[number] = schema
            if isinstance(schema, str):
                yield number, None, schema
                continue
            stream = BytesIO(value)
            stream.seek(_HEAD.size)
            try:
                found = schemaless_reader(stream, schema.parsed, None)
            except _CORRUPT as error:
                yield number, None, f"cannot be read with schema {number}: {str(error) or type(error).__name__}"
                continue
            behind = len(value) - stream.tell()
            if behind:
                yield number, None, f"has {behind} bytes behind the record"
            else:
                yield number, schema, found

    def _of(self, number: int) -> WriterSchema:
        if self._prepare is None:
            return self._schemas.of(number)
        if number not in self._prepared:
            self._prepared[number] = self._prepare(number, self._schemas.of(number))
        return self._prepared[number]

    def close(self) -> None:
        """Lets go of connections."""
        self._schemas.close()


class AvroKeys(KeyReader):
    """Keys in the wire format too: a record with the key columns, or the value of the only one."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions, messages: AvroMessages) -> None:
        super().__init__(schema, options.paths)
        self._messages = messages
        self._types = [(field.name, pg_type(field.type)) for field in schema.fields if field.name in schema.key]

    def read(self, key: bytes | None) -> dict[str, str]:
        if not key or key[0] != 0 or len(key) < _HEAD.size:
            return super().read(key)
        _, schema, found = next(self._messages.read([key]))
        if schema is None:
            raise Unfit(f"the key {found}")
        texts: dict[str, str] = {}
        for name, kind in self._types:
            value = found.get(self._under(found, name)) if isinstance(found, Mapping) else found
            reader = field_reader(schema.fields.get(self._under(schema.fields, name)), kind)
            try:
                text = None if value is None else reader(value) if reader else object_text(value, kind)
            except Unfit as error:
                raise Unfit(f"the key's {name}: {error}") from error
            if text is None or (len(self._types) > 1 and not isinstance(found, Mapping)):
                raise Unfit(f"the key has no {name}")
            texts[name] = text
        return texts


def _headless(value: bytes) -> str:
    if not value:
        return "the message is empty"
    if value[0] != 0:
        return f"does not begin with the zero byte of the wire format, but with 0x{value[0]:02x}"
    return "ends within the schema's id"
