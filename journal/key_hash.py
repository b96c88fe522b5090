"""Hashes of keys, for whole columns at a time.

They decide which partition of a journal a change belongs to, so they are a part of its format: were they others, two changes of a key could
stand in two partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journal.batch import Mask

Hashes = npt.NDArray[np.uint64]

_WORD = 8
_WORDS = 4  # at the beginning of a value, that are hashed; and one at its end
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)

_FEW = 4096  # hashes that are kept apart, so that one more does not move all of them
_BITS = 16  # for each hash
_SMALLEST = 6
_BYTE, _IN_BYTE = np.uint64(3), np.uint64(7)
NO_HASHES: Hashes = np.zeros(0, np.uint64)


def key_hashes(key: Sequence[pa.StringArray]) -> Hashes:
    """uint64[n]: equal for equal keys, which have one array[n] for each of their columns."""
    found = np.zeros(len(key[0]), np.uint64)
    for column in key:
        found = _mixed(found ^ _hashes(column))
    return found


class HashedKeys:
    """Many keys, 10 bytes each, of which whole columns are asked whether they are among them: others with an equal hash seem to be.

    `gone` counts keys that are not among them any more, by their owner.
    """

    def __init__(self, hashes: Hashes | None = None) -> None:
        self._few = NO_HASHES
        self.gone = 0
        self._keep(NO_HASHES if hashes is None else np.unique(hashes))

    def _keep(self, hashes: Hashes) -> None:
        """These, sorted, with one bit for each of their beginnings, which nearly all others do not have."""
        self._sorted = hashes
        size = max(_SMALLEST, (_BITS * len(hashes)).bit_length())
        self._shift = np.uint64(64 - size)
        self._bits = np.zeros(1 << (size - 3), np.uint8)
        start = hashes >> self._shift
        np.bitwise_or.at(self._bits, start >> _BYTE, np.left_shift(1, start & _IN_BYTE, dtype=np.uint8, casting="unsafe"))

    def add(self, hashes: Hashes) -> None:
        self._few = np.sort(np.concatenate([self._few, hashes]))
        if len(self._few) > _FEW + (len(self._sorted) >> 6):
            self._keep(np.sort(np.concatenate([self._sorted, self._few]), kind="stable"))  # which merges what is sorted
            self._few = NO_HASHES

    def __len__(self) -> int:
        return len(self._sorted) + len(self._few)

    def has(self, hashes: Hashes) -> Mask:
        """bool[n]"""
        found = _among(self._few, hashes)
        start = hashes >> self._shift
        maybe = np.flatnonzero(self._bits[start >> _BYTE] >> (start & _IN_BYTE).astype(np.uint8) & 1)
        found[maybe] |= _among(self._sorted, hashes[maybe])
        return found


def _among(known: Hashes, hashes: Hashes) -> Mask:
    if not len(known):
        return np.zeros(len(hashes), np.bool_)
    places = np.searchsorted(known, hashes)
    found: Mask = known[np.minimum(places, len(known) - 1)] == hashes
    return found


def _hashes(column: pa.StringArray) -> Hashes:
    """A hash of the length of each value, its first 32 bytes and its last 8; a null is an empty one."""
    n = len(column)
    if not n:
        return np.zeros(0, np.uint64)
    _, bounds, data = column.buffers()
    offsets = np.frombuffer(bounds, np.int32, n + 1, 4 * column.offset).astype(np.int64)
    starts, sizes = offsets[:-1], np.diff(offsets)
    held = np.frombuffer(data, np.uint8)[: offsets[-1]] if data is not None else np.zeros(0, np.uint8)
    text = np.concatenate([held, np.zeros(_WORD, np.uint8)])
    words = np.ndarray((len(text) - _WORD + 1,), "<u8", text, strides=(1,))
    found = _mixed(sizes.astype(np.uint64))
    for word in range(_WORDS):
        rows = np.flatnonzero(sizes > word * _WORD)
        if not len(rows):
            break
        left = np.minimum(sizes[rows] - word * _WORD, _WORD).astype(np.uint64)
        read = words[starts[rows] + word * _WORD] & _mask(left)
        found[rows] = _mixed(found[rows] ^ read)
    rows = np.flatnonzero(sizes > _WORDS * _WORD)
    if len(rows):
        found[rows] = _mixed(found[rows] ^ words[starts[rows] + sizes[rows] - _WORD])
    return found


def _mask(size: Hashes) -> Hashes:
    """The lowest bytes of a word, 1 to 8 of them."""
    return ~np.uint64(0) >> (np.uint64(64) - np.uint64(8) * size)


def _mixed(value: Hashes) -> Hashes:
    multiplied = value * _MULTIPLIER
    return multiplied ^ (multiplied >> _SHIFT)
