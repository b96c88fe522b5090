"""One column of a batch, with the facts that several rules ask of it computed once."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Rows = npt.NDArray[np.bool_]
Family = Literal["bool", "int", "float", "decimal", "text", "date", "timestamp", "binary", "null", "other"]


def family(of: pa.DataType) -> Family:
    """The kind of values that an Arrow type holds, as far as rules tell kinds apart."""
    kinds = pa.types
    if kinds.is_boolean(of):
        return "bool"
    if kinds.is_integer(of):
        return "int"
    if kinds.is_floating(of):
        return "float"
    if kinds.is_decimal(of):
        return "decimal"
    if kinds.is_string(of) or kinds.is_large_string(of) or kinds.is_string_view(of):
        return "text"
    if kinds.is_date(of):
        return "date"
    if kinds.is_timestamp(of):
        return "timestamp"
    if kinds.is_binary(of) or kinds.is_large_binary(of) or kinds.is_binary_view(of) or kinds.is_fixed_size_binary(of):
        return "binary"
    if kinds.is_dictionary(of):
        return family(of.value_type)
    return "null" if kinds.is_null(of) else "other"


def plain(of: pa.DataType) -> pa.DataType:
    """The type in which a column of type `of` is held while it is judged: views, dictionaries and odd widths become plain."""
    kinds = pa.types
    if kinds.is_dictionary(of):
        return plain(of.value_type)
    if kinds.is_string_view(of):
        return pa.large_string()
    if kinds.is_binary_view(of) or kinds.is_fixed_size_binary(of):
        return pa.large_binary()
    if kinds.is_float16(of):
        return pa.float32()
    if kinds.is_date64(of):
        return pa.date32()
    if kinds.is_decimal32(of) or kinds.is_decimal64(of):
        return pa.decimal128(of.precision, of.scale)
    return of


def unpacked(flags: pa.Array) -> Rows:
    """The bits of a boolean array, without its nulls: what they say where the array is null is undefined."""
    buffer = flags.buffers()[1]
    if buffer is None or len(flags) == 0:
        return np.zeros(len(flags), np.bool_)
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), count=flags.offset + len(flags), bitorder="little")
    return bits[flags.offset :].view(np.bool_)


class Column:
    """The values of one column as one contiguous Arrow array, and what is known about them.

    A value is missing when it is null or NaN, as in pandas. Facts are computed when they are first asked for.
    """

    def __init__(self, array: pa.Array | pa.ChunkedArray) -> None:
        whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        if isinstance(whole, pa.ChunkedArray):  # too long for one array of its type
            whole = pa.concat_arrays(whole.cast(pa.large_string() if family(whole.type) == "text" else pa.large_binary()).chunks)
        wanted = plain(whole.type)
        self.array: pa.Array = whole if whole.type == wanted else whole.cast(wanted)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def type(self) -> pa.DataType:
        return self.array.type

    @cached_property
    def family(self) -> Family:
        return family(self.array.type)

    @cached_property
    def missing(self) -> Rows | None:
        """bool[n] of the values that are null or NaN; None when all are there."""
        nulls = None
        if self.family == "null":
            nulls = np.ones(len(self), np.bool_)
        elif self.array.null_count:
            nulls = unpacked(pc.is_null(self.array))
        if self.family == "float":
            nan: Rows = np.isnan(self.numbers)
            if nan.any():
                return nan if nulls is None else nan | nulls
        return nulls

    @cached_property
    def numbers(self) -> npt.NDArray[Any]:
        """The raw numbers of integers, floats, booleans (as int8), dates (days) and timestamps (in their unit), without a copy
        where there can be one. Undefined where the value is null."""
        if self.family == "bool":
            return unpacked(self.array).view(np.int8)
        width = {"date": "int32", "timestamp": "int64"}.get(self.family, str(self.array.type))
        dtype = np.dtype({"float": "float32", "double": "float64", "halffloat": "float16"}.get(width, width))
        buffer = self.array.buffers()[1]
        if buffer is None or len(self) == 0:
            return np.zeros(len(self), dtype)
        return np.frombuffer(buffer, dtype, count=self.array.offset + len(self))[self.array.offset :]

    @cached_property
    def doubles(self) -> npt.NDArray[np.float64]:
        """The values of a numeric column as doubles, each the nearest there is; NaN where missing."""
        if self.family == "decimal":
            # Arrow's own cast of decimals is off by one unit in the last place for some values; text is read exactly
            return np.asarray(pc.fill_null(self.array.cast(pa.string()).cast(pa.float64()), np.nan), np.float64)
        values = self.numbers.astype(np.float64)
        if self.missing is not None:
            values[self.missing] = np.nan
        return values

    @cached_property
    def offsets(self) -> npt.NDArray[Any]:
        """int[n + 1]: where each text begins in the buffer of bytes, and where the last ends."""
        large = pa.types.is_large_string(self.type) or pa.types.is_large_binary(self.type)
        dtype = np.int64 if large else np.int32
        buffer = self.array.buffers()[1]
        if buffer is None or len(self) == 0:
            return np.zeros(len(self) + 1, dtype)
        return np.frombuffer(buffer, dtype, count=self.array.offset + len(self) + 1)[self.array.offset :]

    @cached_property
    def bytes(self) -> npt.NDArray[np.uint8]:
        """uint8: the bytes of all texts, one after the other."""
        buffer = self.array.buffers()[2]
        if buffer is None or len(self) == 0:
            return np.zeros(0, np.uint8)
        return np.frombuffer(buffer, np.uint8)[int(self.offsets[0]) : int(self.offsets[-1])]

    @cached_property
    def ascii(self) -> bool:
        """Whether every text is pure ASCII."""
        return self.bytes.size == 0 or int(self.bytes.max()) < 128

    @cached_property
    def one_line(self) -> bool:
        """Whether no text holds a newline."""
        return not bool((self.bytes == 10).any())

    @cached_property
    def encoded(self) -> tuple[npt.NDArray[np.int32], pa.Array]:
        """int32[n] codes into the distinct values, -1 where null. -0.0 and 0.0 are one value, as they are equal."""
        array = self.array
        if self.family == "float":
            array = pc.add(array, pa.scalar(0.0, array.type))
        elif self.family == "other":  # lists and the like, which Arrow does not hash
            array = self.texts
        pair = array.dictionary_encode()
        if pair.indices.null_count:
            return np.asarray(pc.fill_null(pair.indices, -1), np.int32), pair.dictionary
        return np.asarray(pair.indices, np.int32), pair.dictionary

    @cached_property
    def texts(self) -> pa.Array:
        """What Python's str() makes of each value, as a string array; null where missing."""
        from quality.text_form import as_text

        return as_text(self)

    def where(self, kept: Rows) -> Column:
        """The values that `kept` marks, in their order."""
        return Column(self.array.filter(pa.array(kept)))
