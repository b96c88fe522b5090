"""The rows of a file in batches, read as `contract test` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from quality.data_file import ARROW, CSV, JSON, PARQUET, csv_batches, distinct_names, read_errors, unknown_suffix
from quality.json_records import json_kind, json_records, json_text
from quality.profile.batches import Batch, Field

_ROWS = 1 << 16
_RECORDS = 10_000


def file_batches(file: Path) -> Iterator[Batch]:
    """The rows of a CSV, JSON-lines, Parquet or Arrow file, one batch at least where it has columns.

    Raises ConfigError for a file that cannot be read.
    """
    suffix = file.suffix.lower()
    with read_errors(file):
        if suffix in CSV:
            yield from _csv(file)
        elif suffix in JSON:
            yield from _json(file)
        elif suffix in PARQUET:
            with pyarrow.parquet.ParquetFile(file, pre_buffer=False) as parquet:  # else every row group that was read stays in memory
                schema = parquet.schema_arrow
                yield from _typed(schema, parquet.iter_batches(_ROWS))
        elif suffix in ARROW:
            yield from _arrow(file)
        else:
            raise unknown_suffix(file)


def _csv(file: Path) -> Iterator[Batch]:
    for batch in csv_batches(file):
        fields = [Field(name, "text", "text") for name in batch.schema.names]
        yield Batch(fields, batch.columns, batch.num_rows)


def _json(file: Path) -> Iterator[Batch]:
    records = json_records(file)
    while chunk := list(islice(records, _RECORDS)):
        names = list(dict.fromkeys(key for record in chunk for key in record))
        columns, kinds = [], {}
        for name in names:
            values = [record.get(name) for record in chunk]
            kinds[name] = frozenset(json_kind(value) for value in values if value is not None)
            columns.append(pa.array([None if value is None else json_text(value) for value in values], pa.string()))
        yield Batch([Field(name, "json", "JSON") for name in names], columns, len(chunk), kinds)


def _arrow(file: Path) -> Iterator[Batch]:
    with pa.memory_map(str(file)) as source:
        try:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(place) for place in range(reader.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            batches = iter(reader)
        yield from _typed(reader.schema, batches)


def _typed(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[Batch]:
    distinct_names(schema.names)
    fields = [Field(one.name, "arrow", _told(one.type)) for one in schema]
    yield Batch(fields, [pa.array([], one.type) for one in schema], 0)
    for whole in batches:
        for start in range(0, whole.num_rows, _ROWS):
            batch = whole.slice(start, _ROWS)
            yield Batch(fields, batch.columns, batch.num_rows)


def _told(of: pa.DataType) -> str:
    return str(of.value_type) if pa.types.is_dictionary(of) else str(of)
