"""Rows that state folders share: what changes in one comes to all, in the order of a topic that is a list here."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.alerting import AlertBook, Kept, Message
from journal.sharing import Place, SharedRows, Told
from journal.state import EVERY_SINK, State

JOURNAL = "0123456789abcdef"
TOPIC = "topic"
NOWHERE = Place("", 0, 0, 0.0)


class Folder:
    """A state folder, and how far it is with the topic."""

    def __init__(self, path: Path, topic: list[Told]) -> None:
        self.path = path
        self.topic = topic
        self.state = State.open(path)
        self.begin()

    def begin(self) -> None:
        """As a process does that begins to exchange."""
        self.shared = SharedRows(self.path)
        self._sent = 0

    def die(self) -> None:
        self.shared.close()

    def tell(self, limit: int = 100) -> None:
        for version, name, content in self.shared.changes(self._sent, limit):
            self.topic.append(Told(name, content, self.shared.folder, self.shared.session, version))
            self._sent = version

    def hear(self, limit: int = 100) -> None:
        place = self.shared.place
        told = 0 if place is None else place.told
        rows = self.topic[told : told + limit]
        self.shared.take(rows, Place(TOPIC, told + len(rows), told + len(rows), 0.0))

    def content(self) -> dict[str, list[Any]]:
        with sqlite3.connect(self.path / "state.db") as db:
            tables = ("source", "sink", "copy_request", "copy_done", "refused", "passed", "folder")
            return {table: sorted(db.execute(f"select * from {table}").fetchall()) for table in tables}

    def close(self) -> None:
        self.shared.close()
        self.state.close()


@contextmanager
def folders(path: Path, number: int = 2) -> Iterator[tuple[list[Folder], list[Told]]]:
    topic: list[Told] = []
    made = [Folder(path / str(n), topic) for n in range(number)]
    yield made, topic
    for folder in made:
        folder.close()


def settle(made: list[Folder]) -> None:
    while any(folder.shared.open or (folder.shared.place or NOWHERE).told < len(folder.topic) for folder in made):
        for folder in made:
            folder.tell()
            folder.hear()


def progress(state: State, sink: str, seq: int) -> None:
    state.sink_progress(sink, state="running", error=None, journal=JOURNAL, seq=seq, cursor=f"cursor {seq}")


def test_what_one_machine_has_told_owners_another_knows_when_it_takes_over(tmp_path: Path) -> None:
    with folders(tmp_path) as ((here, there), _), closing(AlertBook.open(here.path)) as mine, closing(AlertBook.open(there.path)) as theirs:
        sent, unsent = (Message.new("desk", {}, {"version": 1, "title": title}, 1.0) for title in ("sent", "unsent"))
        kept = Kept("stopped/sink/eu", "told", 1.0, "{}", told_at=2.0)
        mine.decided([kept], [], [sent, unsent])
        mine.sent(sent)
        settle([here, there])
        assert theirs.known() == {kept.key: kept}
        assert [message.id for message in theirs.unsent("desk")] == [unsent.id]
        theirs.decided([], [kept.key], [])
        settle([here, there])
        assert mine.known() == {}


def test_what_changes_in_one_folder_comes_to_the_other_and_is_not_told_again(tmp_path: Path) -> None:
    with folders(tmp_path) as ((here, there), topic):
        progress(here.state, "eu", 7)
        here.state.source_status("portal", {"state": "streaming"})
        settle([here, there])
        assert there.state.sinks()["eu"].seq == 7
        assert there.state.passed(JOURNAL, ["eu"]) == 7
        told = len(topic)
        settle([here, there])
        assert len(topic) == told


def test_rows_that_are_deleted_go_everywhere(tmp_path: Path) -> None:
    from tests.test_state import refused

    with folders(tmp_path) as ((here, there), _):
        progress(here.state, "eu", 9)
        here.state.keep_refused("eu", [refused(1), refused(2)], 5)
        settle([here, there])
        assert there.state.open_refused() == {("eu", "orders"): 2}
        here.state.forget_refused("eu", 0)
        settle([here, there])
        assert there.state.open_refused() == {}


def test_of_two_who_write_one_row_the_later_in_the_topic_wins_in_both(tmp_path: Path) -> None:
    with folders(tmp_path) as ((here, there), _):
        progress(here.state, "eu", 1)
        progress(there.state, "eu", 2)
        there.tell()
        here.hear()
        assert here.state.sinks()["eu"].seq == 1
        settle([here, there])
        assert here.content() == there.content()
        assert here.state.sinks()["eu"].seq == 1


def test_what_was_told_but_not_heard_of_when_a_process_died_is_told_again(tmp_path: Path) -> None:
    with folders(tmp_path) as ((here, there), topic):
        progress(here.state, "eu", 1)
        here.shared.changes(0, 10)  # handed to a client that dies with its process
        here.die()
        here.begin()
        settle([here, there])
        assert there.state.sinks()["eu"].seq == 1
        assert len(topic) == 1


def test_what_a_dead_process_said_of_its_sink_gives_way_to_who_speaks_of_it_now(tmp_path: Path) -> None:
    with folders(tmp_path) as ((here, there), _):
        progress(here.state, "eu", 1)
        here.die()
        progress(there.state, "eu", 5)
        settle([there])
        here.begin()
        here.hear()
        assert here.state.sinks()["eu"].seq == 5
        settle([here, there])
        assert there.state.sinks()["eu"].seq == 5


def test_an_answer_takes_away_no_request_that_came_since(tmp_path: Path) -> None:
    """The sink's machine asks again just when ingest's answers what was asked before."""
    with folders(tmp_path) as ((ingest, sink), _):
        for order in itertools.permutations((ingest.tell, ingest.hear, sink.tell, sink.hear)):
            sink.state.request_copies("eu", ["orders"])
            settle([ingest, sink])
            requested = ingest.state.copy_requested("eu", "orders")
            sink.state.request_copies("eu", ["orders"])
            ingest.state.copies_done("eu", ["orders"], requested)
            for step in order:
                step()
            settle([ingest, sink])
            assert ingest.state.copy_requests() == sink.state.copy_requests() == {"eu": {"orders"}}
            ingest.state.copies_done("eu", ["orders"], ingest.state.copy_requested("eu", "orders"))
            settle([ingest, sink])
            assert ingest.state.copy_requests() == sink.state.copy_requests() == {}


def test_an_old_copy_of_a_folder_takes_no_request_away(tmp_path: Path) -> None:
    """A topic that is lost is filled by a folder that knows less."""
    with folders(tmp_path) as ((stale, sink), topic):
        sink.state.request_copies("eu", ["orders"])
        settle([stale, sink])
        sink.state.copies_done("eu", ["orders"])
        settle([stale, sink])
        sink.state.request_copies("eu", ["orders"])
        sink.tell()
        sink.hear()
        topic.clear()
        for folder in (stale, sink):
            folder.shared.adopt(Place("another", 0, 0, 0.0), ())
            folder.die()
            folder.begin()
        stale.tell()
        sink.hear()
        settle([stale, sink])
        assert stale.state.copy_requests() == sink.state.copy_requests() == {"eu": {"orders"}}


def test_a_new_topic_gets_what_it_lacks_and_nothing_twice(tmp_path: Path) -> None:
    with folders(tmp_path) as ((here, there), topic):
        progress(here.state, "eu", 7)
        progress(there.state, "us", 8)
        settle([here, there])
        names = {told.name for told in topic}
        topic.clear()
        here.shared.adopt(Place("another", 0, 0, 0.0), set())
        here.tell()
        assert {told.name for told in topic} == names
        there.shared.adopt(Place("another", 0, 0, 0.0), {told.name for told in topic})
        assert not there.shared.open


def test_a_folder_that_was_away_for_too_long_holds_nothing_that_is_gone(tmp_path: Path) -> None:
    with folders(tmp_path) as ((here, there), topic):
        progress(here.state, "eu", 7)
        progress(here.state, "us", 7)
        settle([here, there])
        progress(there.state, "own", 1)
        there.shared.keep_only(Place(TOPIC, len(topic), len(topic), 0.0), {b'sink ["us"]'})
        assert set(there.state.sinks()) == {"us", "own"}
        there.tell()
        assert [told.name for told in topic if told.folder == there.shared.folder] == [b'sink ["own"]']


def test_a_folder_that_was_copied_is_another_one(tmp_path: Path) -> None:
    import shutil

    with folders(tmp_path, 1) as ((here,), _):
        shutil.copytree(here.path, tmp_path / "copy")
        other = SharedRows(tmp_path / "copy")
        assert other.folder != here.shared.folder
        other.close()
        here.die()
        before = here.shared.folder
        here.begin()
        assert here.shared.folder == before


def test_what_another_version_tells_is_passed_over(tmp_path: Path) -> None:
    import msgspec

    with folders(tmp_path, 1) as ((here,), topic):
        odd = [
            Told(b"nonsense", b"\x90", "x", "y", 1),
            Told(b'shelf ["a"]', msgspec.msgpack.encode(["a"]), "x", "y", 2),
            Told(b'sink ["eu"]', msgspec.msgpack.encode(["eu"]), "x", "y", 3),
            Told(b'sink ["eu"]', b"\xc1", "x", "y", 4),
            Told(b'sink ["eu"]', msgspec.msgpack.encode(["eu", None, None, None, None, None, None]), "x", "y", 5),
            Told(b"\xff\xfe", b"\x90", "x", "y", 6),
            Told(b'source ["portal"]', msgspec.msgpack.encode(["portal", "{}", 1.0]), "x", "y", 7),
        ]
        topic += odd
        here.hear()
        assert list(here.state.sources()) == ["portal"]
        assert here.state.sinks() == {}


_ACTS = st.one_of(
    st.tuples(st.just("sink"), st.sampled_from(["eu", "us"]), st.integers(1, 99)),
    st.tuples(st.just("ask"), st.sampled_from(["eu", EVERY_SINK]), st.just(0)),
    st.tuples(st.just("answer"), st.sampled_from(["eu", EVERY_SINK]), st.just(0)),
    st.tuples(st.just("refuse"), st.sampled_from(["eu", "us"]), st.integers(1, 4)),
    st.tuples(st.just("forget"), st.sampled_from(["eu", "us"]), st.integers(0, 4)),
    st.tuples(st.sampled_from(["tell", "hear"]), st.just(""), st.integers(1, 3)),
    st.tuples(st.just("die"), st.just(""), st.just(0)),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), _ACTS), max_size=30))
def test_whatever_happens_in_whatever_order_all_folders_come_to_hold_the_same(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[int, tuple[str, str, int]]]
) -> None:
    from tests.test_state import refused

    with folders(tmp_path_factory.mktemp("folders"), 3) as (made, _):
        for number, (act, sink, value) in acts:
            folder = made[number]
            match act:
                case "sink":
                    progress(folder.state, sink, value)
                case "ask":
                    folder.state.request_copies(sink, ["orders"])
                case "answer":
                    folder.state.copies_done(sink, ["orders"])
                case "refuse":
                    folder.state.keep_refused(sink, [refused(value, sink)], value)
                case "forget":
                    folder.state.forget_refused(sink, value)
                case "tell":
                    folder.tell(value)
                case "hear":
                    folder.hear(value)
                case "die":
                    folder.die()
                    folder.begin()
        settle(made)
        assert made[0].content() == made[1].content() == made[2].content()
