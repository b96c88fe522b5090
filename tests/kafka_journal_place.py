"""A journal in topics of a real broker, and folders with copies of it."""

from __future__ import annotations

from pathlib import Path

from journal.batch import ChangeBatch
from journal.keeping import follow_once, open_published
from journal.local import JournalReader, JournalWriter
from journal.quarantine import Wanted
from pipeline.model import JournalConfig, KafkaJournal
from tests.journal_cases import SOURCE, everything
from tests.kafka_place import Kafka


class Place:
    """A journal's topics, and folders with copies of them."""

    def __init__(self, kafka: Kafka, tmp_path: Path) -> None:
        self.config = KafkaJournal(kafka.bootstrap_servers, kafka.prefix, 4)
        self.tmp_path = tmp_path

    def folder(self, name: str) -> Path:
        return self.tmp_path / name

    def ingest(self, name: str = "here", retention: float = 0.0) -> JournalWriter:
        return open_published(self.folder(name), "commerce", JournalConfig(1 << 40, retention), self.config)

    def followed(self, name: str) -> JournalReader:
        """A reader of a folder that is brought up to date first."""
        follow_once(self.folder(name), "commerce", self.config)
        return JournalReader.open(self.folder(name), "commerce")


def content(reader: JournalReader) -> object:
    """All that readers can ask, but for what is counted by minute."""
    entries = [
        (entry.dataset, entry.sink, entry.ordinal.tolist(), [column.to_pylist() for column in entry.columns])
        if isinstance(entry, ChangeBatch)
        else entry
        for entry in everything(reader)
    ]
    records = reader.quarantined(Wanted())
    return reader.id, reader.last_seq(), entries, reader.totals(), records, reader.resume(SOURCE)
