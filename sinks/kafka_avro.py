"""Avro in Confluent's wire format: a schema of the dataset's columns, registered before anything is written, and rows of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Mask
from journal.duckdb_session import session
from journal.schema import Column, TableSchema
from journal.schema_registry import SchemaRegistry
from journal.types import PgType, arrow_type, typed
from pipeline.errors import SinkShapeError
from sinks.avro_binary import booleans, decimals, floats, longs, optional, prefixed
from sinks.kafka_formats import Encoded, Facts, Format, Header, key_columns, plain_headers
from sinks.kafka_json import json_column, pg_type

_LONGS = ("smallint", "integer", "bigint", "oid")
_PLAIN: Mapping[str, Any] = {
    "boolean": "boolean", "smallint": "int", "integer": "int", "bigint": "long", "oid": "long", "real": "float",
    "double precision": "double", "bytea": "bytes", "date": {"type": "int", "logicalType": "date"},
    "timestamp with time zone": {"type": "long", "logicalType": "timestamp-micros"},
    "timestamp without time zone": {"type": "long", "logicalType": "local-timestamp-micros"},
    "time without time zone": {"type": "long", "logicalType": "time-micros"},
    "uuid": {"type": "string", "logicalType": "uuid"},
}  # fmt: skip
_COLUMN = "sluice.column"  # of a field: the column's name, where Avro does not take it
_MAGIC = b"\x00"
_PREFIX = 5  # bytes of the wire format before the datum: a zero, and the schema's id
_EXACT = Context(prec=100)


def avro_type(kind: PgType) -> Any:
    """The Avro type of a Postgres type; what Avro has no type for is a string of Postgres' text."""
    if kind.array:
        return "string"
    if kind.base == "numeric" and kind.args and pa.types.is_decimal(arrow_type(str(kind))):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.args[0], "scale": (*kind.args, 0)[1]}
    return _PLAIN.get(kind.base, "string")


def record_schema(name: str, pipeline: str, columns: Sequence[Column], required: Sequence[str]) -> str:
    """The schema of a record as text, the same for the same columns. All fields but the `required` may be null, and are by default.

    Raises SinkShapeError for columns whose names come to the same in Avro.
    """
    fields: list[dict[str, Any]] = []
    for column in columns:
        field: dict[str, Any] = {"name": avro_name(column.name), "type": avro_type(pg_type(column.type))}
        if column.name not in required:
            field |= {"type": ["null", field["type"]], "default": None}
        if field["name"] != column.name:
            field[_COLUMN] = column.name
        twin = next((other for other in fields if other["name"] == field["name"]), None)
        if twin is not None:
            message = f"the columns {twin.get(_COLUMN, twin['name'])!r} and {column.name!r} would both be the Avro field {field['name']}"
            raise SinkShapeError(message, hint="leave one of them out with `drop`")
        fields.append(field)
    record = {"type": "record", "name": avro_name(name), "namespace": f"sluice.{avro_name(pipeline)}", "fields": fields}
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def avro_name(name: str) -> str:
    """A name as Avro takes it."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return plain if not plain[:1].isdigit() else f"_{plain}"


def encode(columns: Sequence[Column], values: Sequence[pa.StringArray], required: Sequence[str]) -> Encoded:
    """Each row as a datum of `record_schema`."""
    pieces: list[pa.BinaryArray] = []
    bad: dict[int, Mask] = {}
    for c, (column, text) in enumerate(zip(columns, values, strict=True)):
        kind = pg_type(column.type)
        wrong = _misfit(text, kind)
        if wrong is not None and wrong.any():
            bad[c] = wrong
            text = pc.if_else(pa.array(wrong), None, text)
        null = np.asarray(text.is_null())
        encoded = _column(text, kind)
        pieces.append(encoded if column.name in required else optional(encoded, null))
    return pc.binary_join_element_wise(*pieces, b""), bad


def _misfit(text: pa.StringArray, kind: PgType) -> Mask | None:
    """bool[n] of values that the Avro type cannot hold."""
    if avro_type(kind) == "string":
        return None
    return json_column(text, kind)[1] if kind.base == "uuid" else typed(text, str(kind)).malformed


def _column(text: pa.StringArray, kind: PgType) -> pa.BinaryArray:
    """The values' bytes; those of nulls mean nothing."""
    written = avro_type(kind)
    if written == "string" or kind.base == "uuid":
        return prefixed(text.fill_null(""))
    values = typed(text, str(kind)).values
    if kind.base == "boolean":
        return booleans(values.fill_null(False))
    if kind.base == "bytea":
        return prefixed(values.fill_null(b""))
    if kind.base == "numeric":
        return decimals(values.fill_null(Decimal(0)))
    if pa.types.is_floating(values.type):
        return floats(values.fill_null(0))
    if pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    return longs(np.asarray(values.cast(pa.int64()).fill_null(0)))


def texts(values: pa.Array, kind: PgType) -> pa.StringArray:
    """Typed values in words that Postgres reads as the same values, and writes itself for most."""
    kept = values.type
    if pa.types.is_string(kept):
        return values
    if pa.types.is_boolean(kept):
        return pc.if_else(values, "t", "f")
    if pa.types.is_binary(kept):
        digits = session().over(pa.table({"v": values}), r"SELECT '\x' || lower(hex(v)) AS v FROM given")["v"].cast(pa.string())
        return pa.concat_arrays(digits.chunks) if digits.num_chunks else pa.array([], pa.string())
    if pa.types.is_timestamp(kept):
        written = _trimmed(values.cast(pa.int64()).cast(pa.timestamp("us")).cast(pa.string()))
        return pc.binary_join_element_wise(written, "+00", "") if kept.tz else written
    if pa.types.is_time64(kept):
        return _trimmed(values.cast(pa.string()))
    return values.cast(pa.string())


