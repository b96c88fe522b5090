"""What the topics of a journal hold, and what becomes of a copy of it when they are not as it left them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Message, TopicPartition

from journal import store
from journal.kafka_feed import Feed
from journal.kafka_messages import PIECE_BYTES, Whole, row_messages
from journal.local import JournalReader, JournalWriter
from journal.store import FILE
from journal.topics import JournalTopics
from pipeline.errors import JournalError, TerminalError
from pipeline.model import JournalConfig, KafkaJournal
from tests.fix_kafka import LaunchKafka
from tests.journal_cases import LINES, SOURCE, changes, everything, ordinals, record, write
from tests.kafka_journal_place import Place, content
from tests.kafka_place import Kafka


@pytest.fixture
def place(kafka: Kafka, tmp_path: Path) -> Place:
    return Place(kafka, tmp_path)


def test_what_every_sink_has_is_forgotten_in_topics_and_copies(place: Place, kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journal.publisher._MARK_EVERY", 0.0)
    with place.ingest() as journal:
        for _ in range(3):
            write(journal, 20)
        journal.prune(0)
        place.followed("there").close()
        seqs = write(journal, 5)
        journal.prune(seqs - 1)
        journal.prune(seqs - 1)
        with JournalReader.open(place.folder("here"), "commerce") as here:
            first = here.first_seq()
            assert first > 1
        with place.followed("there") as there, place.followed("new") as new:
            assert there.first_seq() == new.first_seq() == first
            assert there.last_seq() == new.last_seq()
            assert there.totals() == new.totals()
    with place.ingest() as journal, place.followed("there") as there:
        write(journal, 1)
        assert journal.next_ordinal == 67
    published = kafka.consume(f"{kafka.prefix}.commerce.state")
    place.ingest("elsewhere").close()
    assert kafka.consume(f"{kafka.prefix}.commerce.state") == published  # nothing is missed of what was forgotten


def test_a_journal_of_before_is_published(place: Place) -> None:
    with JournalWriter.open(place.folder("here"), "commerce", JournalConfig(1 << 40)) as local:
        write(local, 10)
        number = local.id
    with place.ingest() as journal:
        write(journal, 1)
        assert journal.id == number
        with JournalReader.open(place.folder("here"), "commerce") as here, place.followed("there") as there:
            assert content(there) == content(here)
    with pytest.raises(JournalError, match="copy of a journal in Kafka"):
        JournalWriter.open(place.folder("here"), "commerce", JournalConfig(1 << 40))


def test_a_journal_of_before_that_has_forgotten_something_is_published(place: Place) -> None:
    with JournalWriter.open(place.folder("here"), "commerce", JournalConfig(1 << 40)) as local:
        write(local, 10)
        forgotten = write(local, 10)
        write(local, 5)
        local.prune(forgotten)
        with JournalReader.open(place.folder("here"), "commerce") as here:
            local_totals = here.totals()
    with place.ingest() as journal, place.followed("there") as there:
        assert there.first_seq() == forgotten + 1
        assert there.totals() == local_totals
        journal.prune(journal.commit(SOURCE, "all"))
        write(journal, 1)


def test_what_brokers_delete_by_themselves_is_missed(place: Place, kafka: Kafka) -> None:
    """As retention does that somebody has set; in the middle of what is there, too."""
    with place.ingest() as journal:
        write(journal, 50)
        place.followed("there").close()
        for _ in range(3):
            write(journal, 50)
        delete = partial(TopicPartition, f"{kafka.prefix}.commerce.changes")
        for places, names in (([delete(0, 4)], ("there", "new")), ([delete(partition, 4) for partition in range(4)], ("there",))):
            for answer in kafka.admin.delete_records(places).values():
                answer.result(60)
            for name in names:
                with pytest.raises(JournalError, match=r"changes has lost \d entries up to commit"):
                    place.followed(name)
        with place.followed("new") as new:  # whose beginning the sinks look at
            assert new.first_seq() == new.last_seq() - 7
    with place.ingest() as journal:
        write(journal, 1)
    with JournalReader.open(place.folder("here"), "commerce") as here:
        assert sorted(ordinals(everything(here))) == list(range(1, 202))


def test_nothing_of_a_large_row_stays_in_the_topic_when_it_is_gone(place: Place, kafka: Kafka) -> None:
    """But what compaction will take: the last message of each name says that it is deleted."""

    def held() -> list[bytes]:
        last = {message.key: message.value for message in kafka.consume(f"{kafka.prefix}.commerce.state")}
        return sorted(name for name, value in last.items() if name is not None and name.startswith(b"held") and value is not None)

    with place.ingest() as journal:
        journal.hold(changes(0, 2, schema=LINES, width=1_700_000))
        journal.commit(SOURCE, "1")
        assert len(held()) == 4
    with place.ingest("elsewhere") as journal:  # who was not there when it was written
        list(journal.released(SOURCE, "public.lines", None))
        journal.hold(changes(0, 2, schema=LINES, width=900_000))
        journal.commit(SOURCE, "2")
        assert len(held()) == 3
        list(journal.released(SOURCE, "public.lines", None))
        journal.commit(SOURCE, "3")
        assert held() == []
        with place.followed("new") as new, JournalReader.open(place.folder("elsewhere"), "commerce") as here:
            assert content(new) == content(here)


class Piece(NamedTuple):
    """A message as a consumer gives it."""

    name: bytes | None
    content: bytes | None
    heads: list[Any]

    def key(self) -> bytes | None:
        return self.name

    def value(self) -> bytes | None:
        return self.content

    def headers(self) -> list[Any]:
        return self.heads


def test_pieces_that_compaction_has_left_of_two_rows_are_not_put_together() -> None:
    def whole(*pieces: Any) -> list[object]:
        put = Whole()
        return [found[0] for piece in pieces if (found := put(piece)) is not None]

    one = [Piece(*message) for message in row_messages(b"held [1]", b"x" * (2 * PIECE_BYTES + 1))]
    two = [Piece(*message) for message in row_messages(b"held [2]", b"y" * (2 * PIECE_BYTES + 1))]
    assert whole(*one, *two) == [b"held [1]", b"held [2]"]
    assert whole(*one[:2], two[2]) == []
    assert whole(one[0], two[1], two[2]) == []
    assert whole(one[0], *two) == [b"held [2]"]


def test_a_journal_of_its_own_is_not_mixed_with_that_of_topics(place: Place) -> None:
    with place.ingest("one") as journal:
        write(journal, 1)
    with JournalWriter.open(place.folder("two"), "commerce", JournalConfig(1 << 40)) as local:
        write(local, 10)
    with pytest.raises(JournalError, match="a journal of its own"):
        place.ingest("two")


def test_topics_that_were_deleted_are_made_again_of_the_copy_of_ingest_and_of_no_other(place: Place, kafka: Kafka) -> None:
    with place.ingest() as journal:
        write(journal, 1)
    place.followed("there").close()
    for topic in ("state", "changes"):
        kafka.delete_topic(f"{kafka.prefix}.commerce.{topic}")
    with place.ingest() as journal:
        write(journal, 1)
    with pytest.raises(JournalError, match="was deleted and made again"):
        place.followed("there")
    with JournalReader.open(place.folder("here"), "commerce") as here, place.followed("new") as new:
        assert content(new) == content(here)
        assert ordinals(everything(new)) == [1, 2]
    with place.ingest("elsewhere") as journal:
        write(journal, 1)
    for topic in ("state", "changes"):
        kafka.delete_topic(f"{kafka.prefix}.commerce.{topic}")
    place.ingest("elsewhere").close()
    with pytest.raises(JournalError, match="was deleted and made again"):
        place.ingest("here")


def test_partitions_cannot_be_changed(place: Place) -> None:
    place.ingest().close()
    place.config = KafkaJournal(place.config.bootstrap_servers, place.config.prefix, 8)
    with pytest.raises(TerminalError, match="has 4 partitions, not 8"):
        place.ingest()


def test_a_file_that_lags_behind_the_topics_is_brought_up_to_date(place: Place) -> None:
    """As after a power cut: the topics have commits that the file has not."""
    with place.ingest() as journal:
        write(journal, 3)
    old = (place.folder("here") / FILE).read_bytes()
    with place.ingest() as journal:
        write(journal, 4)
    (place.folder("here") / FILE).write_bytes(old)
    with place.ingest() as journal:
        assert journal.next_ordinal == 8
        with JournalReader.open(place.folder("here"), "commerce") as here:
            assert ordinals(everything(here)) == list(range(1, 8))


def test_a_copy_that_was_away_for_very_long_is_made_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The topics tell for a week only that a row is gone."""
    with place.ingest() as journal:
        journal.hold(changes(0, 3))
        journal.commit(SOURCE, "1")
        place.followed("there").close()
        removed: list[Path] = []
        remove = store.remove

        def spied(folder: Path) -> None:
            removed.append(folder)
            remove(folder)

        monkeypatch.setattr(store, "remove", spied)
        monkeypatch.setattr("journal.replica.DELETED_SECONDS", 0.0)
        place.followed("there").close()
        assert not removed  # nothing has happened since
        write(journal, 3)
        with JournalReader.open(place.folder("here"), "commerce") as here, place.followed("there") as there:
            assert content(there) == content(here)
        assert removed == [place.folder("there")]


