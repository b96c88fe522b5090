"""What a Kafka sink holds, as the one message that counts in a topic of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sinks.base import Cursor

KEY = b"cursor"
SETTINGS: Mapping[str, str] = {"cleanup.policy": "compact", "segment.bytes": str(16 << 20), "min.cleanable.dirty.ratio": "0.1"}
"""Of the topic: small segments, as only those that are full are compacted."""


def topic_of(pipeline: str, sink: str, worker: int = 0) -> str:
    """The topic of a worker's cursor. Nobody else writes there: the open transaction of another would hide what is committed behind it."""
    return f"_sluice_cursor.{pipeline}.{sink}" + (f".{worker}" if worker else "")


@dataclass(frozen=True, slots=True)
class Record:
    """`newest` is the highest position of any message; `topics` names for each dataset its topic, and that one's id.

    `sharing`, of the first worker: it is about to hand out cursors, so that nobody may go on from one.
    """

    cursor: Cursor
    newest: int = 0
    topics: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    sharing: bool = False

    def encode(self) -> bytes:
        topics = {dataset: list(topic) for dataset, topic in self.topics.items()}
        told = {"cursor": self.cursor.encode(), "newest": self.newest, "topics": topics, "sharing": self.sharing}
        return json.dumps(told).encode()

    @classmethod
    def decode(cls, value: bytes) -> Record:
        found = json.loads(value)
        topics = {dataset: (name, number) for dataset, (name, number) in found["topics"].items()}
        return cls(Cursor.decode(found["cursor"]), found["newest"], topics, found.get("sharing", False))

    def without(self, gone: set[str]) -> Record:
        """The record, where topics that are gone hold nothing: their datasets go there in no way any more, so they are copied again."""
        lost = [dataset for dataset, (name, _) in self.topics.items() if name in gone]
        routes = {**self.cursor.routes, **dict.fromkeys(lost, "dropped")}
        topics = {dataset: topic for dataset, topic in self.topics.items() if dataset not in lost}
        return replace(self, cursor=replace(self.cursor, routes=routes), topics=topics)
