"""The thread that reads a folder: files to segments, one file after the other, each with the position that it reaches."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import BinaryIO

import structlog

from journal.batch import ChangeBatch, CopyMarker, Entry, Segment
from pipeline.errors import Refused, TransientError
from sources.copies import Copies
from sources.files.contents import contents
from sources.files.folder import Folder, Found, Gone, Unreadable
from sources.files.position import Note, Watermark
from sources.files.roster import Roster
from sources.files.standing import Standing
from sources.files.translator import Translator
from sources.outlet import Outlet

log = structlog.get_logger("sluice.files")

_EVERY = 1.0  # seconds between two looks at the folder
_SOON = 0.05
_SHARE = 20  # a look may take a twentieth of the time
_SELDOM = 30.0
_SILENT = 10.0  # seconds for which the position stays as it is where there is nothing to do
_ENOUGH = 10  # files that cannot be read, after which the folder is looked at again
_BACKOFF = (0.1, 5.0)


class Reader:
    """Runs in a thread of its own; `closing` ends it."""

    def __init__(
        self,
        source: str,
        folder: Folder,
        translator: Translator,
        roster: Roster,
        outlet: Outlet,
        standing: Standing,
        copies: Copies,
        watermark: Watermark | None,
        closing: threading.Event,
    ) -> None:
        """`watermark` is None where nothing has been read yet."""
        self._source = source
        self._folder = folder
        self._translator = translator
        self._roster = roster
        self._outlet = outlet
        self._standing = standing
        self._copies = copies
        self._closing = closing
        self._known = watermark is not None
        self._mark = watermark or Watermark()
        self._open: Found | None = None if self._mark.whole else roster.number(self._mark.file)
        self._unreadable: dict[str, str] = {}
        self._behind = True  # whether the last look found something to do, or there was none yet
        self._backoff = _BACKOFF[0]

    def run(self) -> None:
        """Until `closing`. Raises what cannot be mended by trying again."""
        while not self._closing.is_set():
            try:
                self._turn()
                self._backoff = _BACKOFF[0]
            except TransientError as error:
                log.warning("files cannot be read now", source=self._source, error=error.message)
                self._standing.away(error.message)
                self._closing.wait(self._backoff)
                self._backoff = min(self._backoff * 2, _BACKOFF[1])

    def _turn(self) -> None:
        if self._open is not None:
            self._go_on(self._open)
            return
        sink = self._copies.next()
        if sink is not None:
            self._copy(sink)
            return
        began = time.monotonic()
        now = time.time()
        look = self._roster.look(self._files(), now)
        pause = _EVERY if look.settled is None else min(_EVERY, max(_SOON, look.settled))
        pause = max(pause, min(_SELDOM, _SHARE * (time.monotonic() - began)))
        for file in look.changed:
            said = f"{file.shown} changed after it was read; it is not read again"
            log.warning(said, source=self._source)
            self._standing.changed(file)
        self._standing.waiting(look.ready)
        if not self._unreadable:
            self._standing.reading()
        if self._read_all(look.ready):
            self._reach(look.since, news=bool(look.ready) or look.since < now)
        else:
            self._behind = True
        self._closing.wait(pause)

    def _files(self) -> list[Found]:
        """What is there. A folder that has been read once may come back; one that never was there is a mistake."""
        try:
            found = self._folder.look()
        except Refused as error:
            if self._known:
                raise TransientError(error.message, hint=error.hint) from error
            raise
        self._known = True
        return found

    def _read_all(self, files: list[Found]) -> bool:
        """Whether all of them have been read; one that cannot be is told, and tried again at the next look, behind the others."""
        unreadable: dict[str, str] = {}
        gone = False
        for file in sorted(files, key=lambda one: one.name in self._unreadable):
            if self._closing.is_set():
                return False
            if len(unreadable) >= _ENOUGH:
                break
            try:
                self._begin(file)
            except Gone:
                gone = True
            except Unreadable as error:
                unreadable[file.name] = error.message
        for name in unreadable.keys() - self._unreadable.keys():
            log.warning(unreadable[name], source=self._source)
        self._unreadable = unreadable
        if unreadable:
            self._standing.away("; ".join(list(unreadable.values())[:3]))
        else:
            self._standing.reading()
        return not unreadable and not gone

    def _reach(self, since: float, *, news: bool) -> None:
        """Everything that was there at `since` is read: the journal is told now where somebody may wait for it, else now and then."""
        if since > self._mark.since + (0.0 if news or self._behind else _SILENT):
            self._mark = Watermark(self._mark.file, self._mark.records, self._mark.place, True, since)
            self._segment([], {}, 0)
        self._behind = news

    def _begin(self, file: Found) -> None:
        """Reads a new file. Raises Gone and Unreadable only where nothing of it has been given yet, TransientError where something has."""
        number = self._mark.file + 1
        stream = contents(self._folder, file, packed=self._packed)
        self._open = file
        try:
            self._through(file, stream, number, 0)
        except TransientError as error:
            if self._mark.file == number:
                raise
            self._open = None
            raise Unreadable(error.message, hint=error.hint) from error

    def _go_on(self, file: Found) -> None:
        """Reads on in a file that was begun, by this process or by one before it."""
        try:
            stream = contents(self._folder, file, packed=self._packed)
        except Gone as error:
            self._files()  # raises where it is the folder that is away
            self._give_up(file, error)
            return
        self._through(file, stream, self._mark.file, self._mark.records)

    def _through(self, file: Found, stream: BinaryIO, number: int, done: int) -> None:
        """From the record behind `done` to the end. The last records go with the word that they are the last."""
        skip = done
        waiting: ChangeBatch | None = None
        with closing(stream):
            for records in self._translator.reader.read(stream):
                if skip >= len(records):
                    skip -= len(records)
                    continue
                batch = self._translator.batch(records, number, file).slice(skip, len(records))
                skip = 0
                if waiting is not None:
                    self._put(file, number, waiting, whole=False)
                waiting = batch
                if self._closing.is_set():
                    return
        self._put(file, number, waiting, whole=True)

    def _put(self, file: Found, number: int, batch: ChangeBatch | None, *, whole: bool) -> None:
        first = number != self._mark.file
        records, place = (0, 0) if first else (self._mark.records, self._mark.place)
        if batch is not None:
            records, place = records + len(batch), int(batch.nth[-1])
        self._mark = Watermark(number, records, place, whole, self._mark.since)
        if first:
            self._roster.add(number, file)
        note = Note(file.name, file.size, file.modified, records, self._translator.reader.unit)
        size = 0 if batch is None else _weight(batch)
        self._segment([] if batch is None else [batch], note.named(number) if first or whole else {}, size)
        self._standing.read(size)
        if whole:
            self._open = None
            self._standing.done(file)
            log.info("file read", source=self._source, file=file.shown, number=number, records=records)

    def _give_up(self, file: Found, error: Gone) -> None:
        """What was left of a file cannot be read: that is kept as a record in quarantine, or nobody would know."""
        said = f"{error.message}; the rest of it is not read"
        log.error(said, source=self._source, records=self._mark.records)
        why = f"changed or went before all of it was read: {error.message}"
        rest = self._translator.rest(self._mark.file, self._mark.place + 1, file, why)
        self._put(file, self._mark.file, rest, whole=True)

    def _segment(self, entries: list[Entry], notes: dict[str, str], size: int) -> None:
        self._outlet.put(Segment(self._source, entries, self._mark.encode(), time.monotonic(), notes), size)

    def _copy(self, sink: str) -> None:
        """Reads every file again, for one sink; new ones wait.

        If they all are there as they were, what the sink has and they have not goes; else it stays.
        """
        self._standing.copying(True)
        begun = False
        try:
            there = {file.name: file for file in self._files()}
            files = list(self._roster.files())
            lost = [file.shown for _, file in files if there.get(file.name) != file]
            if lost:
                log.warning("files are not there as they were read", source=self._source, sink=sink, files=lost[:10], number=len(lost))
            self._segment([self._marker("start", sink, first=bool(lost))], {}, 0)
            begun = True
            for number, file in files:
                if there.get(file.name) == file and not self._copied(number, file, sink):
                    return
            self._copies.ending(sink, self._outlet.count + 1)
            self._segment([self._marker("end", sink, first=bool(lost))], {}, 0)
        except TransientError as error:
            if begun:
                self._segment([self._marker("abandoned", sink)], {}, 0)
            self._copies.again(sink)
            raise TransientError(f"the copy for the sink {sink} begins again: {error.message}") from error
        finally:
            self._standing.copying(False)

    def _copied(self, number: int, file: Found, sink: str) -> bool:
        """Whether it was read to its end, which it is not when the source is closed."""
        with closing(contents(self._folder, file, packed=self._packed)) as stream:
            for records in self._translator.reader.read(stream):
                if self._closing.is_set():
                    return False
                batch = self._translator.batch(records, number, file, sink)
                self._segment([batch], {}, _weight(batch))
        return True

    def _marker(self, phase: str, sink: str, *, first: bool = False) -> CopyMarker:
        return CopyMarker(self._translator.schema, self._source, self._source, phase, 0, first, sink)

    @property
    def _packed(self) -> bool:
        return self._translator.packed


def _weight(batch: ChangeBatch) -> int:
    """Bytes of a batch with the lines that its rows were received as; rows of parquet are made into such only when somebody asks."""
    received = batch.payloads.all if batch.payloads is not None else ()
    return batch.nbytes + (sum(len(payload.value or b"") for payload in received) if isinstance(received, list) else 0)
