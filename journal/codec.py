"""How a batch of changes is laid down in the journal: numbers packed, values as an Arrow IPC record batch.

The record batch is written without its schema, which follows from the table's schema (kept once, beside the journal's entries) and
from a few bytes in front of it. Positions, times and ordinals are stored as what they differ from the batch's least one, in as few
bytes as that takes, and not at all where they are equal or count up by one: of 33 bytes a row, none to 8 are left.

    payload = CRC-32 of all that follows and of the numbers beside it (4 bytes) · codes of op, lsn, nth, time, ordinal (1 byte each)
              · what else there is: 1 has_old, 2 traces (1) · number of columns with presence (2) and with old values (2)
              · their indices (2 each) · zeros up to a multiple of 8
              · those of op … ordinal that are stored · zeros up to a multiple of 8 · the record batch
    record batch = the columns · presence · old values · has_old · traces
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journal.batch import Bytes, ChangeBatch, Longs
from journal.joining import join
from journal.schema import TableSchema

_CONSTANT, _RANGE = 0, 1
_NARROW: dict[int, np.dtype[Any]] = {2: np.dtype(np.uint8), 3: np.dtype("<u2"), 4: np.dtype("<u4")}  # code -> type on disk
_WHOLE = 5
_STORED = {**_NARROW, _WHOLE: np.dtype("<i8")}
_NUMBERS = 5
_HAS_OLD, _TRACES = 1, 2
_CHECKSUM = struct.Struct("<I")
_HEAD = struct.Struct("<6B2H")
_FRONT = _CHECKSUM.size + _HEAD.size
_BESIDE = struct.Struct("<6q")


@dataclass(frozen=True, slots=True)
class Stream:
    """What entries of one kind have in common: a table of a source, its schema, the sink they are meant for, and their partition.

    None: for all sinks; of no partition, or of several at once.
    """

    source: str
    table: str
    sink: str | None
    schema: TableSchema
    partition: int | None = None

    def joins(self, other: Stream) -> bool:
        """Whether their entries may become one batch."""
        return self is other or (
            self.schema is other.schema and (self.source, self.table, self.sink) == (other.source, other.table, other.sink)
        )


class Row(NamedTuple):
    """One batch as the journal's tables hold it. `op` … `ordinal` are the least value of each in the batch."""

    rows: int
    op: int
    lsn: int
    nth: int
    time: int
    ordinal: int
    payload: bytes


def encode(batch: ChangeBatch) -> Row:
    """A batch without what it has in common with others of its stream.

    Raises ValueError where it has defects: such rows belong into quarantine.
    """
    if batch.defects:
        raise ValueError(f"{len(batch.defects)} rows of {batch.dataset} are defective: they belong into quarantine")
    numbers = [_narrow(values) for values in (batch.op, batch.lsn, batch.nth, batch.time, batch.ordinal)]
    presence, old = sorted(batch.presence), sorted(batch.old)
    arrays = [*batch.columns, *(pa.array(batch.presence[column]) for column in presence), *(batch.old[column] for column in old)]
    if batch.has_old is not None:
        arrays.append(pa.array(batch.has_old.view(np.uint8)))
    if batch.traces is not None:
        arrays.append(batch.traces)
    more = (_HAS_OLD if batch.has_old is not None else 0) | (_TRACES if batch.traces is not None else 0)
    head = _HEAD.pack(*(code for code, _, _ in numbers), more, len(presence), len(old))
    head += struct.pack(f"<{len(presence) + len(old)}H", *presence, *old)
    head += bytes(-(_CHECKSUM.size + len(head)) % 8)
    stored = b"".join(values.tobytes() for _, _, values in numbers if values is not None)
    stored += bytes(-len(stored) % 8)
    layout = _layout(len(batch.columns), len(presence), len(old), more)
    body = memoryview(pa.RecordBatch.from_arrays(arrays, schema=layout).serialize()) if arrays else b""
    op, lsn, nth, time, ordinal = (base for _, base, _ in numbers)
    beside = (len(batch), op, lsn, nth, time, ordinal)
    parts = (head, stored, body)
    return Row(*beside, b"".join((_checksum((_BESIDE.pack(*beside), *parts)), *parts)))


def decode(rows: Sequence[Row], stream: Stream) -> ChangeBatch:
    """The batches that `encode` was given, as one. The columns of a single one are views of its payload.

    Raises ValueError for a row that is not as it was written.
    """
    for row in rows:
        if row.payload[: _CHECKSUM.size] != _checksum((_BESIDE.pack(*row[:-1]), memoryview(row.payload)[_CHECKSUM.size :])):
            raise ValueError("a checksum is wrong")
    runs = groupby([(_Front(row, len(stream.schema.columns)), row) for row in rows], key=lambda pair: pair[0].shape)
    return join([_decoded(list(run), stream) for _, run in runs])


