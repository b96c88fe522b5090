"""Avro's binary encoding of whole columns: each value of an array as its bytes, by numpy.

https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Longs, Mask

Matrix = npt.NDArray[np.uint8]


def longs(values: Longs) -> pa.BinaryArray:
    """int and long: zigzag, seven bits a byte, the lowest first."""
    number = ((values << 1) ^ (values >> 63)).view(np.uint64)
    width = max(1, -(-int(number.max(initial=0)).bit_length() // 7))
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    parts = number[:, None] >> shifts
    more = parts >= 0x80
    encoded: Matrix = (parts & np.uint64(0x7F)).astype(np.uint8) | (more * np.uint8(0x80))
    return _ragged(encoded, parts.astype(np.bool_) | (shifts == 0))


def booleans(values: pa.BooleanArray) -> pa.BinaryArray:
    """One byte."""
    return _fixed(np.asarray(values).astype(np.uint8).reshape(-1, 1))


def floats(values: pa.Array) -> pa.BinaryArray:
    """float and double: little-endian."""
    numbers = np.ascontiguousarray(np.asarray(values))
    return _fixed(numbers.view(np.uint8).reshape(len(numbers), numbers.dtype.itemsize))


def prefixed(values: pa.Array) -> pa.BinaryArray:
    """bytes and string: the length before."""
    data = values.cast(pa.binary())
    return pc.binary_join_element_wise(longs(np.asarray(pc.binary_length(data)).astype(np.int64)), data, b"")


def decimals(values: pa.Array) -> pa.BinaryArray:
    """The logical type decimal over bytes: the unscaled number in two's complement, big-endian, in as few bytes as it needs."""
    width = values.type.byte_width
    data = np.frombuffer(values.buffers()[1], np.uint8)[values.offset * width : (values.offset + len(values)) * width]
    matrix = data.reshape(len(values), width)[:, ::-1]
    negative = matrix[:, 0] >= 0x80
    filler = np.where(negative, 0xFF, 0).astype(np.uint8)
    differs = matrix != filler[:, None]
    first = np.where(differs.any(axis=1), differs.argmax(axis=1), width - 1)
    first -= ((matrix[np.arange(len(first)), first] >= 0x80) != negative) & (first > 0)
    return prefixed(_ragged(matrix, np.arange(width) >= first[:, None]))


def optional(encoded: pa.BinaryArray, null: Mask) -> pa.BinaryArray:
    """A union of null, first, and the type of the values."""
    there = pc.binary_join_element_wise(b"\x02", encoded, b"")
    return pc.if_else(pa.array(null), b"\x00", there) if null.any() else there


def _ragged(matrix: Matrix, kept: Mask) -> pa.BinaryArray:
    """The bytes of each row that are kept."""
    ends = np.zeros(len(matrix) + 1, np.int32)
    np.cumsum(kept.sum(axis=1), out=ends[1:])
    return pa.Array.from_buffers(pa.binary(), len(matrix), [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(matrix[kept]))])


def _fixed(matrix: Matrix) -> pa.BinaryArray:
    n, width = matrix.shape
    ends = np.arange(n + 1, dtype=np.int32) * width
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(matrix))])
