"""One of several workers that share a sink, and where they wait for each other.

What concerns all partitions is an entry of none: a copy that begins or ends, a truncate, a key that moves to another partition, the first
change of a table under another shape. The first worker takes it once all others have everything before it; they go on once it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from journal.lanes import done_of
from sinks.base import Cursor

Turn = Literal["wait", "write", "follow"]


@dataclass(frozen=True, slots=True)
class Worker:
    """Worker `number` of `of`. `addresses` are those of all, where they talk to each other; one alone has none."""

    number: int = 0
    of: int = 1
    addresses: tuple[str, ...] = ()

    def named(self, process: str) -> str:
        """The process that it is, for people."""
        return process if self.of == 1 else f"{process}/{self.number}"

    def lock(self, sink: str) -> str:
        """The name of its lock. The first one's is that of a process alone, so that there is not one beside the other."""
        return f"deliver-{sink}.{self.number}" if self.number else f"deliver-{sink}"


ALONE = Worker()


def reached(worker: Worker, mine: Cursor, held: Sequence[Cursor]) -> int:
    """The last entry up to which everything that concerns all has been written, as far as a worker knows."""
    first = (held[0] if held else None) if worker.number else mine
    return 0 if first is None else max(first.seq, done_of(first.ahead, 0))


def turn(worker: Worker, mine: Cursor, held: Sequence[Cursor], last: int) -> Turn:
    """What to do with entries, up to `last`, that concern all and stand right behind what this worker holds.

    `mine` is its own cursor, `held` are those of all workers as the target has them, the first one's first.
    """
    if worker.number:
        first = reached(worker, mine, held)
        return "follow" if first > mine.seq else "wait"  # as far as that one is: it may have seen fewer of them
    if last <= done_of(mine.ahead, 0):
        return "follow"
    there = len(held) == worker.of and all(cursor.seq >= mine.seq for cursor in held)
    return "write" if there else "wait"
