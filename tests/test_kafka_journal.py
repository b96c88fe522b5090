"""The journal in topics of a real broker: what is committed is there whole, in every folder, whoever is killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from journal import audit_trail, handling, store
from journal.audit_check import check as check_trail
from journal.changelog import TABLES
from journal.local import JournalReader, JournalWriter
from journal.replica import Replica
from journal.schema import Column, TableSchema
from journal.store import FILE
from journal.topics import JournalTopics
from pipeline.errors import AlreadyRunningError, TerminalError
from pipeline.model import JournalConfig, KafkaJournal
from tests.journal_cases import LINES, SOURCE, changes, everything, marker, ordinals, record, watermark, write
from tests.journal_victim import transaction
from tests.kafka_journal_place import Place, content
from tests.kafka_place import Kafka
from tests.nursery import Born
from tests.test_journal_kill import check

_ROOT = Path(__file__).parent.parent
WIDE = TableSchema("wide", (Column("id", "integer", 1, nullable=False), Column("text", "text", 2)), ("id",))


@pytest.fixture
def place(kafka: Kafka, tmp_path: Path) -> Place:
    return Place(kafka, tmp_path)


def test_every_table_of_the_journal_is_told_of(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, "commerce", JournalConfig()) as journal:
        tables = {name for (name,) in journal._db.execute("select name from sqlite_master where type = 'table'")}
    assert tables == {*TABLES, "entry"}


def test_another_folder_holds_what_ingest_committed(place: Place) -> None:
    with place.ingest() as journal:
        journal.mark(marker("start", 1, first=True))
        write(journal, 50)
        journal.quarantine([record(journal.id, journal.next_ordinal)])
        journal.hold(changes(0, 3, schema=LINES))
        journal.note(SOURCE, {"file": "a.csv"})
        write(journal, 20, schema=LINES)
        write(journal, 3, sink="only")
        last = journal.commit(SOURCE, watermark(1000))
        with JournalReader.open(place.folder("here"), "commerce") as here, place.followed("there") as there:
            assert there.last_seq() == last
            assert content(there) == content(here)
            assert ordinals(everything(there)) == [*range(1, 51), *range(52, 72)]  # 51 is in quarantine


def test_what_goes_on_from_quarantine_is_in_another_folder_too_with_the_trail_of_it(place: Place) -> None:
    with place.ingest() as journal:
        write(journal, 5)
        held = record(journal.id, journal.next_ordinal)
        journal.quarantine([held])
        write(journal, 3)
        place.followed("there").close()
        journal.append(changes(held.ordinal, 1), again=True)
        with journal.changing() as db:
            handling.approve(db, [held.ordinal], "bo@example.com")
            for action in ("approve", "replay", "resolved"):
                number = audit_trail.add(db, audit_trail.Step(action, "bo@example.com", held.dataset, [held.ordinal]))
            handling.settle(db, [held.ordinal], "resolved", "delivered", 1.0, number - 1)
        last = journal.commit_beside()
        write(journal, 2)
        with JournalReader.open(place.folder("here"), "commerce") as here, place.followed("there") as there:
            assert content(there) == content(here)
            assert held.ordinal in ordinals(everything(there))
            assert there.last_seq() > last
            for reader in (here, there):
                with reader.view() as (db, _):
                    checked = check_trail(db)
                assert (checked.findings, checked.n) == ([], 4)  # that it came, and how it went on


def test_a_follower_that_was_there_before_comes_to_hold_what_is_new(place: Place) -> None:
    with place.ingest() as journal:
        write(journal, 5)
        place.followed("there").close()
        write(journal, 5)
        list(journal.released(SOURCE, "public.orders", None))
        journal.commit(SOURCE, "x")
        with JournalReader.open(place.folder("here"), "commerce") as here, place.followed("there") as there:
            assert content(there) == content(here)


def test_a_commit_that_comes_while_a_copy_is_made_is_waited_for(place: Place) -> None:
    with place.ingest() as journal:
        write(journal, 5)
        topics = JournalTopics(place.config, "commerce")
        pair = topics.make()
        before = topics.ends(pair)
        write(journal, 5)
        between = {at: end if at[0] == topics.names.state else before[at] for at, end in topics.ends(pair).items()}
        path = place.folder("there") / FILE
        path.parent.mkdir()

        def fill(db: sqlite3.Connection) -> None:
            topics.catch_up(Replica(db, path, topics.names), pair, between)

        store.open_for_writing(path.parent, "commerce", journal.id, fill).close()
        with JournalReader.open(path.parent, "commerce") as reader:
            assert ordinals(everything(reader)) == list(range(1, 11))


def test_an_entry_larger_than_a_message_comes_whole(place: Place) -> None:
    with place.ingest() as journal:
        journal.append(changes(1, 2, schema=WIDE, width=3_000_000))
        journal.hold(changes(0, 2, schema=LINES, width=2_500_000))
        journal.commit(SOURCE, "1")
        with JournalReader.open(place.folder("here"), "commerce") as here, place.followed("there") as there:
            assert content(there) == content(here)
        assert sorted(len(batch) for batch in journal.released(SOURCE, "public.lines", None)) == [2]


def test_nothing_of_what_was_rolled_back_is_there(place: Place) -> None:
    with place.ingest() as journal:
        write(journal, 5)
        journal.append(changes(journal.next_ordinal, 100))
        journal.rollback()
        write(journal, 2)
        with place.followed("there") as there:
            assert ordinals(everything(there)) == list(range(1, 8))


def test_ingest_goes_on_in_another_folder(place: Place) -> None:
    with place.ingest("one") as journal:
        write(journal, 10)
        journal.hold(changes(0, 3))
        journal.commit(SOURCE, watermark(10))
        number = journal.id
    with place.ingest("two") as journal:
        assert journal.id == number
        assert journal.resume(SOURCE).watermark == watermark(10)
        assert journal.next_ordinal == 11
        assert [len(batch) for batch in journal.released(SOURCE, "public.orders", None)] == [3]
        write(journal, 4)
    with place.ingest("one") as journal:
        assert journal.next_ordinal == 15
        with JournalReader.open(place.folder("one"), "commerce") as reader:
            assert ordinals(everything(reader)) == list(range(1, 15))


def test_a_second_ingest_fences_off_the_first(place: Place) -> None:
    with place.ingest("one") as first:
        write(first, 3)
        with place.ingest("two") as second:
            with pytest.raises(AlreadyRunningError, match="fenced"):
                write(first, 3)
            with pytest.raises(AlreadyRunningError, match="fenced"):
                write(first, 1)
            write(second, 2)
        with place.followed("three") as reader:
            assert ordinals(everything(reader)) == [1, 2, 3, 4, 5]


def test_one_folder_has_one_ingest(place: Place) -> None:
    with place.ingest(), pytest.raises(AlreadyRunningError, match="already running"):
        place.ingest()


@pytest.mark.parametrize(
    "made, said",
    [
        ({"changes": {"cleanup_policy": "compact"}}, "--add-config cleanup.policy=delete,retention.ms=-1"),
        ({"changes": {"retention_ms": "-1", "max_message_bytes": "50000"}}, "max.message.bytes=1000000"),
        ({"changes": {"retention_ms": "60000"}}, "retention.ms=-1"),
        ({"state": {}}, "cleanup.policy=compact"),
        ({"state": {"cleanup_policy": "compact"}}, "delete.retention.ms=604800000"),
        ({"state": {"cleanup_policy": "compact,delete"}}, "cleanup.policy=compact"),
    ],
)
def test_topics_made_by_hand_that_would_drop_what_is_in_them_are_refused(
    place: Place, kafka: Kafka, made: dict[str, dict[str, str]], said: str
) -> None:
    for name, settings in made.items():
        kafka.make_topic(4 if name == "changes" else 1, name=f"{kafka.prefix}.commerce.{name}", **settings)
    with pytest.raises(TerminalError, match="cannot be kept in it") as refused:
        place.ingest()
    assert refused.value.hint is not None
    assert said in refused.value.hint


def test_killed_at_each_step_of_a_commit(place: Place) -> None:
    """Just before it, that is: what was committed is whole in every folder, and what was not is nowhere."""
    place.config = KafkaJournal(place.config.bootstrap_servers, place.config.prefix, 1)
    with place.ingest() as journal:
        transaction(journal, 1)
    named = [str(place.folder("here")), place.config.bootstrap_servers, place.config.prefix]
    command = [sys.executable, "-m", "tests.kafka_journal_victim", *named]
    with Born(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        seen: Counter[str] = Counter()
        done = 1
        while (line := process.stdout.readline().strip()) != "through":
            step = line.split(" ", 1)[1]
            seen[step] += 1
            with place.followed("there") as there:
                number = check(there)
            assert number == done + (step in ("the file", "followed")), line
            done = number
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0
    assert set(seen) == {"begin", "send", "commit", "the file", "followed"}
    assert seen["send"] > 8
    with place.ingest() as journal:
        transaction(journal, done + 2)
    for name in ("here", "there", "new"):
        with place.followed(name) as reader:
            assert check(reader) == done + 2