def _trimmed(moments: pa.StringArray) -> pa.StringArray:
    return pc.ascii_rtrim(pc.ascii_rtrim(moments, "0"), ".")


class AvroFormat(Format):
    """A row is an Avro record under the subject TOPIC-value; its key a JSON object, or a record under TOPIC-key."""

    name = "avro"

    def __init__(self, pipeline: str, registry: SchemaRegistry, *, record_keys: bool) -> None:
        super().__init__(pipeline)
        self._registry = registry
        self._record_keys = record_keys
        self._prefixes: dict[tuple[str, str], bytes] = {}
        self._readers: dict[bytes, tuple[Any, dict[str, str]]] = {}

    def plan(self, topic: str, schema: TableSchema) -> Sequence[str]:
        """What `prepare` would do. Raises IncompatibleSchemaError."""
        found = []
        for subject, text in self._subjects(topic, schema).items():
            if self._registry.registered(subject, text) is None:
                self._registry.check(subject, text)
                found.append(f"register schema {subject} {text}")
        return found

    def prepare(self, topic: str, schema: TableSchema) -> None:
        """Registers what the registry lacks. Raises IncompatibleSchemaError."""
        for subject, text in self._subjects(topic, schema).items():
            self._prefix(subject, text)

    def _prefix(self, subject: str, text: str) -> bytes:
        found = self._prefixes.get((subject, text))
        if found is None:
            found = _MAGIC + self._registry.register(subject, text).to_bytes(4, "big")
            self._prefixes[subject, text] = found
        return found

    def _subjects(self, topic: str, schema: TableSchema) -> dict[str, str]:
        found = {f"{topic}-value": self._value_schema(schema)}
        if self._record_keys and schema.key:
            found = {f"{topic}-key": self._key_schema(schema), **found}
        return found

    def _value_schema(self, schema: TableSchema) -> str:
        return record_schema(schema.dataset, self.pipeline, schema.columns, schema.key)

    def _key_schema(self, schema: TableSchema) -> str:
        return record_schema(f"{schema.dataset}_key", self.pipeline, key_columns(schema), schema.key)

    def keys(self, topic: str, schema: TableSchema, columns: Sequence[pa.StringArray]) -> Encoded:
        if not self._record_keys:
            return super().keys(topic, schema, columns)
        data, bad = encode(key_columns(schema), columns, schema.key)
        return pc.binary_join_element_wise(self._prefix(f"{topic}-key", self._key_schema(schema)), data, b""), bad

    def values(self, topic: str, schema: TableSchema, columns: Sequence[pa.StringArray], facts: Facts) -> Encoded:
        data, bad = encode(schema.columns, columns, schema.key)
        return pc.binary_join_element_wise(self._prefix(f"{topic}-value", self._value_schema(schema)), data, b""), bad

    def headers(self, schema: TableSchema, facts: Facts) -> Iterator[list[Header]]:
        return plain_headers(None, facts)

    def held(self, schema: TableSchema, columns: Sequence[pa.StringArray]) -> list[pa.StringArray]:
        return [_held(text, pg_type(column.type)) for column, text in zip(schema.columns, columns, strict=True)]

    def rows(self, schema: TableSchema, values: Sequence[bytes]) -> list[pa.StringArray]:
        rows = [self._row(value) for value in values]
        found = []
        for column in schema.columns:
            kind = pg_type(column.type)
            array = pa.array([_raw(row.get(column.name), kind) for row in rows], _arrow(kind))
            found.append(texts(array, kind))
        return found

    def _row(self, value: bytes) -> dict[str, Any]:
        """A message by the schema that it was written with, its values without their logical types."""
        schema, names = self._reader(value[:_PREFIX])
        row: Any = fastavro.schemaless_reader(io.BytesIO(value[_PREFIX:]), schema, None)
        return {names.get(name, name): one for name, one in row.items()}

    def _reader(self, prefix: bytes) -> tuple[Any, dict[str, str]]:
        found = self._readers.get(prefix)
        if found is None:
            if len(prefix) < _PREFIX or prefix[:1] != _MAGIC:
                raise SinkShapeError("the topic holds a message that is not in Confluent's wire format", hint="who else writes there?")
            schema = json.loads(self._registry.schema(int.from_bytes(prefix[1:], "big")))
            names = {field["name"]: field.get(_COLUMN, field["name"]) for field in schema["fields"]}
            found = self._readers[prefix] = fastavro.parse_schema(_bare(schema)), names
        return found

    def close(self) -> None:
        self._registry.close()


def _arrow(kind: PgType) -> pa.DataType:
    """The Arrow type of what a message holds."""
    return pa.string() if avro_type(kind) == "string" or kind.base == "uuid" else arrow_type(str(kind))


def _held(text: pa.StringArray, kind: PgType) -> pa.StringArray:
    return text if pa.types.is_string(_arrow(kind)) else texts(typed(text, str(kind)).values, kind)


def _raw(value: Any, kind: PgType) -> Any:
    """A value without its logical type as pyarrow takes it."""
    if kind.base == "numeric" and isinstance(value, bytes):
        return Decimal(int.from_bytes(value, "big", signed=True)).scaleb(-(*kind.args, 0)[1], _EXACT)
    return value


def _bare(node: Any) -> Any:
    if isinstance(node, list):
        return [_bare(item) for item in node]
    if isinstance(node, dict):
        return {key: _bare(value) for key, value in node.items() if key != "logicalType"}
    return node
