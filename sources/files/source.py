"""A folder of files as a source."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from journal.batch import ChangeBatch, Segment
from journal.schema import TableSchema
from pipeline.errors import PreflightError, TerminalError
from sources.base import Preflight, Resume, Source, SourceContext, SourceStatus
from sources.files.config import S3, FilesConfig
from sources.files.folder import Folder, LocalFolder
from sources.files.pattern import Pattern
from sources.files.position import Watermark, place_in
from sources.files.running import Running
from sources.files.translator import Translator

_PATIENCE = 5.0  # seconds that `sync` gives a file to become still which was there when it began


class FilesSource(Source):
    """One folder, or prefix of a bucket: each file that matches is read once, every record of it a change. Nothing is changed there."""

    kind = "files"
    Config = FilesConfig
    waited_for = True
    compared = False

    def __init__(self, config: FilesConfig, context: SourceContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._folder = _folder(config)
        self._running: Running | None = None

    @classmethod
    def place(cls, table: str, lsn: int, nth: int, notes: Mapping[str, str]) -> str:
        return place_in(notes, lsn, nth)

    @classmethod
    def number(cls, position: str) -> int | None:
        return None

    def preflight(self, resume: Resume) -> Preflight:
        tables = {self.context.name: Translator(self._config, self.context).schema}
        there = len(self._folder.look())
        return Preflight([], [] if resume.watermark else [self._reading(there)], tables)

    def start(self, resume: Resume) -> None:
        self._running = Running(self._config, self.context, self._folder, resume)
        self._running.start()

    def take(self, timeout: float = 0.0) -> Segment | None:
        return self._started.take(timeout)

    def confirm(self, watermark: str) -> None:
        self._started.confirm(watermark)

    def status(self) -> SourceStatus:
        return SourceStatus("starting") if self._running is None else self._running.status()

    def head(self) -> str:
        """Whatever was there at `since` and has not changed: what had been still for long enough; where that is short, what was there."""
        settle = self._config.settle_seconds
        return json.dumps({"since": time.time() - (settle if settle > _PATIENCE else 0.0)})

    def reached(self, watermark: str | None, head: str) -> bool:
        return bool(watermark) and Watermark.decode(watermark or "").since >= float(json.loads(head)["since"])

    def copy_again(self, table: str, sink: str | None = None) -> None:
        if table == self.context.name:
            self._started.copy_again(sink)

    def start_over(self, do: bool) -> Preflight:
        Translator(self._config, self.context)
        said = [
            self._reading(len(self._folder.look())),
            "rows with a key are written over; rows without one, and those of a history, come a second time; nothing goes from the sinks",
        ]
        return Preflight([], said, {})

    def close(self) -> None:
        if self._running is not None:
            self._running.close()

    def read_table(self, table: str, schema: TableSchema, keys: ChangeBatch | None, receive: Callable[[ChangeBatch], None]) -> str:
        raise PreflightError(f"the files of {table} are a stream of changes, not a table that can be read")

    def _reading(self, there: int) -> str:
        what = f"files of {self._config.path} that match {self._config.pattern}"
        return f"the {what} are read, each once, from the oldest on ({there} {'is' if there == 1 else 'are'} there now)"

    @property
    def _started(self) -> Running:
        if self._running is None:
            raise TerminalError(f"the source {self.context.name} has not been started")
        return self._running


def _folder(config: FilesConfig) -> Folder:
    pattern = Pattern(config.pattern)
    if not config.path.startswith(S3):
        return LocalFolder(Path(config.path), pattern)
    from sources.files.bucket import S3Folder  # brings Arrow's client of S3, which most do not need

    return S3Folder(config.path, pattern, config.s3)
