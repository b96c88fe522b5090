"""The trace that a change belongs to (W3C Trace Context), for whole columns.

A change that came with a context keeps it, as text: the 55 characters of a `traceparent` of version 00 and, where there is one, a space and
the `tracestate`. A change that came without gets its trace id from the journal's id and its ordinal: nothing is stored, and every process
finds the same. https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Bytes, Longs

PARENT, STATE = "traceparent", "tracestate"
"""Names of the headers. Whoever reads takes them in any case."""

LENGTH = 55
"""Characters of a `traceparent` of version 00."""

MOST_STATE = 512
"""Characters of a `tracestate` that are passed on: as many as the recommendation asks for."""

_NOT_SAMPLED = b"00"  # "the default option when the trace is initiated by this component": no spans are recorded here
_TRACE, _SPAN, _FLAGS = slice(3, 35), slice(36, 52), slice(53, 55)
_FORM = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?=-|\Z)", re.DOTALL)
_ZERO, _DASH = ord("0"), ord("-")
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_IS_HEX = np.isin(np.arange(256), _HEX).astype(np.uint8)
_IS_PRINTABLE = re.compile(rb"[\x20-\x7e\t]*\Z")

Numbers = npt.NDArray[np.uint64]
Headers = Sequence[tuple[str, bytes]]


def parent_of(header: bytes) -> str | None:
    """A `traceparent` as version 00 writes it, from whichever version; None for one that is to be ignored.

    Of a version that is not known yet the fields of version 00 are taken, and whatever follows them is not looked at. Of the flags only
    `sampled` is known; others are set to zero.
    """
    if _FORM.match(header) is None or (header[:2] == b"00" and len(header) != LENGTH):
        return None
    return f"00{header[2:53].decode()}0{int(header[53:55], 16) & 1}"


def state_of(header: bytes) -> str | None:
    """A `tracestate`, to be passed on as it is; None where it is empty, or no text. From the end of a long one members are left out."""
    if _IS_PRINTABLE.match(header) is None:
        return None
    text = header.decode().strip()
    while len(text) > MOST_STATE:
        text = text.rpartition(",")[0].rstrip()
    return text or None


def contexts_of(messages: Sequence[Headers]) -> pa.StringArray | None:
    """string[n]: the contexts that messages came with, null for one without; None where there is none at all.

    A `traceparent` that is there twice is ignored; more than one `tracestate` are one list.
    """
    flat = list(chain.from_iterable(messages))
    names = set(map(itemgetter(0), flat))
    parents = {name for name in names if name.lower() == PARENT}
    if not parents:
        return None
    n = len(messages)
    row = np.repeat(np.arange(n), np.fromiter(map(len, messages), np.int64, n))
    at = [place for place, (name, _) in enumerate(flat) if name in parents]
    place = np.full(n, -1, np.int64)
    place[row[at]] = np.arange(len(at))
    place[np.bincount(row[at], minlength=n) > 1] = -1
    texts = _parents([flat[one][1] for one in at])
    if len(at) < n or (place < 0).any():
        texts = texts.take(pa.array(place, mask=place < 0))
    states = {name for name in names if name.lower() == STATE}
    if states:
        joined = (b",".join(value for name, value in headers if name in states) for headers in messages)
        told = pa.array([state_of(one) if one else None for one in joined], pa.string())
        texts = pc.coalesce(pc.binary_join_element_wise(texts, told, " "), texts)
    return None if texts.null_count == n else texts


def _parents(given: Sequence[bytes]) -> pa.StringArray:
    """What `parent_of` says of each: together for those that are as long as one of version 00, one by one for others."""
    usual = [header for header in given if len(header) == LENGTH]
    matrix = np.frombuffer(b"".join(usual), np.uint8).reshape(-1, LENGTH).copy()
    is_zero = matrix == _ZERO
    good = (_IS_HEX.take(matrix).sum(1) == LENGTH - 3) & (matrix[:, (2, 35, 52)] == _DASH).all(1)
    good &= ~(is_zero[:, _TRACE].all(1) | is_zero[:, _SPAN].all(1) | (matrix[:, :2] == ord("f")).all(1))
    matrix[:, :2] = matrix[:, 53:54] = _ZERO
    matrix[:, 54] = _ZERO + ((matrix[:, 54] & 1) ^ (matrix[:, 54] > ord("9")))  # the codes of letters are odd where digits' are even
    texts = _strings(matrix)
    if len(usual) == len(given) and good.all():
        return texts
    rare = [(row, parent_of(header)) for row, header in enumerate(given) if len(header) != LENGTH]
    place = np.full(len(given), -1, np.int64)
    place[[row for row, header in enumerate(given) if len(header) == LENGTH]] = np.where(good, np.arange(len(usual)), -1)
    place[[row for row, _ in rare]] = np.arange(len(rare)) + len(usual)
    every = pa.concat_arrays([texts, pa.array([text for _, text in rare], pa.string())])
    return every.take(pa.array(place, mask=place < 0))


def headers_of(context: str) -> Headers:
    """The headers that say a context again."""
    parent, state = context[:LENGTH], context[LENGTH + 1 :]
    return [(PARENT, parent.encode()), *([(STATE, state.encode())] if state else [])]


class Traces:
    """The trace ids of one journal's changes."""

    def __init__(self, journal: str) -> None:
        first, second = np.frombuffer(hashlib.sha256(f"trace {journal}".encode()).digest(), ">u8", 2).tolist()
        self._journal = _digits(np.array([first], np.uint64))
        self._seed = np.uint64(second)

    def id(self, ordinal: int, context: str | None = None) -> str:
        """The trace id of a change: 32 digits, lower case."""
        return context[_TRACE] if context else self._made(np.array([ordinal], np.int64))[0].tobytes().decode()

    def _made(self, ordinal: Longs) -> Bytes:
        """uint8[n, 32]: no two changes of a journal have the same, and the second half is as good as random, as samplers want it."""
        second = _digits(_mixed(ordinal.astype(np.uint64) + self._seed))
        return np.hstack([np.broadcast_to(self._journal, second.shape), second])

    def spans(self, name: str, ordinal: Longs, nth: Longs, contexts: pa.StringArray | None) -> tuple[pa.StringArray, pa.StringArray | None]:
        """What is to be passed on of n changes: `traceparent` (string[n]), and `tracestate` (string[n], or None where there is none).

        The span's id is that of the `nth` thing that `name` makes of a change: again the same if it is made again.
        """
        made = np.empty((len(ordinal), LENGTH), np.uint8)
        made[:, (0, 1)], made[:, (2, 35, 52)], made[:, _FLAGS] = _ZERO, _DASH, np.frombuffer(_NOT_SAMPLED, np.uint8)
        seed = np.frombuffer(hashlib.sha256(f"span {name}".encode()).digest(), ">u8", 1)[0].astype(np.uint64)
        span = _mixed(_mixed(ordinal.astype(np.uint64) + self._seed) + seed + nth.astype(np.uint64))
        made[:, _SPAN] = _digits(np.maximum(span, np.uint64(1)))
        if contexts is None:
            made[:, _TRACE] = self._made(ordinal)
            return _strings(made), None
        here = np.asarray(contexts.is_valid())
        made[~here, _TRACE] = self._made(ordinal[~here])
        came = _matrix(pc.utf8_slice_codeunits(contexts.drop_null(), 0, LENGTH))
        made[here, _TRACE], made[here, _FLAGS] = came[:, _TRACE], came[:, _FLAGS]
        states = pc.utf8_slice_codeunits(contexts, LENGTH + 1)
        states = pc.if_else(pc.equal(states, ""), None, states)
        return _strings(made), None if states.null_count == len(states) else states


def _mixed(numbers: Numbers) -> Numbers:
    """Numbers spread over all 64 bits, no two of them alike (the last step of SplitMix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _digits(numbers: Numbers) -> Bytes:
    """uint8[n, 16]: numbers in hexadecimal."""
    octets = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
    digits = np.empty((len(numbers), 16), np.uint8)
    digits[:, 0::2], digits[:, 1::2] = _HEX[octets >> 4], _HEX[octets & 15]
    return digits


def _strings(matrix: Bytes) -> pa.StringArray:
    """One text of each line of ASCII."""
    n, width = matrix.shape
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(matrix)))


def _matrix(texts: pa.StringArray) -> Bytes:
    """The other way, for texts of LENGTH characters."""
    fixed = texts.cast(pa.binary()).cast(pa.binary(LENGTH))
    data = np.frombuffer(fixed.buffers()[1], np.uint8)[fixed.offset * LENGTH :]
    return data[: len(fixed) * LENGTH].reshape(-1, LENGTH)
