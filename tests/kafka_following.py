"""A Kafka source driven by hand: started at a position, taken from until it holds what the topic holds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journal.batch import ChangeBatch, CopyMarker, Op
from journal.schema import Column, TableSchema
from sources.base import CopyState, Resume, SourceContext
from sources.kafka.config import KafkaConfig
from sources.kafka.source import KafkaSource

_PATIENCE = 60.0


@dataclass
class Followed:
    """What a source gave: batches in order, markers of copies for a sink, and the last watermark, which was confirmed."""

    source: KafkaSource
    watermark: str | None = None
    batches: list[ChangeBatch] = field(default_factory=list)
    markers: list[CopyMarker] = field(default_factory=list)

    def step(self, timeout: float = 0.2) -> bool:
        """Takes one segment, if one comes."""
        segment = self.source.take(timeout)
        if segment is None:
            return False
        assert segment.watermark is not None
        for entry in segment.entries:
            if isinstance(entry, ChangeBatch):
                self.batches.append(entry)
            elif isinstance(entry, CopyMarker) and entry.sink is not None:
                self.markers.append(entry)
        self.watermark = segment.watermark
        self.source.confirm(segment.watermark)
        return True

    def catch_up(self) -> Followed:
        """Until everything that is committed now has been given."""
        head = self.source.head()
        until = time.monotonic() + _PATIENCE
        while not self.source.reached(self.watermark, head):
            self.step()
            assert time.monotonic() < until, f"{self.watermark} does not reach {head}: {self.source.status()}"
        return self

    def until(self, rows: int) -> Followed:
        """Until so many rows have been given."""
        until = time.monotonic() + _PATIENCE
        while len(self.rows) < rows:
            self.step()
            assert time.monotonic() < until, f"{len(self.rows)} rows of {rows}: {self.source.status()}"
        return self

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every row: its columns, and `op`, `at` (partition, offset) and `defect`."""
        found = []
        for batch in self.batches:
            columns = {name: column.to_pylist() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
            defects = {defect.row: defect.message for defect in batch.defects}
            for row in range(len(batch)):
                values = {name: column[row] for name, column in columns.items()}
                at = (int(batch.lsn[row]), int(batch.nth[row]))
                found.append({**values, "op": Op(int(batch.op[row])).word, "at": at, "defect": defects.get(row)})
        return found


@contextmanager
def following(
    options: Mapping[str, str],
    topic: str,
    folder: Path,
    *,
    watermark: str | None = None,
    key: tuple[str, ...] = ("id",),
    mapped: Mapping[str, str] | None = None,
    **block: Any,
) -> Iterator[Followed]:
    """A source that runs. `options` are librdkafka's with the address; `mapped`: key of the dataset that a map makes, with types."""
    source = make_source(options, topic, folder, key=key, mapped=mapped, **block)
    try:
        source.start(Resume(watermark, CopyState(), {}))
        yield Followed(source, watermark)
    finally:
        source.close()


def make_source(
    options: Mapping[str, str],
    topic: str,
    folder: Path,
    *,
    key: tuple[str, ...] = ("id",),
    mapped: Mapping[str, str] | None = None,
    **block: Any,
) -> KafkaSource:
    """One that has not been started."""
    client = dict(options)
    servers = client.pop("bootstrap.servers")
    written = {"format": "json", "schema": {"id": "bigint", "name": "text"}, **block}
    config = KafkaConfig.model_validate({"bootstrap_servers": servers, "topic": topic, "options": client, **written})
    schemas = {} if mapped is None else {topic: TableSchema("orders", tuple(Column(*one) for one in mapped.items()), tuple(mapped))}
    context = SourceContext(
        pipeline="test",
        name="topic",
        state=folder,
        recall=lambda table: False,
        tables={topic: "orders"},
        keys={"orders": key} if mapped is None else {},
        schemas=schemas,
        mapped=frozenset() if mapped is None else frozenset([topic]),
    )
    return KafkaSource(config, context)
