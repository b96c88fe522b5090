"""How a batch of changes is laid down in the journal: numbers beside the payload, and the payload as an Arrow IPC record batch.

The record batch is written without its schema, which follows from the table's schema (kept once, beside the journal's entries) and
from a few bytes in front of it. Positions, times and ordinals are stored as what they differ from the batch's least one, in as few
bytes as that takes, and not at all where they are equal or count up by one: of 33 bytes a row, 3 to 8 are left.

    payload = codes of op, lsn, nth, time, ordinal (5 bytes) · flags (1) · number of columns with presence (2) and with old values (2)
              · their indices (2 each) · zeros up to a multiple of 8 · the record batch
    record batch = the columns · those of op … ordinal that are stored · presence · old values · has_old
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journal.batch import Bytes, ChangeBatch, Longs
from journal.schema import TableSchema

_CONSTANT, _RANGE = 0, 1
_NARROW: dict[int, npt.DTypeLike] = {2: np.uint8, 3: np.uint16, 4: np.uint32}  # code -> type on disk
_WHOLE = 5
_STORED: dict[int, npt.DTypeLike] = {**_NARROW, _WHOLE: np.int64}
_HAS_OLD = 1
_HEAD = struct.Struct("<6B2H")


@dataclass(frozen=True, slots=True)
class Row:
    """One batch as the journal's tables hold it. `op` … `ordinal` are the least value of each in the batch."""

    rows: int
    op: int
    lsn: int
    nth: int
    time: int
    ordinal: int
    payload: bytes


def encode(batch: ChangeBatch) -> Row:
    """A batch without its schema, source, table and sink. Defects have no place here: their rows never get into the journal.

    Raises ValueError where a batch has defects.
    """
    if batch.defects:
        raise ValueError(f"{len(batch.defects)} rows of {batch.dataset} are defective: they belong into quarantine")
    numbers = [_narrow(values) for values in (batch.op, batch.lsn, batch.nth, batch.time, batch.ordinal)]
    presence, old = sorted(batch.presence), sorted(batch.old)
    arrays = [
        *batch.columns,
        *(pa.array(stored) for _, _, stored in numbers if stored is not None),
        *(pa.array(batch.presence[column]) for column in presence),
        *(batch.old[column] for column in old),
    ]
    if batch.has_old is not None:
        arrays.append(pa.array(batch.has_old.view(np.uint8)))
    codes = [code for code, _, _ in numbers]
    head = _HEAD.pack(*codes, 0 if batch.has_old is None else _HAS_OLD, len(presence), len(old))
    head += struct.pack(f"<{len(presence) + len(old)}H", *presence, *old)
    head += bytes(-len(head) % 8)
    body = memoryview(pa.RecordBatch.from_arrays(arrays, schema=_layout(len(batch.columns), head)).serialize()) if arrays else b""
    op, lsn, nth, time, ordinal = (base for _, base, _ in numbers)
    return Row(len(batch), op, lsn, nth, time, ordinal, b"".join((head, body)))


def decode(row: Row, schema: TableSchema, source: str, table: str, sink: str | None) -> ChangeBatch:
    """The batch that `encode` was given. Its columns are views of the payload, and its arrays cannot be written to."""
    *codes, flags, present, olds = _HEAD.unpack_from(row.payload)
    indices = struct.unpack_from(f"<{present + olds}H", row.payload, _HEAD.size)
    size = _HEAD.size + 2 * len(indices)
    size += -size % 8
    layout = _layout(len(schema.columns), row.payload[:size])
    arrays = pa.ipc.read_record_batch(pa.py_buffer(row.payload).slice(size), layout).columns if len(layout) else []
    rest = iter(arrays[len(schema.columns) :])
    bases = (row.op, row.lsn, row.nth, row.time, row.ordinal)
    op, lsn, nth, time, ordinal = (
        _widen(code, base, row.rows, next(rest).to_numpy() if code in _STORED else None) for code, base in zip(codes, bases, strict=True)
    )
    return ChangeBatch(
        schema=schema,
        source=source,
        table=table,
        op=op.astype(np.uint8),
        lsn=lsn,
        nth=nth,
        time=time,
        ordinal=ordinal,
        columns=tuple(arrays[: len(schema.columns)]),
        presence={column: next(rest).to_numpy() for column in indices[:present]},
        old={column: next(rest) for column in indices[present:]},
        has_old=next(rest).to_numpy().view(np.bool_) if flags & _HAS_OLD else None,
        sink=sink,
    )


def _narrow(values: Longs | Bytes) -> tuple[int, int, npt.NDArray[Any] | None]:
    """The code, the least value, and what has to be stored beside them."""
    n = len(values)
    if n == 0:
        return _CONSTANT, 0, None
    base, most = int(values.min()), int(values.max())
    if base == most:
        return _CONSTANT, base, None
    if most - base == n - 1 and (values[1:] - values[:-1] == 1).all():
        return _RANGE, base, None
    for code, kind in _NARROW.items():
        if most - base < 256 ** np.dtype(kind).itemsize:
            return code, base, (values - base).astype(kind)
    return _WHOLE, 0, values


def _widen(code: int, base: int, n: int, stored: npt.NDArray[Any] | None) -> Longs:
    if stored is not None:
        return stored.astype(np.int64) + base
    return np.arange(base, base + n, dtype=np.int64) if code == _RANGE else np.full(n, base, np.int64)


@lru_cache(maxsize=512)
def _layout(columns: int, head: bytes) -> pa.Schema:
    """The Arrow schema of a payload's record batch."""
    *codes, flags, present, olds = _HEAD.unpack_from(head)
    types = [
        *[pa.string()] * columns,
        *(pa.from_numpy_dtype(_STORED[code]) for code in codes if code in _STORED),
        *[pa.uint8()] * present,
        *[pa.string()] * olds,
        *[pa.uint8()] * (flags & _HAS_OLD),
    ]
    return pa.schema([pa.field(str(i), kind) for i, kind in enumerate(types)])
