"""What has been received and not been taken yet: large buffers, split into frames, bounded in bytes.

The reader fills the last buffer; whoever decodes takes the oldest. While decoding is behind, small messages gather in one buffer, so
that the more there is to do, the less each row costs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sources.postgres.decoder import Chunk
from sources.postgres.frames import KEEPALIVE, PAYLOAD, SLACK, Bytes, Frames, Longs, Splitter, frame_length, read_i8

CAPACITY = 2 << 20  # bytes of a buffer: about ten thousand rows, still in the processor's cache
_SPARE = 4
_TIGHT = 64 << 10  # a buffer with less room than this goes on its way


@dataclass(slots=True)
class _Buffer:
    """One being filled: data[:size] has come, of which data[:whole] are whole frames."""

    data: Bytes
    size: int = 0
    whole: int = 0
    starts: list[Longs] = field(default_factory=list)
    stops: list[Longs] = field(default_factory=list)
    received: float = 0.0

    @property
    def room(self) -> int:
        return self.data.size - SLACK - self.size

    def chunk(self) -> Chunk:
        return Chunk(self.data, np.concatenate(self.starts), np.concatenate(self.stops), self.received)


@dataclass(slots=True)
class News:
    """What new frames mean for the session: the server's end of the log, whether it wants an answer, and messages that are no CopyData."""

    server_end: int = 0
    answer: bool = False
    foreign: list[bytes] = field(default_factory=list)


class Inbox:
    """The queue between the thread that reads and the one that decodes. At most about `limit` bytes wait in it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._splitter = Splitter()
        self._full: deque[_Buffer] = deque()
        self._waiting = 0
        self._spare: deque[Bytes] = deque(maxlen=_SPARE)
        self._failure: BaseException | None = None
        self._open = _Buffer(self._memory(CAPACITY))
        self.has_room: Callable[[], None] = _nothing  # called when the inbox was full and is not any more

    @property
    def is_full(self) -> bool:
        """Whether the reader must stop until something has been taken."""
        return self._waiting + self._open.data.size > self._limit and self._waiting > 0

    # the reader's side

    def receive(self, read: Callable[[memoryview], int]) -> tuple[int, int]:
        """Lets `read` fill what room there is; how many bytes came, and how much room is left. What it raises goes through."""
        with self._changed:
            buffer = self._open
            got = read(buffer.data[buffer.size : buffer.size + buffer.room].data)
            if got:
                buffer.size += got
                buffer.received = time.monotonic()
            return got, buffer.room

    def publish(self) -> News:
        """Hands on the whole frames that have come. Raises TerminalError for what is no protocol."""
        news = News()
        with self._changed:
            buffer = self._open
            while True:
                frames = self._splitter.split(buffer.data, buffer.whole, buffer.size)
                self._note(buffer, frames, news)
                if not frames.foreign:
                    break
                length = frame_length(buffer.data, buffer.whole, buffer.size)
                if length is None or buffer.whole + length > buffer.size:
                    break
                news.foreign.append(buffer.data[buffer.whole : buffer.whole + length].tobytes())
                buffer.whole += length
            if buffer.room < _TIGHT:
                self._roll()
            if buffer.starts:
                self._changed.notify_all()
        return news

    def fail(self, error: BaseException) -> None:
        """After what has been received, the consumer gets this."""
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    # the decoder's side

    def take(self, timeout: float) -> Chunk | None:
        """The oldest frames, or None after `timeout` seconds. Raises what the reader failed with once all is taken."""
        with self._changed:
            if not self._full and not self._open.starts and self._failure is None:
                self._changed.wait_for(lambda: self._full or self._open.starts or self._failure is not None, timeout)
            if self._full:
                was_full = self.is_full
                buffer = self._full.popleft()
                self._waiting -= buffer.data.size
                if was_full and not self.is_full:
                    self.has_room()
                return buffer.chunk()
            if self._open.starts:
                buffer = self._open
                self._open = self._continue(buffer)
                return buffer.chunk()
            if self._failure is not None:
                raise self._failure
            return None

    def recycle(self, chunk: Chunk) -> None:
        """The chunk's memory is not needed any more."""
        if chunk.data.size == CAPACITY + SLACK:
            self._spare.append(chunk.data)

    # both, under the lock

    def _note(self, buffer: _Buffer, frames: Frames, news: News) -> None:
        if not frames.starts.size:
            return
        buffer.starts.append(frames.starts)
        buffer.stops.append(frames.stops)
        buffer.whole = frames.end
        alive = frames.starts[buffer.data.take(frames.starts + PAYLOAD) == KEEPALIVE]
        if alive.size:
            news.server_end = max(news.server_end, int(read_i8(buffer.data, alive[-1:] + PAYLOAD + 1)[0]))
            news.answer = news.answer or bool(buffer.data.take(alive + PAYLOAD + 17).any())

    def _roll(self) -> None:
        """Another buffer takes the place of the open one, which has too little room."""
        buffer = self._open
        self._open = self._continue(buffer)
        if buffer.starts:
            self._full.append(buffer)
            self._waiting += buffer.data.size

    def _continue(self, buffer: _Buffer) -> _Buffer:
        """A new buffer that begins with the frame which `buffer` has only a part of, and is large enough for the whole of it."""
        rest = buffer.data[buffer.whole : buffer.size]
        length = frame_length(buffer.data, buffer.whole, buffer.size) or 0
        following = _Buffer(self._memory(max(CAPACITY, length + _TIGHT, rest.size + _TIGHT)), size=rest.size, received=buffer.received)
        following.data[: rest.size] = rest
        return following

    def _memory(self, size: int) -> Bytes:
        if size == CAPACITY and self._spare:
            return self._spare.pop()
        return np.empty(size + SLACK, np.uint8)


def _nothing() -> None:
    """Nobody waits for room."""