def _checksum(parts: Sequence[bytes | memoryview]) -> bytes:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return _CHECKSUM.pack(value)


class _Front:
    """What stands before the record batch."""

    __slots__ = ("body", "codes", "numbers", "shape")

    def __init__(self, row: Row, columns: int) -> None:
        *self.codes, more, present, olds = _HEAD.unpack_from(row.payload, _CHECKSUM.size)
        indices = struct.unpack_from(f"<{present + olds}H", row.payload, _FRONT)
        size = _FRONT + 2 * len(indices)
        self.numbers = size + -size % 8
        stored = sum(_STORED[code].itemsize for code in self.codes if code in _STORED) * row.rows
        self.body = self.numbers + stored + -stored % 8
        self.shape = (indices[:present], indices[present:], more, columns)


def _decoded(run: Sequence[tuple[_Front, Row]], stream: Stream) -> ChangeBatch:
    """Batches with the same columns in their payloads."""
    presence, old, more, columns = run[0][0].shape
    layout = _layout(columns, len(presence), len(old), more)
    if not len(layout):
        arrays = []
    elif len(run) == 1:
        arrays = _record_batch(*run[0], layout).columns
    else:
        table = pa.Table.from_batches([_record_batch(front, row, layout) for front, row in run])
        arrays = [column.chunk(0) for column in table.combine_chunks().columns]
    rest = iter(arrays[columns:])
    op, lsn, nth, time, ordinal = _numbers(run)
    return ChangeBatch(
        schema=stream.schema,
        source=stream.source,
        table=stream.table,
        op=op.astype(np.uint8),
        lsn=lsn,
        nth=nth,
        time=time,
        ordinal=ordinal,
        columns=tuple(arrays[:columns]),
        presence={column: next(rest).to_numpy() for column in presence},
        old={column: next(rest) for column in old},
        has_old=next(rest).to_numpy().view(np.bool_) if more & _HAS_OLD else None,
        traces=next(rest) if more & _TRACES else None,
        sink=stream.sink,
    )


def _record_batch(front: _Front, row: Row, layout: pa.Schema) -> pa.RecordBatch:
    return pa.ipc.read_record_batch(pa.py_buffer(row.payload).slice(front.body), layout)


@lru_cache(maxsize=512)
def _layout(columns: int, presence: int, old: int, more: int) -> pa.Schema:
    """The Arrow schema of a payload's record batch."""
    kinds = [*repeat(pa.string(), columns), *repeat(pa.uint8(), presence), *repeat(pa.string(), old)]
    kinds += [*repeat(pa.uint8(), more & _HAS_OLD), *repeat(pa.string(), (more & _TRACES) >> 1)]
    return pa.schema([pa.field(str(i), kind) for i, kind in enumerate(kinds)])


def _narrow(values: Longs | Bytes) -> tuple[int, int, npt.NDArray[Any] | None]:
    """The code, the least value, and what has to be stored beside them."""
    n = len(values)
    if n < 2:
        return _CONSTANT, int(values[0]) if n else 0, None
    base, most = int(values.min()), int(values.max())
    if base == most:
        return _CONSTANT, base, None
    if most - base == n - 1 and (values[1:] - values[:-1] == 1).all():
        return _RANGE, base, None
    for code, kind in _NARROW.items():
        if most - base < 256**kind.itemsize:
            return code, base, (values - base).astype(kind)
    return _WHOLE, 0, values.astype(_STORED[_WHOLE])


def _numbers(run: Sequence[tuple[_Front, Row]]) -> list[Longs]:
    """op, lsn, nth, time and ordinal of all rows."""
    if len(run) > 1 and not any(any(front.codes) for front, _ in run):
        counts = [row.rows for _, row in run]
        return [np.repeat(np.array([row[1 + i] for _, row in run], np.int64), counts) for i in range(_NUMBERS)]
    parts = [_unpacked(front, row) for front, row in run]
    return parts[0] if len(parts) == 1 else [np.concatenate([part[i] for part in parts]) for i in range(_NUMBERS)]


def _unpacked(front: _Front, row: Row) -> list[Longs]:
    found = []
    at = front.numbers
    for code, base in zip(front.codes, row[1:-1], strict=True):
        if code == _CONSTANT:
            found.append(np.full(row.rows, base, np.int64))
        elif code == _RANGE:
            found.append(np.arange(base, base + row.rows, dtype=np.int64))
        else:
            kind = _STORED[code]
            found.append(np.frombuffer(row.payload, kind, row.rows, at).astype(np.int64) + base)
            at += kind.itemsize * row.rows
    return found