def test_commits_that_the_topics_have_lost_are_published_again(launch_kafka: LaunchKafka, tmp_path: Path) -> None:
    """As after a power cut of all brokers, which answer for what is in their memory: here, brokers of an older state."""
    import shutil

    kafka = launch_kafka()
    place = Place(kafka, tmp_path)
    with place.ingest() as journal:
        write(journal, 3)
    kafka.server.stop()
    data = Path(kafka.server.data)
    shutil.copytree(data, tmp_path / "old")
    kafka.server.restart()
    with place.ingest() as journal:
        write(journal, 4)
        journal.quarantine([record(journal.id, journal.next_ordinal)])
        journal.commit(SOURCE, "7")
    kafka.server.stop()
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "old", data)
    kafka.server.restart()
    with place.ingest() as journal:
        write(journal, 1)
    with JournalReader.open(place.folder("here"), "commerce") as here, place.followed("there") as there:
        assert content(there) == content(here)
        assert ordinals(everything(there)) == [*range(1, 8), 9]


class AtOnce(Feed):
    """Reads slowly: what is there comes in one piece, with the end."""

    def take(self, timeout: float) -> Sequence[Message]:
        taken: list[Message] = []
        while not self.reached:
            taken += super().take(timeout)
        return taken


def test_the_end_of_a_partition_may_come_with_its_last_messages(place: Place) -> None:
    with place.ingest() as journal:
        write(journal, 3)
        topics = JournalTopics(place.config, "commerce")
        state = topics.names.state, 0
        feed = AtOnce(topics.options, topics.group, topics.who, {state: 0})
        with closing(feed):
            found: list[Message] = []
            feed.until({state: topics.ends(topics.make())[state]}, found.extend)
        assert found
