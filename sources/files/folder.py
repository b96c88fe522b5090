"""Where files lie: what is there now, and the bytes of one of them."""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.errors import Refused, TransientError
from sources.files.pattern import Pattern


class Found(NamedTuple):
    """A file as it is now: its name below the folder, its bytes, and when it was last changed, in nanoseconds since 1970."""

    name: str
    size: int
    modified: int

    @property
    def shown(self) -> str:
        """The name as it can be printed."""
        return printable(self.name)


class Unreadable(TransientError):  # noqa: N818  (reads as what happened)
    """One file cannot be read now; others can."""


class Gone(Unreadable):
    """One file is not there any more, or is not the one that was found."""


class Folder(ABC):
    """A folder and all that is below it."""

    @abstractmethod
    def look(self) -> list[Found]:
        """The files that match, in no order.

        Raises Refused where the folder is not there or may not be read, TransientError where that cannot be told now.
        """

    @abstractmethod
    def open(self, file: Found) -> BinaryIO:
        """Its bytes, from the beginning. Raises Gone where it has changed, Unreadable; reading raises TransientError."""


class LocalFolder(Folder):
    """A folder of the file system. Symbolic links to files are followed, those to folders are not."""

    def __init__(self, path: Path, pattern: Pattern) -> None:
        self._path = path
        self._pattern = pattern

    def look(self) -> list[Found]:
        try:
            return list(self._below(str(self._path), "", 1))
        except FileNotFoundError as error:
            raise Refused(f"there is no folder {self._path}", hint="make it, or mend `path`") from error
        except NotADirectoryError as error:
            raise Refused(f"{self._path} is no folder", hint="`path` is the folder, `pattern` says which of its files are meant") from error
        except PermissionError as error:
            raise Refused(f"the folder {error.filename} may not be read: {error.strerror}", hint="let Sluice's user read it") from error
        except OSError as error:
            raise TransientError(f"the folder {self._path} cannot be read: {error.strerror}") from error

    def _below(self, folder: str, prefix: str, depth: int) -> Iterator[Found]:
        deepest = self._pattern.depth
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if (deepest is None or depth < deepest) and not entry.name.startswith("."):
                        yield from self._inner(entry.path, f"{name}/", depth + 1)
                elif (deepest is None or depth == deepest) and self._pattern.matches(name):
                    found = _looked_at(entry)
                    if found is not None and stat.S_ISREG(found.st_mode):
                        yield Found(name, found.st_size, found.st_mtime_ns)

    def _inner(self, folder: str, prefix: str, depth: int) -> Iterator[Found]:
        with suppress(FileNotFoundError, NotADirectoryError):
            yield from self._below(folder, prefix, depth)

    def open(self, file: Found) -> BinaryIO:
        try:
            stream = (self._path / file.name).open("rb", buffering=0)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Gone(f"{file.shown} is not there any more") from error
        except OSError as error:
            raise Unreadable(f"{file.shown} cannot be read: {error.strerror}", hint="it is tried again until it can") from error
        now = os.fstat(stream.fileno())
        if (now.st_size, now.st_mtime_ns) != (file.size, file.modified):
            stream.close()
            raise Gone(f"{file.shown} has changed")
        return stream


def _looked_at(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what went meanwhile, and for a link that leads nowhere."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


def printable(name: str) -> str:
    """A name that may have bytes which are no text, or control characters."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)
