"""State folders that exchange what processes say of themselves, through a topic of a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from msgspec import msgpack
from structlog.testing import capture_logs

from journal.exchange import LOCK, Exchange, exchange_once
from journal.locks import ProcessLock, is_held
from journal.processes import HEARD, INGEST, Processes, delivering
from journal.quarantine import Wanted
from journal.sharing import SharedRows, Told
from journal.state import State
from journal.topics import JournalTopics
from pipeline.errors import TransientError
from pipeline.model import JournalConfig, KafkaJournal, Pipeline
from tests.fix_kafka import LaunchKafka
from tests.kafka_place import Kafka
from tests.test_shared_state import JOURNAL, progress
from tests.test_state import refused
from tests.waiting import wait_for


class Place:
    """The topics of a pipeline's journal, and machines: folders of one pipeline, with a process that exchanges in each that is opened."""

    def __init__(self, kafka: Kafka, tmp_path: Path, held: ExitStack) -> None:
        self.config = KafkaJournal(kafka.bootstrap_servers, kafka.prefix, 1)
        self.status = f"{kafka.prefix}.commerce.status"
        self._tmp_path = tmp_path
        self._held = held
        self.topics = JournalTopics(self.config, "commerce")
        self.topics.make()

    def folder(self, name: str) -> Path:
        return self._tmp_path / name

    def state(self, name: str) -> State:
        made = State.open(self.folder(name))
        self._held.callback(made.close)
        return made

    def exchange(self, name: str, process: str = INGEST) -> Exchange:
        made = Exchange(self.folder(name), "commerce", self.config, process)
        self._held.callback(made.close)
        return made

    def processes(self, name: str) -> Processes:
        journal = JournalConfig(kafka=self.config)
        return Processes(Pipeline("commerce", Path("shop.yaml"), None, self.folder(name), journal, {}, {}, {}), self.state(name))

    def once(self, name: str, *, tell: bool = False) -> State:
        exchange_once(self.folder(name), "commerce", self.config, tell=tell)
        return self.state(name)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def place(kafka: Kafka, tmp_path: Path, held: ExitStack) -> Place:
    return Place(kafka, tmp_path, held)


def seq(state: State, sink: str) -> Callable[[], int]:
    return lambda: state.sinks()[sink].seq if sink in state.sinks() else 0


def test_what_one_machine_writes_the_others_read(place: Place) -> None:
    here, there = place.state("here"), place.state("there")
    place.exchange("here")
    place.exchange("there", delivering("eu"))
    progress(there, "eu", 7)
    there.keep_refused("eu", [refused(1)], 7)
    there.request_copies("us", ["lines"])
    wait_for(lambda: here.passed(JOURNAL, ["eu"]) == 7, message="what the other machine's sink has")
    wait_for(lambda: here.refused(Wanted()) == there.refused(Wanted()) != [], message="what it refused")
    wait_for(lambda: here.copy_requests() == {"us": {"lines"}}, message="what it asks for")
    here.copies_done("us", ["lines"], here.copy_requested("us", "lines"))
    wait_for(lambda: there.copy_requests() == {}, message="the answer")


def test_rows_larger_than_a_message_come_whole_though_two_tell_at_once(place: Place) -> None:
    first, second, third = (place.state(name) for name in ("first", "second", "third"))
    for name in ("first", "second", "third"):
        place.exchange(name)
    for turn in range(1, 5):
        for state, sink in ((first, "eu"), (second, "us")):
            told = {"state": "running", "error": f"{sink}{turn}" * 700_000, "journal": JOURNAL, "seq": turn, "cursor": "c"}
            state.sink_progress(sink, **told)  # type: ignore[arg-type]
    for state in (first, second, third):
        wait_for(lambda state=state: (seq(state, "eu")(), seq(state, "us")()) == (4, 4), message="both sinks")  # type: ignore[misc]
        assert state.sinks()["eu"].error == "eu4" * 700_000
        assert state.sinks()["us"].error == "us4" * 700_000


def test_where_nothing_runs_a_command_reads_and_tells_once(place: Place) -> None:
    progress(place.state("here"), "eu", 3)
    assert place.once("there").sinks() == {}
    place.once("here", tell=True)
    assert place.once("there").sinks()["eu"].seq == 3
    before = place.topics.ask.written(place.topics.make_status())
    place.once("here", tell=True)
    place.once("there", tell=True)
    assert place.topics.ask.written(place.topics.make_status()) == before


def test_a_state_that_is_lost_comes_back(place: Place) -> None:
    state = place.state("here")
    progress(state, "eu", 3)
    state.keep_refused("eu", [refused(1)], 3)
    place.once("here", tell=True)
    state.close()
    for path in place.folder("here").glob("state.db*"):
        path.unlink()
    found = place.once("here")
    assert found.sinks()["eu"].seq == 3
    assert [record.ordinal for record in found.refused(Wanted())] == [1]


