"""Parquet files: their columns are the fields, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from journal.batch import Op
from journal.types import PgType
from sources.records.assembling import Careful, Rows, overruled, unreadable
from sources.records.base import Decoded, DecodeOptions, Payload, RecordSchema
from sources.records.columns import Converted, Mask, booleans, floats, moment_texts, numerics, text_converter
from sources.records.files import BATCH, FileReader, FileRecords
from sources.records.lines import Broken, broken
from sources.records.object_rows import ObjectColumns
from sources.records.objects import json_token, object_converter
from sources.records.scalars import INTEGERS, TEXTS, Unfit, pg_type

_PER = {"d": 86_400_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}  # nanoseconds
_YEARS = (-62_135_596_800_000_000_000, 253_402_300_799_999_999_999)  # in nanoseconds since 1970: 1 to 9999
_ZONED, _UNZONED = "timestamp with time zone", "timestamp without time zone"


class ParquetFile(FileReader):
    """Structs and lists are jsonb, lists also arrays. What a column's type does not say is read as avro's values are."""

    unit = "record"

    def __init__(self, schema: RecordSchema, options: DecodeOptions, record: str | None = None) -> None:
        super().__init__(schema, options, record)
        self._objects = ObjectColumns(schema, options)
        self._paths = [tuple(options.paths.get(field.name, field.name).split(".")) for field in schema.fields]
        self._kinds = [pg_type(field.type) for field in schema.fields]

    def read(self, stream: BinaryIO) -> Iterator[FileRecords]:
        number = 0
        try:
            for batch in pq.ParquetFile(stream).iter_batches(BATCH):
                if len(batch):
                    yield self._decoded(batch, number)
                    number += len(batch)
        except Broken as error:
            yield self._rest(str(error), number)
        except (pa.ArrowException, OSError, ValueError, ArithmeticError) as error:
            yield self._rest(f"cannot be read: {error}", number)

    def _rest(self, why: str, before: int) -> FileRecords:
        """What stands for the rest of a file that cannot be read any further."""
        nothing = Rows([pa.nulls(1, pa.string())] * len(self.schema.fields))
        refused = {0: unreadable(len(self.schema.fields), 0, broken(why), b"")}
        return _records(overruled(nothing, refused), [Payload(None, b"")], before)

    def _decoded(self, batch: pa.RecordBatch, before: int) -> FileRecords:
        batch, odd = _readable(batch)
        shown = _Shown(batch)
        names = list(batch.schema.names)
        twice = sorted({path[0] for path in self._paths if names.count(path[0]) > 1})
        lacking = [name for name in names if name not in {path[0] for path in self._paths}]
        columns: list[pa.StringArray] = []
        doubtful = np.zeros(len(batch), np.bool_)
        for path, kind, field in zip(self._paths, self._kinds, self.given.fields, strict=True):
            text, doubt = _text(_along(batch, path), kind, len(batch))
            columns.append(text)
            if doubt is not None:
                doubtful |= doubt
            if field.required and text.null_count:
                doubtful |= np.asarray(text.is_null())
        if self.options.extra == "keep":
            columns.append(pa.nulls(len(batch), pa.string()))
        if lacking and self.options.extra != "drop":
            doubtful[:] = True
        looked: dict[int, Careful] = {}
        if twice:
            odd = dict.fromkeys(range(len(batch)), f"the file names {', '.join(map(repr, twice))} more than once")
            doubtful[:] = False
        for row in np.flatnonzero(doubtful).tolist():
            looked[row] = self._objects.careful(shown.record(row), lacking, row, b"")
        for row, reason in odd.items():
            looked[row] = unreadable(len(self.schema.fields), row, reason, shown[row].value or b"")
        extra: Counter[str] = Counter({name: len(batch) for name in lacking})
        return _records(overruled(Rows(columns, extra=extra), looked), shown, before)


def _records(rows: Rows, payloads: Sequence[Payload], before: int) -> FileRecords:
    count = len(payloads)
    decoded = Decoded(tuple(rows.columns), np.full(count, Op.INSERT, np.uint8), tuple(rows.defects), extra=rows.extra)
    return FileRecords(np.arange(before + 1, before + count + 1, dtype=np.int64), payloads, decoded)


class _Shown(Sequence[Payload]):
    """Each row as JSON, made when somebody wants to see it."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    @overload
    def __getitem__(self, index: int) -> Payload: ...
    @overload
    def __getitem__(self, index: slice) -> list[Payload]: ...
    def __getitem__(self, index: int | slice) -> Payload | list[Payload]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        try:
            return Payload(None, json_token(self.record(index % len(self))).encode())
        except Unfit:
            return Payload(None, str(self.record(index % len(self))).encode("utf-8", "backslashreplace"))

    def record(self, row: int) -> dict[str, Any]:
        """One row as Python objects."""
        found: dict[str, Any] = self._batch.slice(row, 1).to_pylist()[0]
        return found


