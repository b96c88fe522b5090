"""A journal in miniature for a source of files: keeps what a real one would, and can be killed between any two segments."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journal.batch import ChangeBatch, CopyMarker, Segment
from sources.base import CopyState, Resume, SourceContext
from sources.files.config import FilesConfig
from sources.files.source import FilesSource
from tests.waiting import wait_for

SCHEMA = {"id": "bigint", "name": "text"}


@dataclass
class Bad:
    """One record that was held back."""

    place: dict[str, Any]
    message: str
    column: str | None
    raw: bytes | None


@dataclass
class Taking:
    """`rows` are the good ones, in order, by column; `places` where they stand; `copies` what came for one sink."""

    block: Mapping[str, Any]
    state: Path
    watermark: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, str | None]] = field(default_factory=list)
    places: list[dict[str, Any]] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    copies: list[Any] = field(default_factory=list)
    commits: int = 0
    source: FilesSource | None = None
    key: tuple[str, ...] = ()

    def start(self) -> FilesSource:
        """A new process where the journal stands."""
        source = self.make()
        source.start(Resume(self.watermark, CopyState(), {}, dict(self.notes)))
        return source

    def make(self) -> FilesSource:
        """The source, not started."""
        keys = {"orders": self.key} if self.key else {}
        context = SourceContext("shop", "drops", self.state, lambda table: False, {"drops": "orders"}, keys)
        config = FilesConfig.model_validate({"format": "csv", "schema": SCHEMA, "settle_seconds": 0, **self.block})
        self.source = FilesSource(config, context)
        return self.source

    def kill(self) -> None:
        """What was read and not committed is gone."""
        if self.source is not None:
            self.source.close()
        self.source = None

    def take(self, timeout: float = 0.05) -> Segment | None:
        """Takes, commits and confirms a segment, if there is one."""
        assert self.source is not None
        segment = self.source.take(timeout)
        if segment is None:
            return None
        self.notes |= segment.notes
        for entry in segment.entries:
            if isinstance(entry, CopyMarker):
                self.copies.append((entry.phase, entry.first))
            elif isinstance(entry, ChangeBatch) and entry.sink is not None:
                self.copies += [(entry.sink, row["id"]) for row in _rows(entry)]
            elif isinstance(entry, ChangeBatch):
                self._keep(entry)
        assert segment.watermark is not None
        self.watermark = segment.watermark
        self.commits += 1
        self.source.confirm(segment.watermark)
        return segment

    def _keep(self, batch: ChangeBatch) -> None:
        assert batch.payloads is not None
        places = [json.loads(FilesSource.place(batch.table, int(a), int(b), self.notes)) for a, b in zip(batch.lsn, batch.nth, strict=True)]
        for defect in batch.defects:
            self.bad.append(Bad(places[defect.row], defect.message, defect.column, batch.payloads.row(defect.row).value))
        wrong = {defect.row for defect in batch.defects}
        for row, values in enumerate(_rows(batch)):
            if row not in wrong:
                self.rows.append(values)
                self.places.append(places[row])

    def until_read(self) -> Taking:
        """Until everything that is in the folder now, and still, has been read."""
        running = self.source
        head = (running or self.make()).head()
        source = running or self.start()

        def there() -> bool:
            self.take()
            return source.reached(self.watermark, head)

        wait_for(there, message=lambda: f"all files; {source.status()}")
        return self

    def until(self, state: str) -> str:
        """Until the source says it is in this state; returns the error beside it."""
        assert self.source is not None
        source = self.source

        def there() -> bool:
            self.take()
            return source.status().state == state

        wait_for(there, message=lambda: f"{state}; {source.status()}")
        return source.status().error or ""

    @property
    def ids(self) -> list[str | None]:
        return [row["id"] for row in self.rows]


def _rows(batch: ChangeBatch) -> list[dict[str, str | None]]:
    columns = [column.to_pylist() for column in batch.columns]
    return [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def put(folder: Path, name: str, content: str | bytes, age: float = 60.0) -> Path:
    """A file that was last changed so many seconds ago; it is there at once, and whole."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}")
    made.write_bytes(content.encode() if isinstance(content, str) else content)
    when = made.stat().st_mtime - age
    os.utime(made, (when, when))
    made.rename(path)
    return path
