"""Tuples of pgoutput as columns: all rows of a table are walked at once, column by column, with no Python object per row.

A tuple is the number of its columns (2 bytes) and for each column a kind: 'n' null, 'u' an unchanged value that is stored out of
line and was not in the log, or 't' with a length (4 bytes) and the text.
See https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html#PROTOCOL-LOGICALREP-MESSAGE-FORMATS-TUPLEDATA
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sources.postgres.errors import malformed
from sources.postgres.frames import Bytes, Longs, read_u4

TEXT, NULL, UNCHANGED = b"tnu"

_EMPTY = pa.py_buffer(b"")


class Fields(NamedTuple):
    """Where the values of n tuples of one table lie in a buffer.

    edges  int32[columns + 1, n]: where each field begins, kind and length included; the last row is where the tuple ends
    kinds  column -> uint8[n], for those columns in which not every field is text
    """

    edges: npt.NDArray[np.int32]
    kinds: Mapping[int, Bytes]

    @property
    def ends(self) -> npt.NDArray[np.int32]:
        ends: npt.NDArray[np.int32] = self.edges[-1]
        return ends


class BadValue(NamedTuple):
    """A value which is not UTF-8; it is null in the column."""

    row: int
    column: int
    raw: bytes


def walk(a: Bytes, at: Longs, width: int, longest: int) -> Fields:
    """Finds the fields of the tuples of `width` columns that begin at `at`, none of which is in a message of more than `longest` bytes.

    Raises TerminalError where what is there is no such tuple.
    """
    try:
        count = (a.take(at).astype(np.int64) << 8) | a.take(at + 1)
        if (count != width).any():
            raise malformed(f"a tuple of {int(count[count != width][0])} columns in a table of {width}")
        edges = np.empty((width + 1, at.size), np.int32)
        kinds: dict[int, Bytes] = {}
        at = edges[0] = at + 2
        for column in range(width):
            kind = a.take(at)
            text = kind == TEXT
            # A value cannot be longer than the message around it, so that mostly one or two bytes of its length can be other than zero.
            length: npt.NDArray[np.uint8 | np.int64]
            if longest < 1 << 8:
                length = a.take(at + 4)
            elif longest < 1 << 16:
                length = (a.take(at + 3).astype(np.int64) << 8) | a.take(at + 4)
            else:
                length = read_u4(a, at + 1)
            if text.all():
                at = at + length + 5
            else:
                if not (text | (kind == NULL) | (kind == UNCHANGED)).all():
                    raise malformed("a column that is neither text nor null nor unchanged")
                kinds[column] = kind
                at = at + 1 + text * (length.astype(np.int64) + 4)
            edges[column + 1] = at
    except IndexError as error:
        raise malformed("a tuple goes beyond the end of its message") from error
    return Fields(edges, kinds)


def strings(a: Bytes, fields: Fields) -> tuple[list[pa.StringArray], list[BadValue]]:
    """The values of each column as a string array[n], null where there is no text; the bytes are copied out of the buffer."""
    width, n = fields.edges.shape[0] - 1, fields.edges.shape[1]
    if width == 0:
        return [], []
    # One binary array over the buffer as it is: even slots are values, odd ones the gaps between them.
    offsets = np.empty(2 * width * n + 1, np.int32)
    slots = offsets[:-1].reshape(n, width, 2)
    slots[:, :, 0] = (fields.edges[:-1] + 5).T
    slots[:, :, 1] = fields.edges[1:].T
    for column, kind in fields.kinds.items():
        slots[:, column, 0] = np.where(kind == TEXT, slots[:, column, 0], fields.edges[column] + 1)
    offsets[-1] = offsets[-2]
    scattered = pa.Array.from_buffers(pa.binary(), 2 * width * n, [None, pa.py_buffer(offsets), pa.py_buffer(a)])
    by_column = (2 * np.arange(width, dtype=np.int32))[:, None] + (2 * width * np.arange(n, dtype=np.int32))[None, :]
    # The places are right by the way they were made.
    gathered = pc.take(scattered, as_indices(by_column.reshape(-1)), boundscheck=False)
    _, places, data = gathered.buffers()
    return _columns(places, _EMPTY if data is None else data, width, n, fields.kinds)


def as_indices(places: npt.NDArray[np.int32], missing: npt.NDArray[np.bool_] | None = None) -> pa.Int32Array:
    """int32[n] as an Arrow array, null where `missing`. (pa.array would import pandas, if there is one, which takes a second.)"""
    validity = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(pa.int32(), places.size, [validity, pa.py_buffer(places)])


def as_booleans(mask: npt.NDArray[np.bool_]) -> pa.BooleanArray:
    """bool[n] as an Arrow array."""
    return pa.Array.from_buffers(pa.bool_(), mask.size, [None, pa.py_buffer(np.packbits(mask, bitorder="little"))])


def _columns(
    places: pa.Buffer, data: pa.Buffer, width: int, n: int, kinds: Mapping[int, Bytes]
) -> tuple[list[pa.StringArray], list[BadValue]]:
    """Cuts the values of all columns, one after the other in `data`, into one array for each."""
    ends = np.frombuffer(places, np.int32, width * n + 1)
    content = np.frombuffer(data, np.uint8, ends[-1])
    ascii_only = bool(content.max(initial=0) < 0x80)
    arrays: list[pa.StringArray] = []
    bad: list[BadValue] = []
    for column in range(width):
        validity, nulls = None, 0
        if column in kinds:
            present = kinds[column] == TEXT
            nulls = n - int(np.count_nonzero(present))
            validity = pa.py_buffer(np.packbits(present, bitorder="little"))
        own = places.slice(4 * column * n, 4 * (n + 1))
        if ascii_only or content[ends[column * n] : ends[(column + 1) * n]].max(initial=0) < 0x80:
            arrays.append(pa.Array.from_buffers(pa.string(), n, [validity, own, data], nulls))
            continue
        values = pa.Array.from_buffers(pa.binary(), n, [validity, own, data], nulls)
        try:
            arrays.append(values.cast(pa.string()))
        except pa.ArrowInvalid:
            text, found = _without_bad(values)
            arrays.append(text)
            bad += [BadValue(row, column, raw) for row, raw in found]
    return arrays, bad


def _without_bad(values: pa.BinaryArray) -> tuple[pa.StringArray, list[tuple[int, bytes]]]:
    """Halves the column until values which are not UTF-8 stand alone; they become null."""
    pieces: list[pa.StringArray] = []
    bad: list[tuple[int, bytes]] = []

    def convert(start: int, stop: int) -> None:
        try:
            pieces.append(values.slice(start, stop - start).cast(pa.string()))
        except pa.ArrowInvalid:
            if stop - start > 1:
                middle = (start + stop) // 2
                convert(start, middle)
                convert(middle, stop)
                return
            bad.append((start, values[start].as_py()))
            pieces.append(pa.nulls(1, pa.string()))

    convert(0, len(values))
    return pa.concat_arrays(pieces), bad
