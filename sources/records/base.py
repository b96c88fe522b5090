"""The words for reading records: what a schema asks for, what a message brings, and the columns that are made of many.

A decoder is a pure function over a list of payloads (but for schemas that it asks a registry for). Whatever bytes it is given, it
answers with one row for each payload, in order: a payload that cannot be read is a row of nulls with its defects beside it, and its
neighbours are read as if it were not there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journal.batch import Defect, Payload
from pipeline.errors import ConfigError
from pipeline.schema_registry import RegistryOptions

__all__ = [
    "EXTRA_COLUMN", "FORMATS", "DecodeOptions", "Decoded", "Decoder", "Extra", "Field", "Payload", "RecordSchema", "RegistryOptions",
    "make_decoder",
]  # fmt: skip

Extra = Literal["keep", "drop", "quarantine"]
_DECODERS = {
    "json": "sources.records.json:JsonDecoder",
    "cloudevents": "sources.records.cloudevents:CloudEventsDecoder",
    "avro": "sources.records.avro:AvroDecoder",
    "debezium": "sources.records.debezium:DebeziumDecoder",
    "csv": "sources.records.csv:CsvDecoder",
    "xml": "sources.records.xml:XmlDecoder",
}
FORMATS = tuple(_DECODERS)
EXTRA_COLUMN = "_extra"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: `type` is a Postgres type in words; where it is `required`, missing and null are defects."""

    name: str
    type: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class RecordSchema:
    """What a record has to hold; `key` names the fields that identify it, and is empty where records have no identity."""

    fields: tuple[Field, ...]
    key: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How a source wants its records read.

    extra      fields that the schema lacks: `keep` them in the column _extra, `drop` them, or `quarantine` the record
    strict     an object with a name twice is a defect; otherwise the last one wins
    paths      field -> where it is, as names joined by dots; for a field that is not in it, its own name is the path
    registry   where the schemas of avro are
    """

    extra: Extra = "drop"
    strict: bool = False
    paths: Mapping[str, str] = field(default_factory=dict)
    registry: RegistryOptions | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """n rows, one for each payload.

    columns    one string array[n] for each field of `Decoder.schema`, in Postgres' own text for the field's type
    op         uint8[n], values of Op: DELETE for a tombstone, INSERT for other messages; Debezium says it itself
    defects    what cannot be taken; one that names a column has the value's own bytes, one that does not the whole message or key.
               The column is null in that row; the row's other values stay as far as they could be read, for who mends the record
    old        column index -> string array[n]: for an update the old row's values, as far as the message carried them; else null
    has_old    bool[n]: the message carried an old row; None where no message did
    presence   column index -> uint8[n] of Presence, for columns that are not PRESENT in every row: all but the key in a tombstone,
               what Debezium marks as unavailable or leaves out
    extra      names that the schema lacks -> in how many records they were
    """

    columns: tuple[pa.StringArray, ...]
    op: npt.NDArray[np.uint8]
    defects: tuple[Defect, ...] = ()
    old: Mapping[int, pa.StringArray] = field(default_factory=dict)
    has_old: npt.NDArray[np.bool_] | None = None
    presence: Mapping[int, npt.NDArray[np.uint8]] = field(default_factory=dict)
    extra: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.op)


class Decoder(ABC):
    """Reads the payloads of one source. `schema` is that of its columns: the source's own, and _extra where that is kept."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions) -> None:
        self.options = options
        self.given = schema
        kept = (Field(EXTRA_COLUMN, "jsonb"),) if options.extra == "keep" else ()
        self.schema = replace(schema, fields=schema.fields + kept)

    @abstractmethod
    def decode(self, payloads: Sequence[Payload]) -> Decoded:
        """One row for each payload, in order, always. Raises TransientError where a registry that is needed is away."""

    def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """Lets go of connections."""


def make_decoder(format: str, schema: RecordSchema, options: DecodeOptions | None = None) -> Decoder:
    """The decoder of a format, one of FORMATS. Raises ConfigError for what cannot be read: an unknown format, type, key or path."""
    chosen = options or DecodeOptions()
    if format not in FORMATS:
        raise ConfigError(f"{format!r} is not a format of messages", hint="one of " + ", ".join(FORMATS))
    module, _, name = _DECODERS[format].partition(":")
    decoder: Decoder = getattr(import_module(module), name)(schema, chosen)  # each brings libraries that the others do not need
    return decoder
