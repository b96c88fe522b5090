"""The part of a journal with partitions that one of several workers takes.

Worker i of n has the partitions p with p % n == i. Entries of no partition concern them all: the first worker takes them, once the others
have everything before, and the others go on once it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Done(NamedTuple):
    """The target has the partitions p with p % of == worker up to and with entry `seq`."""

    worker: int
    of: int
    seq: int


def done_of(known: Iterable[Done], partition: int) -> int:
    """The last entry of a partition that is known to be in the target; 0 where nothing is."""
    return max((done.seq for done in known if partition % done.of == done.worker), default=0)


@dataclass(frozen=True, slots=True)
class Lanes:
    """Worker `worker` of `of`. Of some partitions the target has more than of others: `ahead`."""

    worker: int = 0
    of: int = 1
    ahead: tuple[Done, ...] = ()

    def takes(self, partition: int, seq: int) -> bool:
        """Whether an entry of a partition is still to be written, by this worker."""
        return partition % self.of == self.worker and seq > done_of(self.ahead, partition)

    @property
    def together(self) -> int:
        """The last entry up to which everything that concerns all has been written."""
        return done_of(self.ahead, 0)
