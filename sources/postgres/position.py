"""Where in the log of which server a source stands."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace


def lsn_text(lsn: int) -> str:
    """A position in the log in Postgres' own words, such as 0/1A2B3C8."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """The position that Postgres writes as `text`. Raises ValueError."""
    high, slash, low = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} is not a position in the log")
    return (int(high, 16) << 32) | int(low, 16)


@dataclass(frozen=True, slots=True)
class Watermark:
    """All that was committed before `lsn` (the end of a commit record, or the consistent point of a slot) has been read.

    It means something only for the server `system` and the slot it was read through, and on the `timeline` or its descendants.
    `mark` counts the stretches whose durability the source waits for.
    """

    lsn: int
    system: str
    timeline: int
    slot: str
    mark: int = 0

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Watermark:
        return cls(**json.loads(text))

    def at(self, lsn: int) -> Watermark:
        """The same, at another position."""
        return self if lsn == self.lsn else replace(self, lsn=lsn)
