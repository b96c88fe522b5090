"""How the journal is laid down in topics.

PREFIX.PIPELINE.changes   the entries: one message each, in the partition of its stream; those of several, in the first.
                          Header `entry`: its numbers. Value: its payload.
PREFIX.PIPELINE.state     everything else: rows of tables by name, as changelog.py has them; compacted. Each commit ends with the
                          row `kept ["commit"]`, which says how far the partitions of `changes` belong to it.
PREFIX.PIPELINE.status    what processes say of themselves: rows that state folders share, see sharing.py; compacted. Header `from`: whose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import Message

from journal.changelog import name_of

COMMIT = name_of("kept", '["commit"]')
PRUNED = "pruned"  # in `kept`: the newest entry that has been forgotten
PIECE_BYTES = 900_000
"""Bytes of a message's value at most: below what brokers take by default."""

_ENTRY = "entry"
_PART = "part"


@dataclass(frozen=True, slots=True)
class TopicNames:
    """What the topics of a journal are called."""

    changes: str
    state: str
    status: str

    @classmethod
    def of(cls, prefix: str, pipeline: str) -> TopicNames:
        return cls(*(f"{prefix}.{pipeline}.{what}" for what in ("changes", "state", "status")))


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """`number` counts commits, of which each has an id; `seq` is the newest entry of all, `parts` has the newest of each partition."""

    number: int
    id: str
    seq: int
    parts: dict[int, int]

    @classmethod
    def decode(cls, text: str) -> Commit:
        return msgspec.json.decode(text, type=cls)

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()


Outgoing = tuple[bytes | None, bytes | None, list[Any]]


def entry_messages(numbers: tuple[Any, ...], payload: bytes) -> Iterator[Outgoing]:
    """Key, value and headers of the messages of an entry; `numbers` are its columns but for the payload."""
    yield from _pieces(None, payload, [(_ENTRY, msgspec.msgpack.encode(numbers))])


def row_messages(name: bytes, content: bytes | None) -> Iterator[Outgoing]:
    """The same for a row of a table."""
    yield from _pieces(name, content, [])


def _pieces(key: bytes | None, value: bytes | None, headers: list[Any]) -> Iterator[Outgoing]:
    size = 0 if value is None else len(value)
    if value is None or size <= PIECE_BYTES:
        yield key, value, headers
        return
    pieces = -(-size // PIECE_BYTES)
    for number in range(pieces):
        last = number == pieces - 1
        piece = value[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
        name = key if key is None or last else b"%b %d" % (key, number)
        yield name, piece, [*(headers if last else []), (_PART, b"%d/%d" % (number, pieces))]


class Whole:
    """Puts the pieces of one partition's messages together."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def __call__(self, message: Message) -> tuple[bytes | None, bytes | None, tuple[Any, ...] | None] | None:
        """Key, value, and an entry's numbers; None while more is to come."""
        headers: Mapping[str, bytes] = dict(message.headers() or ())  # type: ignore[arg-type]
        value = message.value()
        part = headers.get(_PART)
        if part is not None and value is not None:
            number, pieces = map(int, part.split(b"/"))
            if number != len(self._pieces):  # what compaction has left of an older one
                self._pieces.clear()
                if number:
                    return None
            self._pieces.append(value)
            if number < pieces - 1:
                return None
            value = b"".join(self._pieces)
        self._pieces.clear()
        entry = headers.get(_ENTRY)
        return message.key(), value, None if entry is None else tuple(msgspec.msgpack.decode(entry))
