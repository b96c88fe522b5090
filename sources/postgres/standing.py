"""How a source does: its state, its positions, and how far it is behind."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sources.base import SourceStatus, TableStatus
from sources.postgres.position import lsn_text
from sources.postgres.slot import Slot

_SAMPLE = 0.1  # seconds between two positions of the server that are remembered
_FRESH = 2.0  # seconds for which the commit time of what came last says something


@dataclass(frozen=True, slots=True)
class Reading:
    """What the stream knows at this moment. last_commit is in seconds since 1970, last_rows in those of time.monotonic(); `copied`: the
    first copies are over."""

    server: int | None
    bytes_read: int
    last_commit: float
    last_rows: float
    copied: bool


class Standing:
    """Told by the source's threads, asked by any."""

    def __init__(self, confirmed: int | None) -> None:
        self._lock = threading.Lock()
        self._status = SourceStatus("starting")
        self._confirmed = confirmed
        self._read_before = 0  # bytes of sessions that are over
        self._heard: deque[tuple[int, float]] = deque()  # positions of the server, and when each was first heard of

    def tell(self, state: str, error: str | None = None) -> None:
        with self._lock:
            self._status = replace(self._status, state=state, error=error)

    def ended(self, bytes_read: int) -> None:
        """A session is over, in which so much was read."""
        with self._lock:
            self._read_before += bytes_read

    def disconnected(self, error: str) -> None:
        """There is no session, and another will be tried."""
        with self._lock:
            self._status = replace(self._status, state="retrying", error=error, reconnects=self._status.reconnects + 1)

    def confirmed(self, lsn: int) -> None:
        with self._lock:
            self._confirmed = lsn if self._confirmed is None else max(self._confirmed, lsn)
            while self._heard and self._heard[0][0] <= self._confirmed:
                self._heard.popleft()

    def heard(self, server: int) -> None:
        """The server's log reaches up to here."""
        now = time.monotonic()
        with self._lock:
            last = self._heard[-1] if self._heard else (self._confirmed or 0, float("-inf"))
            if server > last[0] and now - last[1] >= _SAMPLE:
                self._heard.append((server, now))

    def slot(self, slot: Slot) -> None:
        with self._lock:
            self._status = replace(self._status, wal_status=slot.wal_status, safe_wal_size=slot.safe_wal_size)

    def status(self, reading: Reading, tables: Mapping[str, TableStatus]) -> SourceStatus:
        with self._lock:
            confirmed, server = self._confirmed, reading.server
            behind = None if server is None or confirmed is None else max(0, server - confirmed)
            state = self._status.state
            return replace(
                self._status,
                state="copying" if state == "streaming" and not reading.copied else state,
                confirmed=None if confirmed is None else lsn_text(confirmed),
                server=None if server is None else lsn_text(server),
                lag_bytes=behind,
                lag_seconds=None if behind is None else self._seconds(behind, reading),
                bytes_read=self._read_before + reading.bytes_read,
                tables=tables,
            )

    def _seconds(self, behind: int, reading: Reading) -> float:
        """Since when the server has been ahead; or, where that is longer, how old the change is that came last."""
        if behind == 0 or not self._heard:
            return 0.0
        now = time.monotonic()
        waited = now - self._heard[0][1]
        if now - reading.last_rows < _FRESH:
            waited = max(waited, time.time() - reading.last_commit)
        return waited
