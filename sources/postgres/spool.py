"""Transactions that are streamed before they commit: kept until then, in memory up to a limit and beyond it in files.

See https://www.postgresql.org/docs/current/protocol-logical-replication.html, "Streamed transactions".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import SluiceError, TransientError
from sources.postgres.frames import SLACK, Bytes, Longs

_HEADER = struct.Struct("<qq")
_MERGED = 1 << 20  # small blocks are decoded together up to this size


class Block(NamedTuple):
    """Messages of one transaction: their bytes with some slack, where each message begins, and where it ends."""

    data: Bytes
    body: Longs
    stops: Longs

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.body.nbytes + self.stops.nbytes


@dataclass
class _Streamed:
    blocks: list[Block] = field(default_factory=list)  # those after what is in the file
    nbytes: int = 0
    file: BufferedRandom | None = None
    in_file: int = 0
    aborted: set[int] = field(default_factory=set)


class Spool:
    """Keeps the messages of any number of transactions that are open at the same time, in order, by the xid of the topmost one.

    At most `limit` bytes are in memory. Nothing outlives the session: the server sends everything again after a reconnect. Raises
    TransientError when the disk is full or cannot be written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._streamed: dict[int, _Streamed] = {}
        self.in_memory = 0
        self.clear()

    def append(self, xid: int, data: Bytes, body: Longs, stops: Longs) -> None:
        """Adds messages to the transaction; all that is given is copied."""
        if not body.size:
            return
        begin, end = int(body[0]), int(stops[-1])
        copy = np.empty(end - begin + SLACK, np.uint8)
        copy[: end - begin] = data[begin:end]
        block = Block(copy, body - begin, stops - begin)
        streamed = self._streamed.setdefault(xid, _Streamed())
        streamed.blocks.append(block)
        streamed.nbytes += block.nbytes
        self.in_memory += block.nbytes
        while self.in_memory > self._limit:
            largest = max(self._streamed, key=lambda x: self._streamed[x].nbytes)
            self._write(largest, self._streamed[largest])

    def abort(self, xid: int, subxid: int) -> None:
        """Forgets what the subtransaction did, and only that; the whole transaction if `subxid` is `xid`."""
        if xid == subxid:
            self.forget(xid)
        elif xid in self._streamed:
            self._streamed[xid].aborted.add(subxid)

    def aborted(self, xid: int) -> Longs:
        """The subtransactions of `xid` that were rolled back."""
        found = self._streamed.get(xid)
        return np.array(sorted(found.aborted) if found else [], np.int64)

    def size(self, xid: int) -> int:
        """Bytes kept for the transaction."""
        streamed = self._streamed.get(xid)
        return 0 if streamed is None else streamed.nbytes + streamed.in_file

    def blocks(self, xid: int) -> Iterator[Block]:
        """All messages of the transaction in order, a bounded number at a time."""
        streamed = self._streamed.get(xid)
        return iter(()) if streamed is None else _merged(_all_blocks(streamed))

    def forget(self, xid: int) -> None:
        """The transaction is over."""
        streamed = self._streamed.pop(xid, None)
        if streamed is None:
            return
        self.in_memory -= streamed.nbytes
        if streamed.file is not None:
            streamed.file.close()
            (self._folder / f"{xid}.spool").unlink(missing_ok=True)

    def clear(self) -> None:
        """Forgets everything, and what an earlier process left in the folder."""
        for xid in list(self._streamed):
            self.forget(xid)
        for left in self._folder.glob("*.spool"):
            left.unlink(missing_ok=True)

    def _write(self, xid: int, streamed: _Streamed) -> None:
        try:
            if streamed.file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                streamed.file = (self._folder / f"{xid}.spool").open("w+b")
            for block in streamed.blocks:
                size = block.data.size - SLACK
                streamed.file.write(_HEADER.pack(size, block.body.size))
                for part in (block.body, block.stops, block.data[:size]):
                    streamed.file.write(part.data)
            streamed.file.flush()
        except OSError as error:
            raise _disk(error, self._folder) from error
        self.in_memory -= streamed.nbytes
        streamed.in_file += streamed.nbytes
        streamed.blocks, streamed.nbytes = [], 0


def _all_blocks(streamed: _Streamed) -> Iterator[Block]:
    if streamed.file is not None:
        yield from _blocks_of(streamed.file)
    yield from streamed.blocks


def _blocks_of(file: BufferedRandom) -> Iterator[Block]:
    try:
        file.seek(0)
        while header := file.read(_HEADER.size):
            size, count = _HEADER.unpack(header)
            numbers = np.empty(2 * count, np.int64)
            data = np.empty(size + SLACK, np.uint8)
            if file.readinto(numbers.data) + file.readinto(data[:size].data) != numbers.nbytes + size:
                raise TransientError("a spool file was cut short", hint="does another process clean the state folder?")
            yield Block(data, numbers[:count], numbers[count:])
    except OSError as error:
        raise TransientError(f"a spooled transaction cannot be read again: {error.strerror or error}") from error


def _merged(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same messages with small neighbours joined."""
    waiting: list[Block] = []
    size = 0
    for block in blocks:
        if waiting and size + block.data.size > _MERGED:
            yield _join(waiting)
            waiting, size = [], 0
        waiting.append(block)
        size += block.data.size
    if waiting:
        yield _join(waiting)


def _join(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    before = np.cumsum([0, *(block.data.size for block in blocks[:-1])])
    return Block(
        np.concatenate([block.data for block in blocks]),
        np.concatenate([block.body + shift for block, shift in zip(blocks, before, strict=True)]),
        np.concatenate([block.stops + shift for block, shift in zip(blocks, before, strict=True)]),
    )


def _disk(error: OSError, folder: Path) -> SluiceError:
    return TransientError(
        f"a large transaction cannot be spooled into {folder}: {error.strerror or error}",
        hint="make room there, or put the pipeline's `state` on another disk",
    )
