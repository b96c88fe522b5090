"""How a column of a Postgres type is read from JSON: as which Python type msgspec makes it, and how its values become text.

A value that msgspec refuses makes its message one that is read again, value by value (`json_values.py`); so does a value that the
column's conversion is not sure of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.types import PgType
from sources.records.columns import Converted, booleans, floats, numerics, one_by_one, text_converter
from sources.records.json_values import TokenReader, token_reader
from sources.records.scalars import FLOATS, INTEGERS, JSONS

NULL = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class JsonType:
    """annotation: what msgspec makes of a value; convert: a list of such, None among them, to text; read: one token to text.

    A `raw` one is left as it is written by msgspec, and a missing value is the token null.
    """

    annotation: Any
    convert: Callable[[Sequence[Any]], Converted]
    read: TokenReader
    raw: bool = False


def json_type(kind: PgType) -> JsonType:
    """The way to read a Postgres type from JSON."""
    read = token_reader(kind)
    if kind.array:
        return JsonType(msgspec.Raw, one_by_one(lambda raw: read(bytes(raw))), read, raw=True)
    if kind.base in JSONS:
        return JsonType(msgspec.Raw, documents, read, raw=True)
    if kind.base in INTEGERS:
        low, high = INTEGERS[kind.base]
        return JsonType(Annotated[int, msgspec.Meta(ge=low, le=high)], _integers, read)
    if kind.base == "numeric":
        convert = numerics(kind)
        return JsonType(Any, lambda values: convert(_number_texts(values)), read)
    if kind.base in FLOATS:
        limit, target = FLOATS[kind.base], pa.float32() if kind.base == "real" else pa.float64()
        bounded = Annotated[float, msgspec.Meta(gt=-limit, lt=limit)] if kind.base == "real" else float
        return JsonType(bounded, lambda values: (floats(pa.array(values, target)), None), read)
    if kind.base == "boolean":
        return JsonType(bool, lambda values: (booleans(pa.array(values, pa.bool_())), None), read)
    convert = text_converter(kind)
    return JsonType(str, lambda values: convert(pa.array(values, pa.string())), read)


def _integers(values: Sequence[int | None]) -> Converted:
    return pa.array(values, pa.int64()).cast(pa.string()), None


def _number_texts(values: Sequence[Any]) -> pa.StringArray:
    """Numbers with a fraction or exponent come as text already; whatever is no number becomes empty, which is doubtful."""
    if set(map(type, values)) <= _WRITTEN:
        return pa.array(values, pa.string())
    return pa.array([v if type(v) in _WRITTEN else str(v) if type(v) is int else "" for v in values], pa.string())


_WRITTEN = {str, type(None)}


def documents(values: Sequence[msgspec.Raw]) -> Converted:
    """Any JSON, compact; null where the token is null."""
    text, doubtful = tokens(values)
    null = pc.equal(text, "null")
    return (pc.if_else(null, None, text) if null.true_count else text), doubtful


def tokens(values: Sequence[msgspec.Raw]) -> Converted:
    """JSON tokens, compact. All of them are one buffer: no message holds a NUL byte, so one stands between each two."""
    joined = b"\0".join(values)
    text = _split(joined, len(values))
    if any(space in joined for space in (b" ", b"\n", b"\t", b"\r")):
        loose = pc.match_substring_regex(text, r"[ \n\t\r]")
        dense = pa.array([msgspec.json.format(value, indent=-1) for value in text.filter(loose).to_pylist()], pa.string())
        text = pc.replace_with_mask(text, loose, dense)
    return text, np.asarray(pc.match_substring(text, "\\u0000")) if b"\\u0000" in joined else None


def _split(joined: bytes, count: int) -> pa.StringArray:
    if not joined:
        return pa.array([""] * count, pa.string())
    ends = np.append(np.flatnonzero(np.frombuffer(joined, np.uint8) == 0), len(joined))
    offsets = np.concatenate(([0], ends - np.arange(count))).astype(np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(joined.replace(b"\0", b"")))
