"""A folder that is being read: the reader's thread, and what waits to be taken from it."""

from __future__ import annotations

import threading

import structlog

from journal.batch import Segment
from sources.base import Resume, SourceContext, SourceStatus
from sources.copies import Copies
from sources.files.config import FilesConfig
from sources.files.folder import Folder
from sources.files.position import Watermark, noted
from sources.files.reader import Reader
from sources.files.roster import Roster
from sources.files.standing import Standing
from sources.files.translator import Translator
from sources.outlet import Outlet

log = structlog.get_logger("sluice.files")

_AHEAD = 16 << 20  # bytes of records that wait to be taken
_JOIN = 5.0


class Running:
    """A source that has been started."""

    def __init__(self, config: FilesConfig, context: SourceContext, folder: Folder, resume: Resume) -> None:
        """Raises Refused or ConfigError where files could not be read whatever they are."""
        known = Watermark.decode(resume.watermark) if resume.watermark else None
        self._source = context.name
        self._told: set[str | None] = set()
        self._closing = threading.Event()
        self._outlet = Outlet(_AHEAD)
        self._copies = Copies()
        self._standing = Standing(context.name, known)
        self._translator = Translator(config, context)
        roster = Roster(noted(resume.notes), config.settle_seconds)
        self._reader = Reader(
            context.name, folder, self._translator, roster, self._outlet, self._standing, self._copies, known, self._closing
        )
        self._thread = threading.Thread(target=self._run, name="files-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._reader.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes
            self._outlet.fail(error)

    def take(self, timeout: float) -> Segment | None:
        """See Source.take."""
        return self._outlet.take(timeout)

    def confirm(self, watermark: str) -> None:
        """See Source.confirm."""
        self._standing.confirmed(Watermark.decode(watermark))
        self._copies.confirmed()

    def copy_again(self, sink: str | None) -> None:
        """See Source.copy_again. For all sinks at once files are not read again: that is what `resync` does."""
        if sink is not None:
            self._copies.ask(sink)
        elif sink not in self._told:
            self._told.add(sink)
            log.warning("files are not copied again for all sinks: see `sluice resync`", source=self._source)

    def status(self) -> SourceStatus:
        """See Source.status."""
        return self._standing.status(list(self._translator.unknown.items()))

    def close(self) -> None:
        """Ends the thread."""
        self._closing.set()
        self._outlet.close()
        if self._thread.ident is not None:
            self._thread.join(_JOIN)
