"""What processes say of themselves: several write at once, others read at any time, and before anything has run all is empty."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from journal.passages import Passage
from journal.quarantine import QuarantineRecord, Reason, Wanted
from journal.state import State
from pipeline.errors import JournalError, TransientError
from tests.journal_cases import record

JOURNAL = "0123456789abcdef"
_ROOT = Path(__file__).parent.parent


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State.open(tmp_path)
    yield made
    made.close()


def settle(state: State, sink: str, seq: int, journal: str = JOURNAL) -> None:
    state.sink_progress(sink, state="running", error=None, journal=journal, seq=seq, cursor=f"cursor {seq}")


def refused(ordinal: int, sink: str = "eu", **other: object) -> QuarantineRecord:
    made = record(JOURNAL, ordinal, sink=sink)
    return structs.replace(made, reasons=(Reason("sink", "amount", "out of range", None),), **other)


def test_before_anything_has_run_all_is_empty_and_no_file_is_made(tmp_path: Path) -> None:
    state = State.open(tmp_path / "not yet")
    assert state.sources() == {}
    assert state.sinks() == {}
    assert state.passed(JOURNAL, ["eu"]) is None
    assert state.copy_requests() == {}
    assert state.refused(Wanted()) == []
    assert state.refused_record("x") is None
    assert state.refused_causes() == []
    assert state.open_refused() == {}
    assert state.refused_keys("eu", "orders") == []
    state.forget_refused("eu", 0)
    state.close()
    assert not (tmp_path / "not yet").exists()


def test_the_status_of_a_source_is_the_last_that_it_told(state: State) -> None:
    state.source_status("portal", {"state": "copying", "lag_bytes": None, "tables": {"public.orders": {"state": "copying"}}})
    first = state.sources()["portal"].updated_at
    state.source_status("portal", {"state": "streaming", "lag_bytes": 56})
    assert state.sources() == {"portal": {"state": "streaming", "lag_bytes": 56}}
    assert state.sources()["portal"].updated_at >= first > 1_700_000_000


def test_a_sink_that_is_away_keeps_what_was_known_of_its_target(state: State) -> None:
    state.sink_progress("eu", state="starting", error=None, journal="", seq=0, cursor=None)
    assert (state.sinks()["eu"].cursor, state.sinks()["eu"].seq) == (None, 0)
    settle(state, "eu", 7)
    state.sink_progress("eu", state="retrying", error="connection refused", journal="", seq=0, cursor=None)
    found = state.sinks()["eu"]
    assert (found.state, found.error, found.seq, found.cursor, found.journal) == ("retrying", "connection refused", 7, "cursor 7", JOURNAL)


def test_what_all_sinks_have_passed_is_known_only_once_all_have_said_so(state: State) -> None:
    settle(state, "eu", 7)
    assert state.passed(JOURNAL, ["eu"]) == 7
    assert state.passed(JOURNAL, ["eu", "us"]) is None
    settle(state, "us", 5)
    assert state.passed(JOURNAL, ["eu", "us"]) == 5
    assert state.passed(JOURNAL, ["eu"]) == 7
    assert state.passed(JOURNAL, []) is None


def test_what_a_sink_said_of_another_journal_counts_for_nothing(state: State) -> None:
    settle(state, "eu", 1000, journal="another")
    assert state.passed(JOURNAL, ["eu"]) is None


def test_a_copy_is_asked_for_until_it_is_done(state: State) -> None:
    state.request_copies("eu", ["orders", "lines"])
    state.request_copies("eu", ["orders"])
    state.request_copies("us", ["orders"])
    assert state.copy_requests() == {"eu": {"orders", "lines"}, "us": {"orders"}}
    state.copies_done("eu", ["orders"])
    assert state.copy_requests() == {"eu": {"lines"}, "us": {"orders"}}
    state.request_copies("eu", ["orders"])
    assert state.copy_requests()["eu"] == {"orders", "lines"}
    state.copies_done("eu", ["orders", "lines", "unknown"])
    state.copies_done("us", ["orders"])
    assert state.copy_requests() == {}


def test_refused_rows_count_once_the_sink_has_passed_them(state: State) -> None:
    settle(state, "eu", 9)
    state.keep_refused("eu", [refused(40), refused(41)], 10)
    assert state.open_refused() == {}
    assert state.refused_record(refused(40).id) is None
    settle(state, "eu", 10)
    assert state.refused(Wanted()) == [refused(40), refused(41)]
    assert state.refused_record(refused(41).id) == refused(41)
    assert state.open_refused() == {("eu", "orders"): 2}
    assert state.refused_keys("eu", "orders") == [{"id": "40"}, {"id": "41"}]
    assert state.refused_keys("us", "orders") == []


def test_refused_rows_that_are_told_again_are_there_once(state: State) -> None:
    state.keep_refused("eu", [refused(40)], 12)
    again = structs.replace(refused(40), reasons=(Reason("sink", "amount", "still out of range", None),))
    state.keep_refused("eu", [again], 10)
    settle(state, "eu", 10)
    assert state.refused(Wanted()) == [again]


def test_rows_that_were_refused_but_not_committed_may_be_taken_when_they_come_again(state: State) -> None:
    settle(state, "eu", 9)
    state.keep_refused("eu", [refused(30)], 9)
    state.keep_refused("eu", [refused(40)], 10)
    state.keep_refused("us", [refused(40, "us")], 10)
    state.forget_refused("eu", 9)
    settle(state, "eu", 20)
    settle(state, "us", 20)
    assert [one.id for one in state.refused(Wanted())] == [refused(30).id, refused(40, "us").id]


def test_rows_refused_from_another_journal_count_for_nothing(state: State) -> None:
    state.keep_refused("eu", [refused(40)], 10)
    settle(state, "eu", 500, journal="fedcba98")
    assert state.refused(Wanted()) == []


def test_refused_rows_are_listed_in_pages(state: State) -> None:
    for sink in ("eu", "us"):
        settle(state, sink, 100)
        state.keep_refused(sink, [refused(ordinal, sink) for ordinal in range(1, 51)], 7)
    found: list[QuarantineRecord] = []
    while page := state.refused(Wanted(dataset="orders"), (found[-1].ordinal, found[-1].id) if found else (0, ""), 7):
        found += page
    assert [(one.ordinal, one.sink) for one in found] == [(n, sink) for n in range(1, 51) for sink in ("eu", "us")]
    group = refused(1, "us").group
    assert {one.sink for one in state.refused(Wanted(group=group))} == {"us"}
    assert state.refused(Wanted(status="resolved")) == []


def test_causes_of_refusals_are_counted_for_each_sink(state: State) -> None:
    settle(state, "eu", 100)
    settle(state, "us", 100)
    state.keep_refused("eu", [refused(1)], 1)
    state.keep_refused("us", [refused(1, "us"), refused(2, "us"), refused(3, "us", status="resolved")], 1)
    state.keep_refused("us", [refused(9, "us")], 101)
    causes = state.refused_causes("orders")
    assert [(cause.sink, cause.records, cause.reason.message, cause.pattern) for cause in causes] == [
        ("us", 2, "out of range", "null"),
        ("eu", 1, "out of range", "null"),
    ]
    assert causes[0].group == refused(1, "us").group
    assert state.refused_causes("lines") == []


_WRITER = """
import sys
from pathlib import Path
from journal.state import State
state = State.open(Path(sys.argv[1]))
for n in range(60):
    state.sink_progress(sys.argv[2], state="running", error=None, journal="j", seq=n, cursor=f"at {n}")
    state.request_copies(sys.argv[2], [f"d{n}"])
