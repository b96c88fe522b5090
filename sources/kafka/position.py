"""Where a topic has been read to: for each partition the offset that comes next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Watermark:
    """`id` is the topic's, new when it is deleted and made again; empty where the broker is too old to have one.

    A partition that is not in `offsets` has not been read: it begins at its earliest message.
    """

    topic: str
    id: str
    offsets: Mapping[int, int] = field(default_factory=dict)

    def encode(self) -> str:
        offsets = {str(partition): self.offsets[partition] for partition in sorted(self.offsets)}
        return json.dumps({"topic": self.topic, "id": self.id, "offsets": offsets}, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Watermark:
        found = json.loads(text)
        return cls(found["topic"], found["id"], {int(partition): offset for partition, offset in found["offsets"].items()})

    def holds(self, head: Watermark) -> bool:
        """Whether everything before the offsets of `head` has been read, of the same topic."""
        return (self.topic, self.id) == (head.topic, head.id) and all(self.offsets.get(p, 0) >= end for p, end in head.offsets.items())


def words(offsets: Mapping[int, int]) -> str:
    """Offsets as people see them: `0:1200 1:1180`."""
    shown = [f"{partition}:{offsets[partition]}" for partition in sorted(offsets)[:_SHOWN]]
    more = len(offsets) - len(shown)
    return " ".join(shown) + (f" and {more} more" if more else "")
