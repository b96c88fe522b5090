"""How a topic is being read: its state, its positions, and how many messages it is ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sources.base import SourceStatus, TableStatus
from sources.kafka.position import words


class Standing:
    """Told by the source's threads, asked by any."""

    def __init__(self, topic: str, confirmed: Mapping[int, int] | None) -> None:
        self._topic = topic
        self._lock = threading.Lock()
        self._status = SourceStatus("starting")
        self._confirmed: Mapping[int, int] | None = confirmed
        self._ends: dict[int, int] = {}
        self._copying = False
        self._stuck = False
        self._last = 0.0  # time of the newest message that was read, in seconds since 1970

    def reading(self) -> None:
        """Messages can be read."""
        with self._lock:
            self._stuck = False
            self._go_on()

    def answered(self) -> None:
        """The brokers answer. That is no news for messages that something else keeps from being read."""
        with self._lock:
            if not self._stuck:
                self._go_on()

    def _go_on(self) -> None:
        if self._status.state != "streaming":
            self._status = replace(self._status, state="streaming", error=None)

    def away(self, error: str, *, stuck: bool = False) -> None:
        """They do not; or, where it is `stuck`, messages are there and something else that may pass keeps them from being read."""
        with self._lock:
            self._stuck |= stuck
            if self._stuck and not stuck:
                return
            again = self._status.state == "streaming"
            self._status = replace(self._status, state="retrying", error=error, reconnects=self._status.reconnects + again)

    def copying(self, does: bool) -> None:
        """The topic is being read again for a sink of its own."""
        with self._lock:
            self._copying = does

    def read(self, size: int, last: float) -> None:
        """So many bytes of messages more, the newest written at `last` seconds since 1970."""
        with self._lock:
            self._status = replace(self._status, bytes_read=self._status.bytes_read + size)
            self._last = last

    def ends(self, ends: Mapping[int, int]) -> None:
        """What is known of the partitions' ends; they only grow."""
        with self._lock:
            for partition, end in ends.items():
                self._ends[partition] = max(end, self._ends.get(partition, 0))

    def confirmed(self, offsets: Mapping[int, int]) -> None:
        with self._lock:
            self._confirmed = offsets

    @property
    def is_away(self) -> bool:
        return self._status.state == "retrying"

    def status(self, unknown: Iterable[tuple[str, int]]) -> SourceStatus:
        with self._lock:
            confirmed = self._confirmed or {}
            behind = sum(max(0, end - confirmed.get(partition, 0)) for partition, end in self._ends.items()) if self._ends else None
            return replace(
                self._status,
                confirmed=words(confirmed) if self._confirmed is not None else None,
                server=words(self._ends) if self._ends else None,
                lag_messages=behind,
                lag_seconds=None if behind is None else max(0.0, time.time() - self._last) if behind and self._last else 0.0,
                unknown_fields=dict(unknown),
                tables={self._topic: TableStatus("copying" if self._copying else "streaming")},
            )