def _readable(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[int, str]]:
    """The batch with its moments in microseconds; null where one cannot be had without loss, and why, by row."""
    odd: dict[int, str] = {}
    for place, field in enumerate(batch.schema):
        column, kind = batch.column(place), field.type
        if pa.types.is_time64(kind) and kind.unit == "ns":
            coarse = pa.time64("us")
        elif pa.types.is_timestamp(kind):
            coarse = pa.timestamp("us", kind.tz)
        elif pa.types.is_date(kind):
            coarse = pa.date32()
        else:
            continue
        count = np.asarray(column.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64()).fill_null(0)).astype(np.int64)
        unit = "d" if pa.types.is_date32(kind) else "ms" if pa.types.is_date64(kind) else kind.unit
        bad = np.zeros(len(batch), np.bool_)
        if unit == "ns":
            bad = count % 1000 != 0
            odd.update(
                dict.fromkeys(np.flatnonzero(bad).tolist(), f"{field.name} is finer than a microsecond, which would have to be rounded")
            )
        low, high = (bound // _PER[unit] for bound in _YEARS)
        outside = (count < low) | (count > high)
        odd.update(dict.fromkeys(np.flatnonzero(outside).tolist(), f"{field.name} is outside of the years 1 to 9999"))
        bad |= outside
        column = pc.if_else(pa.array(bad), None, column) if bad.any() else column
        batch = batch.set_column(place, field.name, column.cast(coarse, safe=False))
    return batch, odd


def _along(batch: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array | None:
    place = batch.schema.get_field_index(path[0])
    found = batch.column(place) if place >= 0 else None
    for name in path[1:]:
        if found is None or not pa.types.is_struct(found.type) or found.type.get_field_index(name) < 0:
            return None
        found = pc.struct_field(found, name)
    return found


def _text(column: pa.Array | None, kind: PgType, count: int) -> Converted:
    """A column as Postgres' text: by Arrow where it has the type that one expects, otherwise value by value."""
    if column is None or pa.types.is_null(column.type):
        return pa.nulls(count, pa.string()), None
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    found, base = column.type, "" if kind.array else kind.base
    if base in TEXTS and (pa.types.is_string(found) or pa.types.is_large_string(found)):
        return text_converter(kind)(column.cast(pa.string()))
    if base in INTEGERS and pa.types.is_integer(found) and found != pa.uint64():
        return _integers(column.cast(pa.int64()), base)
    if base == "numeric" and (pa.types.is_decimal(found) or pa.types.is_integer(found)):
        return numerics(kind)(column.cast(pa.string()))
    if base == "double precision" and pa.types.is_float64(found):
        return floats(column), None
    if base == "boolean" and pa.types.is_boolean(found):
        return booleans(column), None
    if base == "date" and pa.types.is_date32(found):
        return column.cast(pa.string()), None
    if pa.types.is_timestamp(found) and base == (_ZONED if found.tz else _UNZONED):
        return moment_texts(column.cast(pa.timestamp("us", found.tz)), zoned=bool(found.tz)), None
    return object_converter(kind)(column.to_pylist())


def _integers(column: pa.Int64Array, base: str) -> Converted:
    low, high = INTEGERS[base]
    outside = pc.or_(pc.less(column, low), pc.greater(column, high)).fill_null(False)
    doubtful: Mask | None = np.asarray(outside) if outside.true_count else None
    return column.cast(pa.string()), doubtful
