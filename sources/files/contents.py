"""The bytes of a file for those who read records: buffered, unpacked, and with errors told apart.

What may pass (a share that is away) is a TransientError; what is in the file itself (a compressed file that ends too soon) is Broken.
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

from pipeline.errors import TransientError
from sources.files.folder import Folder, Found
from sources.records.lines import Broken

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 1 << 20


def contents(folder: Folder, file: Found, *, packed: bool) -> BinaryIO:
    """A file to be read from its beginning. `packed`: a name in .gz means what it says. Raises what `Folder.open` does."""
    raw = cast(BinaryIO, io.BufferedReader(_Raw(folder.open(file), file), _BUFFER))
    if packed and file.name.endswith(".gz"):
        return cast(BinaryIO, io.BufferedReader(_Unpacked(raw), _BUFFER))
    return raw


class _Raw(io.RawIOBase):
    """The file as it was found: what is added while it is read is not read, or half of a line could be; what is gone is told."""

    def __init__(self, stream: BinaryIO, file: Found) -> None:
        self._stream = stream
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        left = max(0, self._file.size - self._at)
        try:
            found = self._stream.read(min(len(view), left) or 1)[:left]  # of nothing, too, it shows whether it can be read
        except OSError as error:
            raise TransientError(f"{self._file.shown} cannot be read: {error}") from error
        if left and view and not found:
            raise Broken("was cut while it was read")
        view[: len(found)] = found
        self._at += len(found)
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            offset, whence = self._file.size + offset, io.SEEK_SET
        self._stream.seek(offset, whence)
        self._at = self._stream.tell()
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """What a gzip file holds."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._stream = gzip.GzipFile(fileobj=packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            found = self._stream.read1(len(view))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Broken(f"cannot be unpacked: {str(error)[:200]}") from error
        view[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._packed.close()
        super().close()
