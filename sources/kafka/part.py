"""The partitions of a topic that one of several processes reads, and what the first of them makes of all."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from journal.batch import Segment
from sources.kafka.position import Watermark


@dataclass(frozen=True, slots=True)
class Part:
    """Part `number` of `of` has the partitions p with p % of == number."""

    number: int = 0
    of: int = 1

    def has(self, partition: int) -> bool:
        return partition % self.of == self.number

    def of_watermark(self, watermark: Watermark) -> Watermark:
        """What is known of these partitions alone."""
        return replace(watermark, offsets={partition: offset for partition, offset in watermark.offsets.items() if self.has(partition)})


WHOLE = Part()


class _Received(NamedTuple):
    segment: Segment
    taken: Callable[[], None]


class Gathering:
    """Where the first part puts together what all parts have read. One thread, but for `unknown`."""

    def __init__(self, known: Mapping[int, int]) -> None:
        """`known`: the offset of each partition at which its part begins."""
        self._offsets = dict(known)
        self._received: deque[_Received] = deque()
        self._unknown: dict[int, Mapping[str, int]] = {}

    def receive(self, part: int, segment: Segment, unknown: Mapping[str, int], taken: Callable[[], None]) -> None:
        """See Source.receive."""
        self._received.append(_Received(segment, taken))
        self._unknown[part] = unknown

    def next(self) -> Segment | None:
        """The next segment of another part."""
        if not self._received:
            return None
        found = self._received.popleft()
        found.taken()
        return self.gathered(found.segment)

    def gathered(self, segment: Segment) -> Segment:
        """A segment of any part, with the position of all of them."""
        if segment.watermark is None:
            return segment
        own = Watermark.decode(segment.watermark)
        self._offsets.update(own.offsets)
        return replace(segment, watermark=replace(own, offsets=dict(self._offsets)).encode())

    def unknown(self, own: Mapping[str, int]) -> Iterable[tuple[str, int]]:
        """Fields that messages of any part had and the schema lacks."""
        found = Counter(own)
        for counts in list(self._unknown.values()):
            found.update(counts)
        return list(found.items())
