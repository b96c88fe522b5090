"""CopyData frames in a buffer: where each begins and ends, found for all of them at once.

A frame is 'd', its length (4 bytes, itself included), and a payload whose first byte says what it is: 'w', a message of the log,
or 'k', a keepalive. See https://www.postgresql.org/docs/current/protocol-replication.html
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sources.postgres.errors import malformed

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

COPY_DATA, XLOG_DATA, KEEPALIVE = b"dwk"
PAYLOAD = 5  # from the start of a frame
MESSAGE = 30  # from the start of a frame to the message in it: after the frame's and XLogData's headers
SLACK = 16  # bytes that a buffer has beyond its last one, so that gathers may look past the end
LONGEST = (1 << 30) + 64  # Postgres makes no longer message than 1 GB
_SHORTEST = {XLOG_DATA: MESSAGE + 1, KEEPALIVE: PAYLOAD + 18}
_BLOCK = 1 << 18


class Frames(NamedTuple):
    """`starts` and `stops` of whole frames; `end` is where the last one ends. If `foreign`, what begins there is not CopyData."""

    starts: Longs
    stops: Longs
    end: int
    foreign: bool


def read_u4(a: Bytes, at: Longs) -> Longs:
    """Big-endian unsigned 4-byte numbers at the (unaligned) offsets `at`."""
    return np.ndarray((a.size - 3,), ">u4", a, strides=(1,))[at].astype(np.int64)


def read_i8(a: Bytes, at: Longs) -> Longs:
    """Big-endian signed 8-byte numbers at the (unaligned) offsets `at`."""
    return np.ndarray((a.size - 7,), ">i8", a, strides=(1,))[at].astype(np.int64)


class Splitter:
    """Splits buffers into frames. It keeps its scratch memory, so each thread needs one of its own."""

    def __init__(self) -> None:
        self._is_start = np.empty(_BLOCK, np.bool_)
        self._is_zero = np.empty(_BLOCK, np.bool_)

    def split(self, a: Bytes, start: int, stop: int) -> Frames:
        """The whole frames in a[start:stop], whose first byte begins one.

        Bytes inside values may look like frames. Candidates are where the fixed bytes of one stand; the length of each true frame
        leads to the next true one, so that a chain from the first tells them apart. Raises TerminalError for what is no protocol.
        """
        at = self._candidates(a, start, stop)
        after = at + 1 + read_u4(a, at + 1)
        if at.size == 0 or at[0] != start or (after[:-1] != at[1:]).any():
            at, after = _follow(a, at, after, start, stop)
        if at.size and after[-1] > stop:
            at, after = at[:-1], after[:-1]
        end = int(after[-1]) if at.size else start
        _check(a, at, after)
        return Frames(at, after, end, end < stop and a[end] != COPY_DATA)

    def _candidates(self, a: Bytes, start: int, stop: int) -> Longs:
        """Offsets of 'd' with 'w' or 'k' five bytes on, and then the zero with which every LSN below 2**56 begins."""
        is_start, is_zero = self._is_start, self._is_zero
        found = [np.empty(0, np.int64)]
        for begin in range(start, stop - PAYLOAD - 1, _BLOCK):
            n = min(_BLOCK, stop - PAYLOAD - 1 - begin)
            np.equal(a[begin : begin + n], COPY_DATA, out=is_start[:n])
            np.equal(a[begin + PAYLOAD + 1 : begin + PAYLOAD + 1 + n], 0, out=is_zero[:n])
            np.logical_and(is_start[:n], is_zero[:n], out=is_start[:n])
            is_start[n : n + 8] = False
            # Eight bytes at a time: nearly all are zeros.
            words = (is_start[: (n + 7) & ~7].view(np.uint64) != 0).nonzero()[0]
            places = is_start.reshape(-1, 8).take(words, axis=0).ravel().nonzero()[0]
            found.append((words[places >> 3] << 3) + (places & 7) + begin)
        at = np.concatenate(found)
        kind = a.take(at + PAYLOAD)
        true = (kind == XLOG_DATA) | (kind == KEEPALIVE)
        return at if true.all() else at[true]


def frame_length(a: Bytes, start: int, stop: int) -> int | None:
    """Bytes of the message (of any kind) that begins at `start`, or None if its header is not there yet. Raises TerminalError."""
    if stop - start < PAYLOAD:
        return None
    length = 1 + int.from_bytes(a[start + 1 : start + 5].tobytes(), "big")
    if length < PAYLOAD or length > LONGEST:
        raise malformed(f"a message of kind {bytes(a[start : start + 1])!r} claims {length - 1} bytes")
    return length


def _follow(a: Bytes, at: Longs, after: Longs, start: int, stop: int) -> tuple[Longs, Longs]:
    """The frames that follow from the first one, in order; the last may be cut off."""
    next_one = np.searchsorted(at, after)
    linked = np.append(at, -1)[next_one] == after
    following: list[int] = np.where(linked, next_one, -1).tolist()
    starts: list[int] = []
    stops: list[int] = []
    position = start
    while position < stop:
        if a[position] != COPY_DATA:
            break
        length = frame_length(a, position, stop)
        if length is None:
            break
        i = int(np.searchsorted(at, position))
        if i == at.size or at[i] != position:  # an LSN of 2**56 or more, or no frame at all
            if position + PAYLOAD < stop and a[position + PAYLOAD] not in (XLOG_DATA, KEEPALIVE):
                raise malformed(f"a frame of kind {bytes(a[position + PAYLOAD : position + PAYLOAD + 1])!r}")
            starts.append(position)
            position += length
            stops.append(position)
            continue
        chain: list[int] = []
        while i >= 0:
            chain.append(i)
            i = following[i]
        starts += at[chain].tolist()
        stops += after[chain].tolist()
        position = stops[-1]
    return np.array(starts, np.int64), np.array(stops, np.int64)


def _check(a: Bytes, starts: Longs, stops: Longs) -> None:
    """Raises TerminalError for a frame too short for what it claims to be."""
    length = stops - starts
    if not starts.size or length.min() >= _SHORTEST[XLOG_DATA]:
        return
    kind = a.take(starts + PAYLOAD)
    if ((length < _SHORTEST[XLOG_DATA]) & (kind == XLOG_DATA)).any() or (length < _SHORTEST[KEEPALIVE]).any():
        raise malformed(f"a frame of {int(length.min())} bytes")