def test_a_folder_that_was_away_for_long_reads_the_topic_whole_and_keeps_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place.state("here")
    progress(here, "eu", 1)
    progress(here, "us", 1)
    place.once("here", tell=True)
    there = place.once("there")
    with closing(SharedRows(place.folder("there"))) as shared:  # a row that was deleted elsewhere so long ago that nothing says so any more
        gone = Told(b'sink ["gone"]', msgpack.encode(["gone", None, 1, None, "running", None, 1.0]), "x", "y", 1)
        shared.take([gone])
    assert set(there.sinks()) == {"eu", "us", "gone"}
    progress(here, "eu", 2)
    place.once("here", tell=True)
    monkeypatch.setattr("journal.status_topic.DELETED_SECONDS", -1)
    assert {name: sink.seq for name, sink in place.once("there").sinks().items()} == {"eu": 2, "us": 1}


def test_a_topic_that_is_lost_comes_back(place: Place, kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journal.exchange._LOOK_EVERY", 0.5)
    here, there = place.state("here"), place.state("there")
    progress(here, "eu", 3)
    progress(there, "us", 4)
    place.exchange("here")
    place.exchange("there")
    wait_for(lambda: seq(here, "us")() == 4 and seq(there, "eu")() == 3, message="both machines to know both sinks")
    kafka.delete_topic(place.status)
    wait_for(lambda: place.status in kafka.topics(), message="the topic to be made again")
    wait_for(lambda: {"eu", "us"} <= set(place.once(f"new{time.monotonic()}").sinks()), message="the topic to hold both again")

    def both_go_on() -> bool:
        """Each process tells how it does again and again; a folder that fills the topic late tells the others' rows as it has them."""
        progress(here, "eu", 30)
        progress(there, "us", 40)
        return seq(here, "us")() == 40 and seq(there, "eu")() == 30

    wait_for(both_go_on, message="both to go on")


def test_one_process_in_a_folder_exchanges_and_the_next_takes_over(place: Place) -> None:
    first = place.exchange("here")
    wait_for(lambda: is_held(place.folder("here"), LOCK), message="one to exchange")
    place.exchange("here", delivering("eu"))
    first.close()
    state = place.state("here")
    progress(state, "eu", 8)
    wait_for(lambda: seq(place.once("there"), "eu")() == 8, message="the other one to tell")


def test_a_process_of_another_machine_counts_as_alive_while_it_is_told_to_be(place: Place) -> None:
    there = place.processes("there")
    with ProcessLock(place.folder("here"), delivering("eu"), "x"), ProcessLock(place.folder("here"), INGEST, "x"):
        exchange = place.exchange("here", delivering("eu"))
        wait_for(lambda: bool(place.once("there").sources() == {}) and there.alive(delivering("eu")), message="the process to be known")
        assert len(there.machines(delivering("eu"))) == 1
        assert there.elsewhere(INGEST)
        assert not there.alive(delivering("us"))
        assert place.processes("here").elsewhere(INGEST) == []
        exchange.close()
        place.once("there")
        assert not there.alive(delivering("eu"))
        assert there.alive(INGEST)


def test_a_process_that_is_not_told_of_any_more_does_not_count(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    there = place.processes("there")
    with ProcessLock(place.folder("here"), INGEST, "x"):
        place.exchange("here", delivering("eu"))
        wait_for(lambda: bool(place.once("there").sources() == {}) and there.alive(INGEST), message="the process to be known")
        now = time.time()
        monkeypatch.setattr("journal.processes.time.time", lambda: now + HEARD + 5)
        assert not there.alive(INGEST)


def test_brokers_that_are_away_hold_nobody_up_and_are_told_later(launch_kafka: LaunchKafka, tmp_path: Path, held: ExitStack) -> None:
    kafka = launch_kafka()
    place = Place(kafka, tmp_path, held)
    here, there = place.state("here"), place.state("there")
    place.exchange("here")
    place.exchange("there")
    progress(here, "eu", 1)
    wait_for(lambda: seq(there, "eu")() == 1, message="both to exchange")
    with capture_logs() as logs:
        kafka.server.kill()
        for n in range(2, 40):
            progress(here, "eu", n)
        wait_for(lambda: len([log for log in logs if log["log_level"] == "warning"]) == 2, message="each to say that the brokers are away")
        with pytest.raises(TransientError):
            place.once("third", tell=True)
        kafka.server.restart()
        wait_for(lambda: seq(there, "eu")() == 39, message="the other to hear what happened meanwhile")
        wait_for(lambda: len(logs) >= 4, message="each to say that they are back")
    assert [log["log_level"] for log in logs] == ["warning", "warning", "info", "info"]
