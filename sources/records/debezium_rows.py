"""What the decoder of Debezium's events asks of JSON and of avro alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sources.records.assembling import Rows


class RowReader(Protocol):
    """Reads rows whose schema is the same, to columns of the decoder's schema."""

    def new(self, items: Sequence[Any], raw: Sequence[bytes]) -> Rows:
        """Rows as they are now: what is required must be there. `raw` are the messages that they come from."""
        ...

    def old(self, items: Sequence[Any], raw: Sequence[bytes]) -> Rows:
        """Rows as they were, of which the log may have kept the key alone."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """One change; `before` and `after` are None where they are null. Events of one `group` have the same `reader`."""

    op: str
    before: Any
    after: Any
    group: Hashable
    reader: Callable[[], RowReader]