state.close()
"""


def test_several_processes_write_at_once(tmp_path: Path, state: State) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), f"s{n}"], cwd=_ROOT) for n in range(3)]
    for n in range(60):
        state.source_status("portal", {"n": n})
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert {name: found.seq for name, found in state.sinks().items()} == {"s0": 59, "s1": 59, "s2": 59}
    assert {name: len(datasets) for name, datasets in state.copy_requests().items()} == {"s0": 60, "s1": 60, "s2": 60}
    assert state.sources()["portal"] == {"n": 59}
    assert [path.name for path in tmp_path.glob("*.new*")] == []


def test_several_threads_write_at_once(state: State) -> None:
    def work(name: str) -> None:
        for n in range(30):
            state.source_status(name, {"n": n})
            assert state.sources()[name]["n"] == n

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: found["n"] for name, found in state.sources().items()} == {f"t{n}": 29 for n in range(4)}


def test_a_folder_with_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% of it?mode=ro#é x"
    state = State.open(folder)
    settle(state, "eu", 1)
    state.close()
    assert (folder / "state.db").exists()


def test_a_damaged_file_is_named_with_a_way_out(tmp_path: Path, state: State) -> None:
    (tmp_path / "state.db").write_bytes(b"this is not it" * 1000)
    for act in (lambda: state.sources(), lambda: settle(state, "eu", 1)):
        with pytest.raises(JournalError, match=r"state\.db is damaged") as raised:
            act()
        assert "move this one file away" in str(raised.value.hint)


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path, state: State) -> None:
    settle(state, "eu", 1)
    state.close()
    db = sqlite3.connect(tmp_path / "state.db")
    db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="newer"):
        State.open(tmp_path).sinks()


def test_a_file_that_is_locked_for_long_is_trouble_that_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journal.state_file._PATIENCE", 0.05)
    state = State.open(tmp_path)
    settle(state, "eu", 1)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(TransientError, match="locked"):
        settle(state, "eu", 2)
    assert state.sinks()["eu"].seq == 1
    other.execute("rollback")
    settle(state, "eu", 2)
    assert state.sinks()["eu"].seq == 2
    other.close()
    state.close()


def test_who_asks_while_a_copy_is_being_made_gets_another_one(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    assert state.copy_requested("eu", "orders") is None
    state.request_copies("eu", ["orders"])
    begun = state.copy_requested("eu", "orders")
    assert begun is not None
    state.request_copies("eu", ["orders"])
    state.copies_done("eu", ["orders"], begun)
    assert state.copy_requests() == {"eu": frozenset({"orders"})}
    state.copies_done("eu", ["orders"], state.copy_requested("eu", "orders"))
    assert state.copy_requests() == {}
    state.close()


def test_a_sink_that_waits_is_heard_though_the_request_was_lost(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state.request_copies("eu", ["orders"])
    state.copies_done("eu", ["orders"])
    state.remind_of_copies("eu", ["orders", "lines"])  # the copy of orders is made already, and on its way to the sink
    assert state.copy_requests() == {"eu": frozenset({"lines"})}
    state.close()


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path, state: State) -> None:
    settle(state, "eu", 1)
    state.keep_refused("eu", [refused(1)], 1)
    state.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        for table in ("copy_done", "folder", "own", "passed", "copy_request"):
            db.execute(f"drop table {table}")
        db.execute(
            "create table copy_request (sink text not null, dataset text not null, requested_at float not null, done_at float,"
            " primary key (sink, dataset))"
        )
        db.execute("insert into copy_request values ('eu', 'orders', 1.5, 2.5), ('eu', 'lines', 3.5, null)")
        db.execute("pragma user_version = 1")
        db.commit()
    with closing(State.open(tmp_path)) as newer:
        assert newer.copy_requests() == {"eu": {"lines"}}
        assert newer.sinks()["eu"].seq == 1
        assert len(newer.refused(Wanted())) == 1
        assert newer.elsewhere() == []
        assert newer.passages("eu", JOURNAL) == []
        told = {"state": "running", "error": None, "journal": JOURNAL, "seq": 2, "cursor": "c"}
        newer.sink_progress("eu", **told, passage=Passage(2, 1.0, 2), oldest=1)  # type: ignore[arg-type]
        assert [one.seq for one in newer.passages("eu", JOURNAL)] == [2]
        newer.request_copies("eu", ["orders"])
        newer.copies_done("eu", ["lines"])
        assert newer.copy_requests() == {"eu": {"orders"}}


def test_the_log_of_a_file_that_was_moved_away_is_not_taken_for_that_of_the_next(tmp_path: Path, state: State) -> None:
    settle(state, "eu", 1)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as killed:  # as kill -9 leaves it, with its log
        killed.execute("update sink set seq = 2")
        (tmp_path / "state.db").rename(tmp_path / "old.db")
        with closing(State.open(tmp_path)) as fresh:
            settle(fresh, "us", 3)
            assert set(fresh.sinks()) == {"us"}
