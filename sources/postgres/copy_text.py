r"""COPY's text format as columns: https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".

A row ends with a newline, values are parted by tabs, null is \N; a tab, a newline or a backslash inside of a value is written with
a backslash, so that every raw tab and newline is a border. This holds only for what COPY TO writes: it never uses \x1f or \101.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journal.batch import Bytes, Defect, Longs, Mask

_TAB, _NEWLINE, _BACKSLASH, _COPY_DATA = b"\t\n\\d"
_MEANT = np.arange(256, dtype=np.uint8)
_MEANT[list(b"bfnrtv")] = list(b"\b\f\n\r\t\v")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Copied rows: one string array for each column, the bytes that COPY wrote, and values that are not UTF-8 (null in the array).

    A defect comes with the place of its column.
    """

    count: int
    nbytes: int
    columns: tuple[pa.StringArray, ...]
    defects: tuple[tuple[int, Defect], ...] = ()


def message_starts(data: Bytes, start: int, stop: int) -> tuple[Longs, int]:
    """Where the whole CopyData messages begin which follow each other from `start` on, and where the last of them ends.

    data is uint8, of which [start, stop) has been read. Each message is one row, so the next one begins after a newline. Such a pair of
    bytes can also stand inside of a length: then the lengths are followed one by one.
    """
    if stop - start < 5 or data[start] != _COPY_DATA:
        return np.empty(0, np.int64), start
    ends = np.flatnonzero(data[start : stop - 5] == _NEWLINE)
    candidates = ends + (start + 1)
    candidates = np.concatenate(([start], candidates[data[candidates] == _COPY_DATA]))
    following = candidates + 1 + _length(data, candidates + 1)
    if not (following[:-1] == candidates[1:]).all():
        chosen = _chain(candidates, following)
        candidates, following = candidates[chosen], following[chosen]
    if following[-1] > stop:
        candidates, following = candidates[:-1], following[:-1]
    return candidates, int(following[-1]) if len(following) else start


def _length(data: Bytes, at: Longs) -> Longs:
    """Big-endian unsigned 32-bit numbers at any offsets."""
    numbers = np.ndarray((data.size - 3,), "<u4", data, strides=(1,))[at].byteswap()
    return numbers.astype(np.int64)


def _chain(candidates: Longs, following: Longs) -> list[int]:
    places = np.searchsorted(candidates, following)
    known = places < len(candidates)
    known[known] = candidates[places[known]] == following[known]
    steps = np.where(known, places, -1).tolist()
    chosen, at = [], 0
    while at >= 0:
        chosen.append(at)
        at = steps[at]
    return chosen


def rows_of_messages(data: Bytes, starts: Longs, stop: int, width: int) -> Rows:
    """The rows of CopyData messages that begin at `starts` and follow each other up to `stop`; changes the bytes of their headers."""
    first, last = starts + 5, np.concatenate((starts[1:], [stop])) - 1
    begin = int(starts[0])
    tabs = np.flatnonzero(data[begin:stop] == _TAB)
    if tabs.size != len(starts) * max(width - 1, 0):  # a tab in a length
        for place in range(1, 5):
            data[starts + place] = 0
        tabs = np.flatnonzero(data[begin:stop] == _TAB)
    return _rows(data, first, last, tabs + begin, width)


def rows_of_lines(data: Bytes, width: int) -> Rows:
    """The rows of whole lines."""
    last = np.flatnonzero(data == _NEWLINE)
    first = np.concatenate(([0], last[:-1] + 1)) if last.size else last
    return _rows(data, first, last, np.flatnonzero(data == _TAB), width)


def _rows(data: Bytes, first: Longs, last: Longs, tabs: Longs, width: int) -> Rows:
    """Rows whose text is data[first:last]; all tabs in between are borders."""
    count = len(first)
    nbytes = int((last - first).sum()) + count
    if not count or not width:
        return Rows(count, nbytes, tuple(pa.array([], pa.string()) for _ in range(width)))
    borders = np.empty((count, width, 2), np.int32)
    tabs = tabs.reshape(count, width - 1)
    borders[:, 0, 0], borders[:, 1:, 0] = first, tabs + 1
    borders[:, :-1, 1], borders[:, -1, 1] = tabs, last
    # one array over all the bytes without copying them: even places are values, odd ones what lies between two values
    offsets = np.append(borders.reshape(-1), borders[-1, -1, 1])
    values = pa.Array.from_buffers(pa.binary(), offsets.size - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    slashed = data[borders[:, :, 0]] == _BACKSLASH  # reads the border after an empty value, which is no backslash
    escapes = np.count_nonzero(data[first[0] : last[-1]] == _BACKSLASH)
    places = np.arange(count, dtype=np.int64) * (2 * width)
    columns = []
    nulls = 0
    for column in range(width):
        null = _null(data, borders[:, column], slashed[:, column])
        nulls += 0 if null is None else int(np.count_nonzero(null))
        columns.append(values.take(pa.array(places + 2 * column, mask=null)))
    if escapes != nulls:
        columns = [_unescaped(column) for column in columns]
    defects: list[tuple[int, Defect]] = []
    return Rows(count, nbytes, tuple(_text(place, column, defects) for place, column in enumerate(columns)), tuple(defects))


def _null(data: Bytes, borders: npt.NDArray[np.int32], slashed: Mask) -> Mask | None:
    rows = np.flatnonzero(slashed)
    if not rows.size:
        return None
    starts = borders[rows, 0]
    null = np.zeros(len(borders), np.bool_)
    null[rows] = (borders[rows, 1] - starts == 2) & (data[starts + 1] == ord("N"))
    return null


def _unescaped(column: pa.BinaryArray) -> pa.BinaryArray:
    """Takes the backslashes out, over all values at once. In a run of backslashes every other one escapes."""
    validity, spans, content = column.buffers()
    data = np.frombuffer(content or b"", np.uint8)
    slashes = np.flatnonzero(data == _BACKSLASH)
    if not slashes.size:
        return column
    begins = np.concatenate(([True], np.diff(slashes) > 1))
    run = np.maximum.accumulate(np.where(begins, slashes, 0))
    escapes = slashes[(slashes - run) % 2 == 0]
    data = data.copy()
    data[escapes + 1] = _MEANT[data[escapes + 1]]
    kept = np.ones(data.size, np.bool_)
    kept[escapes] = False
    offsets = np.frombuffer(spans, np.int32)[: len(column) + 1]
    moved = (offsets - np.searchsorted(escapes, offsets)).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(column), [validity, pa.py_buffer(moved), pa.py_buffer(data[kept])])


def _text(place: int, column: pa.BinaryArray, defects: list[tuple[int, Defect]]) -> pa.StringArray:
    """The column as text; what is not UTF-8 becomes null and a defect."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_decoded(place, row, value, defects) for row, value in enumerate(column.to_pylist())], pa.string())


def _decoded(place: int, row: int, value: bytes | None, defects: list[tuple[int, Defect]]) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        defects.append((place, Defect(row, None, f"the value is not UTF-8 ({error.reason} at byte {error.start})", value or b"")))
        return None
