"""The schemas that messages in avro were written with, by the id that stands before each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import stamina
from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from journal.schema_registry import SchemaRegistry, UnknownSchemaError
from journal.types import PgType
from pipeline.errors import ConfigError, TransientError
from sources.records.base import DecodeOptions, RecordSchema
from sources.records.columns import one_by_one
from sources.records.connect import reader, written
from sources.records.object_rows import Readers
from sources.records.scalars import INTEGERS, Unfit, pg_type

_UNKNOWN_FOR = 30.0  # seconds before an id that was not there is asked for again: registries of several nodes lag
_PATIENCE = 5.0  # seconds of trying again; whoever reads waits longer than that by asking again
_DEEPEST = 16  # references of references
stamina.instrumentation.set_on_retry_hooks(())  # whoever reads says that it waits


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """parsed: what fastavro reads with; fields: name -> type of each field, empty where the schema is no record.

    `named` are the records and others that it defines, by their full names.
    """

    parsed: Any
    fields: Mapping[str, Any]
    named: Mapping[str, Any]


class WriterSchemas:
    """Asks a registry for each id once; a schema never changes."""

    def __init__(self, options: DecodeOptions) -> None:
        if options.registry is None:
            raise ConfigError("avro needs `schema_registry`", hint="schema_registry: {url: https://…}")
        self._registry = SchemaRegistry(options.registry)
        self._known: dict[int, WriterSchema] = {}
        self._unfit: dict[int, tuple[float, str]] = {}

    def of(self, number: int) -> WriterSchema:
        """Raises Unfit for an id that the registry does not have or whose schema is not avro, TransientError while it is away."""
        known = self._known.get(number)
        if known is not None:
            return known
        asked, said = self._unfit.get(number, (0.0, ""))
        if said and time.monotonic() - asked < _UNKNOWN_FOR:
            raise Unfit(said)
        try:
            known = self._known[number] = self._found(number)
        except Unfit as error:
            self._unfit[number] = time.monotonic(), str(error)
            raise
        return known

    def close(self) -> None:
        """Lets go of connections."""
        self._registry.close()

    @stamina.retry(on=TransientError, attempts=None, timeout=_PATIENCE, wait_initial=0.1, wait_max=1.0)
    def _found(self, number: int) -> WriterSchema:
        try:
            answer = self._registry.described(number)
            named: dict[str, Any] = {}
            self._read_references(answer, named, 0)
            parsed = _parsed(answer, named)
        except UnknownSchemaError as error:
            raise Unfit(error.message) from error
        except (SchemaParseException, UnknownType, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, Unfit):
                raise
            raise Unfit(f"the schema {number} of the registry cannot be read: {error}") from error
        return WriterSchema(parsed, record_fields(parsed, named), named)

    def _read_references(self, answer: Mapping[str, Any], named: dict[str, Any], depth: int) -> None:
        """Puts the schemas that one refers to into `named`, those that these refer to before them."""
        for reference in answer.get("references") or ():
            if depth > _DEEPEST:
                raise Unfit("its schema refers to others without end")
            found = self._registry.version(str(reference["subject"]), int(reference["version"]))
            self._read_references(found, named, depth + 1)
            _parsed(found, named)


def _parsed(answer: Mapping[str, Any], named: dict[str, Any]) -> Any:
    kind = answer.get("schemaType") or "AVRO"
    if kind != "AVRO":
        raise Unfit(f"its schema is {kind}, not AVRO")
    return parse_schema(msgspec.json.decode(answer["schema"]), named_schemas=named)


def _resolved(kind: Any, named: Mapping[str, Any]) -> Any:
    """A field's type, with schemas in place of their names."""
    if isinstance(kind, list):
        return [_resolved(branch, named) for branch in kind]
    return named.get(kind, kind) if isinstance(kind, str) else kind


def record_fields(kind: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> type of the fields of a record, or of the first record of a union; empty for anything else."""
    branches = kind if isinstance(kind, list) else [kind]
    record = next((one for one in branches if isinstance(one, Mapping) and one.get("type") == "record"), None)
    return {} if record is None else {field["name"]: _resolved(field["type"], named) for field in record["fields"]}


def field_readers(schema: RecordSchema, options: DecodeOptions, fields: Mapping[str, Any]) -> dict[int, Readers]:
    """Column -> how its values are read, for those whose meaning Connect or Debezium has put beside the avro type."""
    found: dict[int, Readers] = {}
    for place, field in enumerate(schema.fields):
        read = field_reader(fields.get(options.paths.get(field.name, field.name)), pg_type(field.type))
        if read is not None:
            found[place] = one_by_one(read), read
    return found


def field_reader(kind: Any, column: PgType) -> Callable[[Any], str | None] | None:
    """The same for one field; None where its values say what they mean, as those of avro's own logical types do."""
    branches = kind if isinstance(kind, list) else [kind]
    branch = next((one for one in branches if isinstance(one, Mapping) and "connect.name" in one), None)
    if branch is None or "logicalType" in branch:
        return None
    name, parameters = str(branch["connect.name"]), branch.get("connect.parameters") or {}
    write = written(name, parameters)
    if write is None or column.base in INTEGERS:
        return None
    finish = reader(name, column)
    return lambda value: finish(write(value))
