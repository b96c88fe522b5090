"""How a folder is being read: its state, its position, what waits, and which files are not as they should be."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sources.base import SourceStatus, TableStatus
from sources.files.folder import Found
from sources.files.position import Watermark

_SHOWN = 3


class Standing:
    """Told by the reader's thread, asked by any."""

    def __init__(self, source: str, confirmed: Watermark | None) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._status = SourceStatus("starting")
        self._confirmed = confirmed
        self._waiting: dict[str, Found] = {}
        self._changed: list[str] = []
        self._copying = False

    def reading(self) -> None:
        """The folder can be read, and every file in it."""
        with self._lock:
            if self._status.state != "streaming":
                self._status = replace(self._status, state="streaming", error=None)

    def away(self, error: str) -> None:
        """The folder, or a file in it, cannot be read now."""
        with self._lock:
            again = self._status.state == "streaming"
            self._status = replace(self._status, state="retrying", error=error, reconnects=self._status.reconnects + again)

    def waiting(self, files: Sequence[Found]) -> None:
        """Files that are there and have not been read to their end."""
        with self._lock:
            self._waiting = {file.name: file for file in files}

    def done(self, file: Found) -> None:
        """Of those one has been read."""
        with self._lock:
            self._waiting.pop(file.name, None)

    def changed(self, file: Found) -> None:
        """After it was read."""
        with self._lock:
            self._changed.append(file.shown)

    def read(self, size: int) -> None:
        """So many bytes of records more."""
        with self._lock:
            self._status = replace(self._status, bytes_read=self._status.bytes_read + size)

    def copying(self, does: bool) -> None:
        """The files are being read again for a sink of its own."""
        with self._lock:
            self._copying = does

    def confirmed(self, watermark: Watermark) -> None:
        with self._lock:
            self._confirmed = watermark

    def status(self, unknown: Iterable[tuple[str, int]]) -> SourceStatus:
        with self._lock:
            waiting = self._waiting.values()
            oldest = min((file.modified for file in waiting), default=None)
            table = TableStatus("copying" if self._copying else "streaming", error=self._changes())
            return replace(
                self._status,
                confirmed=None if self._confirmed is None else self._confirmed.words,
                server=f"{len(waiting)} files to read",
                lag_bytes=sum(file.size for file in waiting),
                lag_seconds=0.0 if oldest is None else max(0.0, time.time() - oldest / 1e9),
                unknown_fields=dict(unknown),
                tables={self._source: table},
            )

    def _changes(self) -> str | None:
        if not self._changed:
            return None
        more = len(self._changed) - _SHOWN
        names = ", ".join(self._changed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        which = "it was" if len(self._changed) == 1 else "they were"
        return f"{names} changed after {which} read: what is new goes into a file of another name"
