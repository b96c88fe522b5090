"""Lines of a file, in bounded memory: one that is too long, or the place where a file breaks, is there as what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO, TypeVar

Item = TypeVar("Item")

LONGEST = 16 << 20  # bytes of a line
BATCH_BYTES = 8 << 20  # that are read at a time
_SHOWN = 64 << 10


class Broken(Exception):  # noqa: N818  (reads as what happened)
    """Raised by the stream of a file that cannot be read any further, whatever is done: it says why."""


class OddLine(bytes):
    """In place of a line that cannot be taken: `reason` says why, the bytes are what can be shown of it."""

    reason: str

    @classmethod
    def of(cls, shown: bytes, reason: str) -> OddLine:
        made = cls(shown)
        made.reason = reason
        return made


def lines(stream: BinaryIO) -> Iterator[bytes]:
    """Every line with its end. What is longer than LONGEST, and the rest of a broken file, is an OddLine."""
    try:
        while line := stream.readline(LONGEST + 1):
            if len(line) <= LONGEST or line.endswith(b"\n"):
                yield line
                continue
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(1 << 20)
            yield OddLine.of(line[:_SHOWN], f"is a line of more than {LONGEST >> 20} MiB; this is its beginning")
    except Broken as error:
        yield OddLine.of(b"", broken(str(error)))


def broken(reason: str) -> str:
    """What is said of the rest of a file that is broken."""
    return f"the file {reason}; nothing behind this is read"


def batched(items: Iterator[Item], most: int, size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Consecutive items: at most so many, and no more once they have BATCH_BYTES."""
    for first in items:
        batch: list[Item] = []
        held = 0
        for item in chain([first], items):
            batch.append(item)
            held += size(item)
            if len(batch) >= most or held >= BATCH_BYTES:
                break
        yield batch
