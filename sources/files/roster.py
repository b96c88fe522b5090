"""Which files have been read, which are still, and in what order they come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sources.files.folder import Found
from sources.files.position import Note


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to do.

    ready    files to be read, in order: by the time of their last change, then by name
    changed  files that have changed since they were read, each told once
    since    once `ready` is read: whatever was there then (seconds since 1970) and has not changed since, has been read
    settled  seconds until the next file may have been still for long enough; None: none is waiting for that
    """

    ready: list[Found] = field(default_factory=list)
    changed: list[Found] = field(default_factory=list)
    since: float = 0.0
    settled: float | None = None


@dataclass(frozen=True, slots=True)
class _Young:
    """A file that is not still yet: since when it has been seen as it is (monotonic), and a time at which it was not yet so."""

    file: Found
    seen: float
    before: float


class Roster:
    """Remembers by name: a name stands for one file for ever."""

    def __init__(self, known: Mapping[int, Note], settle: float) -> None:
        """`settle` in seconds."""
        self._settle = settle
        self._numbers = {number: Found(note.name, note.size, note.mtime) for number, note in known.items()}
        self._read = {file.name: file for file in self._numbers.values()}
        self._told: set[str] = set()
        self._young: dict[str, _Young] = {}
        self._last: float | None = None

    def add(self, number: int, file: Found) -> None:
        """The file has this number, and is not read again."""
        self._numbers[number] = file
        self._read[file.name] = file

    def files(self) -> Iterable[tuple[int, Found]]:
        """Number and file, as they were read."""
        return sorted(self._numbers.items())

    def number(self, number: int) -> Found:
        """The file with this number."""
        return self._numbers[number]

    def look(self, found: Iterable[Found], now: float) -> Look:
        """What is new among the files that are there `now` (seconds since 1970, just before they were listed).

        A file is still when its last change is long enough ago, or when it has been seen unchanged for long enough, whatever its time is.
        """
        clock = time.monotonic()
        ready: list[Found] = []
        changed: list[Found] = []
        young: dict[str, _Young] = {}
        for file in found:
            known = self._read.get(file.name)
            if known is not None:
                if known != file and file.name not in self._told:
                    self._told.add(file.name)
                    changed.append(file)
                continue
            one = self._young.get(file.name)
            if one is None or one.file != file:
                one = _Young(file, clock, self._before(file, now))
            if now - file.modified / 1e9 >= self._settle or clock - one.seen >= self._settle:
                ready.append(file)
            else:
                young[file.name] = one
        self._young, self._last = young, now
        ready.sort(key=lambda file: (file.modified, file.name))
        settled = min((self._settle - (clock - one.seen) for one in young.values()), default=None)
        return Look(ready, changed, min([now, *(one.before for one in young.values())]), settled)

    def _before(self, file: Found, now: float) -> float:
        if self._last is not None:
            return self._last
        changed = file.modified / 1e9
        return changed - 1e-3 if changed <= now else 0.0
