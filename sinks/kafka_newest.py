"""The newest message of each key among many: what is too much for memory goes to a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from confluent_kafka import Message

from journal.batch import Longs, Mask
from sinks.kafka_formats import POSITION

_CHUNK = 10_000
_MEMORY = "256MB"
_OF_KEY = "SELECT arg_max(seq, {'p': position, 's': seq}) FROM messages WHERE key IS NOT NULL GROUP BY key"
_FOREIGN = -1  # the position of a message that Sluice did not write


class Newest:
    """Messages as they are added: of one key that with the largest position counts, and of those with one position the last."""

    def __init__(self, *, with_values: bool) -> None:
        self._with_values = with_values
        self._folder = tempfile.TemporaryDirectory(prefix="sluice-kafka-")
        config: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "memory_limit": _MEMORY}
        self._db = duckdb.connect(":memory:", config={**config, "temp_directory": self._folder.name})
        self._db.execute("CREATE TABLE messages (seq BIGINT, key BLOB, position BIGINT, alive BOOLEAN, value BLOB)")
        self._count = 0

    def __enter__(self) -> Newest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()
        self._folder.cleanup()

    def read(self, chunks: Iterable[Sequence[Message]]) -> None:
        """Adds messages of a topic."""
        for messages in chunks:
            values = [message.value() for message in messages]
            alive = np.array([value is not None for value in values], np.bool_)
            positions = np.array([_position(message) for message in messages], np.int64)
            keys = pa.array([message.key() for message in messages], pa.binary())
            self.add(keys, positions, alive, pa.array(values, pa.binary()) if self._with_values else None)

    def add(self, keys: pa.Array, positions: Longs, alive: Mask, values: pa.Array | None = None) -> None:
        """Adds messages by what counts of them; `alive` are those with a value."""
        n = len(keys)
        chosen = pa.nulls(n, pa.binary()) if values is None else values
        columns = {"seq": np.arange(self._count, self._count + n), "key": keys.cast(pa.binary()), "position": positions, "alive": alive}
        self._count += n
        self._db.register("incoming", pa.table({**columns, "value": chosen}))
        self._db.execute("INSERT INTO messages SELECT seq, key, position, alive, value FROM incoming")
        self._db.unregister("incoming")

    def stale(self, position: int) -> Iterator[list[bytes]]:
        """Keys that Sluice wrote, whose newest message has a value and is older than a position."""
        older = f"position BETWEEN 0 AND {position - 1}"
        return self._lists(f"SELECT key FROM messages WHERE alive AND {older} AND seq IN ({_OF_KEY}) ORDER BY seq")

    def values(self, keys: pa.Array | None) -> Iterator[list[bytes]]:
        """The values of rows that are there, all or those with the given keys; messages without a key are a row each."""
        asked = "" if keys is None else " AND key IN (SELECT key FROM asked)"
        if keys is not None:
            self._db.register("asked", pa.table({"key": keys.cast(pa.binary())}))
        return self._lists(f"SELECT value FROM messages WHERE alive AND (key IS NULL OR seq IN ({_OF_KEY})){asked}")

    def _lists(self, query: str) -> Iterator[list[bytes]]:
        answer = self._db.execute(query)
        while rows := answer.fetchmany(_CHUNK):
            yield [value for (value,) in rows]


def _position(message: Message) -> int:
    headers: Any = message.headers()
    for name, value in headers or ():
        if name == POSITION and isinstance(value, bytes) and value.isdigit():
            return int(value)
    return _FOREIGN
