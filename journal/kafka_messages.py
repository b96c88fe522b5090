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


def row_messages(name: bytes, content: bytes | None, before: int = 1) -> Iterator[Outgoing]:
    """The same for a row of a table, which went in `before` messages until now: those that are not needed any more are deleted."""
    for number in range(pieces_of(content) - 1, before - 1):
        yield _piece_name(name, number), None, [(_PART, b"")]
    yield from _pieces(name, content, [])


def pieces_of(value: bytes | None) -> int:
    """In how many messages a value goes."""
    return 1 if value is None else max(1, -(-len(value) // PIECE_BYTES))


def _piece_name(name: bytes, number: int) -> bytes:
    return b"%b %d" % (name, number)


def _pieces(key: bytes | None, value: bytes | None, headers: list[Any]) -> Iterator[Outgoing]:
    pieces = pieces_of(value)
    if value is None or pieces == 1:
        yield key, value, headers
        return
    for number in range(pieces):
        last = number == pieces - 1
        piece = value[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
        name = key if key is None or last else _piece_name(key, number)
        yield name, piece, [*(headers if last else []), (_PART, b"%d/%d" % (number, pieces))]


class Whole:
    """Puts the pieces of one partition's messages together."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._of: tuple[bytes | None, int] = None, 0  # the name of what they are pieces of, and how many there are

    def __call__(self, message: Message) -> tuple[bytes | None, bytes | None, tuple[Any, ...] | None] | None:
        """Key, value, and an entry's numbers; None while more is to come."""
        headers: Mapping[str, bytes] = dict(message.headers() or ())  # type: ignore[arg-type]
        value = message.value()
        part = headers.get(_PART)
        if part is not None and value is None:  # a piece that is not needed any more
            self._pieces.clear()
            return None
        if part is not None and value is not None:
            number, pieces = map(int, part.split(b"/"))
            key = message.key()
            of = (key if key is None or number == pieces - 1 else key.rpartition(b" ")[0]), pieces
            if number != len(self._pieces) or (number and of != self._of):  # what compaction has left of an older one
                self._pieces.clear()
                if number:
                    return None
            self._of = of
            self._pieces.append(value)
            if number < pieces - 1:
                return None
            value = b"".join(self._pieces)
        self._pieces.clear()
        entry = headers.get(_ENTRY)
        return message.key(), value, None if entry is None else tuple(msgspec.msgpack.decode(entry))
