"""Whole files to records: each with the line or number under which a person finds it again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from sources.records.base import EXTRA_COLUMN, Decoded, DecodeOptions, Field, Payload, RecordSchema

_READERS = {
    "csv": "sources.records.csv_file:CsvFile",
    "xml": "sources.records.xml_file:XmlFile",
    "json": "sources.records.json_file:JsonFile",
    "parquet": "sources.records.parquet_file:ParquetFile",
}
FILE_FORMATS = tuple(_READERS)
BATCH = 8192  # records that are read at a time


@dataclass(frozen=True, slots=True, eq=False)
class FileRecords:
    """Consecutive records of a file.

    numbers   int64[n], strictly increasing: the line where the record begins (csv, json) or the record's number (xml, parquet); from 1
    payloads  what each is in the file, as far as it can be shown: its lines, its element, its row as JSON
    decoded   the records as columns
    """

    numbers: npt.NDArray[np.int64]
    payloads: Sequence[Payload]
    decoded: Decoded

    def __len__(self) -> int:
        return len(self.numbers)


class FileReader(ABC):
    """Reads files of one source. `schema` is that of its columns: the source's own, and _extra where that is kept."""

    unit = "line"  # what `numbers` count: "line" or "record"

    def __init__(self, schema: RecordSchema, options: DecodeOptions, record: str | None = None) -> None:
        self.options = options
        self.given = schema
        self.record = record
        kept = (Field(EXTRA_COLUMN, "jsonb"),) if options.extra == "keep" else ()
        self.schema = RecordSchema(schema.fields + kept, schema.key)

    @abstractmethod
    def read(self, stream: BinaryIO) -> Iterator[FileRecords]:
        """The records of one file, from its beginning, in order; memory does not grow with the file.

        Where a file is broken, what was read before is given, and the rest is one record with a defect that says so. `stream` is
        read to its end and not closed; for parquet it can seek.
        """


def make_reader(format: str, schema: RecordSchema, options: DecodeOptions | None = None, record: str | None = None) -> FileReader:
    """The reader of a format, one of FILE_FORMATS; `record` is the name of xml's element that is one record.

    Raises ConfigError for what cannot be read: an unknown format or path, xml without `record`.
    """
    if format not in FILE_FORMATS:
        raise ConfigError(f"{format!r} is not a format of files", hint="one of " + ", ".join(FILE_FORMATS))
    if format == "xml" and not record:
        raise ConfigError("xml files need `record`", hint="the name of the element that is one record")
    module, _, name = _READERS[format].partition(":")
    reader: FileReader = getattr(import_module(module), name)(schema, options or DecodeOptions(), record)
    return reader
