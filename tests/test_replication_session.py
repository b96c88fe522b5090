"""A replication session: who is heard when, what breaks it, and as which error."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from examples.embedded_postgres import EmbeddedPostgres
from journal.schema import TableSchema
from pipeline.errors import AlreadyRunningError, Refused, SlotLostError, SluiceError, TransientError
from sources.postgres import reader
from sources.postgres.errors import from_postgres
from sources.postgres.relation import Relation
from tests.fix_postgres import PASSWORD, Database, Launch
from tests.streaming import PATIENCE, Follower, confirmed, hurry, position, publish
from tests.waiting import wait_for


@pytest.fixture
def slot(database: Database) -> str:
    """A slot, and a published table `t` (id, note)."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
    return publish(database, "TABLE t")


def ids(follower: Follower) -> list[int]:
    return [int(change.values["id"]) for change in follower.table("t")]


@pytest.fixture
def chatty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feedback goes out every quarter of a second, while the server has its ordinary patience."""
    monkeypatch.setattr(reader, "_LONGEST_RHYTHM", 0.25)


def wait_until_confirmed(database: Database, slot: str, lsn: int) -> None:
    wait_for(lambda: confirmed(database, slot) >= lsn, message="the server to know what is confirmed")


# What is confirmed ----------------------------------------------------------------------------------------------------------------


def test_trap_02_what_was_confirmed_is_the_end_of_the_commit_and_never_comes_again(database: Database, slot: str, tmp_path: Path) -> None:
    last = 0
    for key in range(1, 4):
        database.execute(f"INSERT INTO t VALUES ({key})")
        with Follower(database, slot, tmp_path, start=last or None) as follower:
            received = follower.catch_up(confirm=True)
            assert ids(follower) == [key]
            last = received.last_end or 0
            assert last > follower.table("t")[0].lsn
        wait_until_confirmed(database, slot, last)


@pytest.mark.usefixtures("chatty")
def test_trap_04_nothing_is_acknowledged_that_was_not_confirmed(database: Database, slot: str, tmp_path: Path) -> None:
    before = confirmed(database, slot)
    with Follower(database, slot, tmp_path) as follower:
        database.execute("INSERT INTO t VALUES (1)")
        received = follower.catch_up()
        for _ in range(3):  # feedback goes out all the time
            follower.wait_for_reply()
        assert confirmed(database, slot) == before
        assert received.last_end is not None
        follower.stream.confirm(received.last_end)
        assert wait_for(lambda: confirmed(database, slot) == received.last_end)
    assert follower.stream.confirmed_lsn == received.last_end


@pytest.mark.usefixtures("chatty")
def test_trap_05_write_flush_and_apply_are_the_confirmed_position_and_never_go_back(database: Database, slot: str, tmp_path: Path) -> None:
    database.execute("INSERT INTO t VALUES (1)")
    with Follower(database, slot, tmp_path) as follower:
        end = follower.catch_up().last_end
        assert end is not None
        follower.stream.confirm(end)
        follower.stream.confirm(end - 8)
        query = "SELECT write_lsn - '0/0', flush_lsn - '0/0', replay_lsn - '0/0' FROM pg_stat_replication WHERE pid = " + str(
            follower.walsender()
        )
        assert wait_for(lambda: database.rows(query) == [(end, end, end)])
        follower.wait_for_reply()
        assert database.rows(query) == [(end, end, end)]


def test_trap_08_what_the_server_sends_again_from_before_the_start_is_dropped(database: Database, slot: str, tmp_path: Path) -> None:
    database.execute("INSERT INTO t VALUES (1)")
    middle = position(database)
    database.execute("INSERT INTO t VALUES (2)")
    with Follower(database, slot, tmp_path, start=middle) as follower:
        follower.catch_up()
    assert ids(follower) == [2]


@pytest.mark.usefixtures("chatty")
def test_trap_09_a_late_confirmation_does_not_reach_into_what_this_session_has_not_given(
    database: Database, slot: str, tmp_path: Path
) -> None:
    before = confirmed(database, slot)
    database.execute("INSERT INTO t VALUES (1)")
    with Follower(database, slot, tmp_path) as follower:
        follower.stream.confirm(position(database) + 1_000_000)
        follower.wait_for_reply()
        assert confirmed(database, slot) == before
        follower.catch_up()
    assert ids(follower) == [1]


def test_trap_28_while_other_tables_are_written_the_slot_moves_on(database: Database, slot: str, tmp_path: Path) -> None:
    database.execute("CREATE TABLE other (id int)")
    with Follower(database, slot, tmp_path) as follower:
        database.execute("INSERT INTO other SELECT generate_series(1, 1000)")
        written = position(database)
        follower.until(lambda: confirmed(database, slot) >= written, confirm=True)
        idle = [stretch for stretch in follower.received.stretches if not stretch.batches]
        assert idle
        assert follower.stream.server_lsn >= written
    assert follower.received.changes == {}


# Keeping the session alive --------------------------------------------------------------------------------------------------------


def test_trap_06_feedback_goes_on_while_nobody_takes_and_the_queue_is_full(database: Database, slot: str, tmp_path: Path) -> None:
    hurry(database)
    before = confirmed(database, slot)
    database.execute("INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")
    with Follower(database, slot, tmp_path, queue_bytes=4 << 20) as follower:
        pid = follower.walsender()
        wait_for(lambda: follower.stream.bytes_read > 1_900_000, message="the queue to fill")
        follower.outlive_patience(taking=False)
        assert follower.stream.bytes_read < 5_000_000, "the queue is not bounded"
        assert follower.walsender() == pid
        assert confirmed(database, slot) == before
        follower.catch_up()
    assert ids(follower) == list(range(1, 20_001))


def test_trap_06_an_idle_session_outlives_wal_sender_timeout(database: Database, slot: str, tmp_path: Path) -> None:
    hurry(database)
    with Follower(database, slot, tmp_path) as follower:
        pid = follower.walsender()
        follower.outlive_patience(taking=True)
        database.execute("INSERT INTO t VALUES (1)")
        follower.catch_up()
        assert follower.walsender() == pid
    assert ids(follower) == [1]


@pytest.mark.parametrize("postgres", [18], indirect=True, ids=["pg18"])
def test_trap_30_a_server_that_falls_silent_is_taken_for_dead(database: Database, slot: str, tmp_path: Path) -> None:
    hurry(database)
    with Follower(database, slot, tmp_path) as follower:
        database.execute("INSERT INTO t VALUES (1)")
        follower.catch_up()
        pid = follower.walsender()
        os.kill(pid, signal.SIGSTOP)
        try:
            error = follower.until_broken()
            assert time.monotonic() - follower.stream.last_message_time > PATIENCE
        finally:
            os.kill(pid, signal.SIGCONT)
    assert isinstance(error, TransientError)
    assert f"not a word for {PATIENCE} s" in error.message
    assert ids(follower) == [1]


def test_a_new_session_finds_the_slot_free_at_once(database: Database, slot: str, tmp_path: Path) -> None:
    for key in range(5):
        with Follower(database, slot, tmp_path) as follower:
            database.execute(f"INSERT INTO t VALUES ({key})")
            follower.catch_up(confirm=True)
        wait_for(lambda: not database.rows("SELECT FROM pg_replication_slots WHERE active AND slot_name = current_database()"))


def test_a_server_that_is_stopped_waits_for_what_is_confirmed_and_then_ends_the_session(launch_postgres: Launch, tmp_path: Path) -> None:
    server: EmbeddedPostgres = launch_postgres(15)
    database = Database(server, "postgres")
    database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
    slot = publish(database, "TABLE t")
    with Follower(database, slot, tmp_path) as follower:
        database.execute("INSERT INTO t SELECT g FROM generate_series(1, 1000) g")
        follower.catch_up(confirm=True)
        os.kill(server.pid or 0, signal.SIGINT)  # a fast shutdown
        with pytest.raises(TransientError) as raised:
            follower.until(lambda: False, confirm=True)
        wait_for(lambda: server.pid is None, message="the server to stop")
    assert "ended the replication session" in raised.value.message or "is gone" in raised.value.message
    assert ids(follower) == list(range(1, 1001))


def test_a_killed_walsender_is_a_passing_failure_and_what_came_before_it_is_given(database: Database, slot: str, tmp_path: Path) -> None:
    with Follower(database, slot, tmp_path) as follower:
        database.execute("INSERT INTO t VALUES (1)")
        wait_for(lambda: follower.stream.server_lsn >= position(database) or follower.stream.bytes_read > 300)
        database.execute(f"SELECT pg_terminate_backend({follower.walsender()})")
        error = follower.until_broken()
    assert type(error) is TransientError
    assert "57P01" in error.message
    assert ids(follower) == [1]


def test_a_crashed_server_is_a_passing_failure(launch_postgres: Launch, tmp_path: Path) -> None:
    server = launch_postgres(18)
    database = Database(server, "postgres")
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = publish(database, "TABLE t")
    with Follower(database, slot, tmp_path) as follower:
        server.stop("immediate")
        assert isinstance(follower.until_broken(), TransientError)


# What start refuses ---------------------------------------------------------------------------------------------------------------


def start_fails(follower: Follower) -> SluiceError:
    with pytest.raises(SluiceError) as raised, follower:
        pass
    assert PASSWORD not in str(raised.value)
    return raised.value


def test_trap_07_a_slot_that_stands_beyond_the_start_is_a_gap(database: Database, slot: str, tmp_path: Path) -> None:
    start = confirmed(database, slot)
    database.execute("INSERT INTO t VALUES (1)", f"SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())")
    error = start_fails(Follower(database, slot, tmp_path, start=start))
    assert isinstance(error, SlotLostError)
    assert "beyond" in error.message


def test_trap_11_a_slot_that_another_session_reads(database: Database, slot: str, tmp_path: Path) -> None:
    with Follower(database, slot, tmp_path / "one"):
        error = start_fails(Follower(database, slot, tmp_path / "two"))
    assert isinstance(error, AlreadyRunningError)


def test_trap_11_a_slot_that_is_gone(database: Database, slot: str, tmp_path: Path) -> None:
    start = confirmed(database, slot)
    database.execute(f"SELECT pg_drop_replication_slot('{slot}')")
    error = start_fails(Follower(database, slot, tmp_path, start=start))
    assert isinstance(error, SlotLostError)
    assert error.hint is not None
    assert "resync" in error.hint


@pytest.mark.parametrize("version", [15, 18])
def test_trap_11_a_slot_whose_log_has_been_removed(launch_postgres: Launch, tmp_path: Path, version: int) -> None:
    server = launch_postgres(version, settings={"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"})
    database = Database(server, "postgres")
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = publish(database, "TABLE t")
    start = confirmed(database, slot)
    for _ in range(6):
        database.execute("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t", "SELECT pg_switch_wal()", "CHECKPOINT")
    assert database.rows("SELECT wal_status FROM pg_replication_slots") == [("lost",)]
    assert isinstance(start_fails(Follower(database, slot, tmp_path, start=start)), SlotLostError)


def test_a_wrong_password_is_refused_and_not_repeated(database: Database, slot: str, tmp_path: Path) -> None:
    dsn = database.server.dsn_for(database.name, password=PASSWORD + "x")
    error = start_fails(Follower(database, slot, tmp_path, dsn=dsn))
    assert isinstance(error, Refused)
    assert "password" in str(error)


def test_a_database_that_does_not_exist_is_refused(database: Database, slot: str, tmp_path: Path) -> None:
    assert isinstance(start_fails(Follower(database, slot, tmp_path, dsn=database.server.dsn_for("nowhere"))), Refused)


def test_a_user_who_may_not_replicate_is_refused(database: Database, slot: str, tmp_path: Path) -> None:
    database.execute(f"CREATE ROLE plain_{database.name} LOGIN PASSWORD 'some words'")
    try:
        dsn = database.server.dsn_for(database.name, user=f"plain_{database.name}", password="some words")
        error = start_fails(Follower(database, slot, tmp_path, dsn=dsn))
    finally:
        database.execute(f"DROP ROLE plain_{database.name}")
    assert isinstance(error, Refused)
    assert "some words" not in str(error)


def test_a_server_that_is_away_may_come_back(database: Database, slot: str, tmp_path: Path) -> None:
    start = confirmed(database, slot)
    dsn = f"host=127.0.0.1 port=1 user=u dbname=d password={PASSWORD}"
    assert isinstance(start_fails(Follower(database, slot, tmp_path, dsn=dsn, start=start)), TransientError)


@pytest.mark.parametrize(
    "sqlstate, kind",
    [
        ("28P01", Refused),
        ("28000", Refused),
        ("3D000", Refused),
        ("42501", Refused),
        ("42P01", Refused),
        ("57P01", TransientError),
        ("57P03", TransientError),
        ("08006", TransientError),
        ("53300", TransientError),
        ("53100", TransientError),
        ("40P01", TransientError),
        ("55P03", TransientError),
        ("XX000", TransientError),
        (None, TransientError),
        ("55006", AlreadyRunningError),
        ("55000", SlotLostError),
        ("42704", SlotLostError),
        ("58P01", SlotLostError),
    ],
)
def test_a_sqlstate_decides_what_happens_next(sqlstate: str | None, kind: type[SluiceError]) -> None:
    error = from_postgres(sqlstate, "was passiert ist\n", "db.example.com:5432/shop", slot="s")
    assert type(error) is kind
    assert error.message.startswith("db.example.com:5432/shop: was passiert ist")
    assert sqlstate is None or sqlstate in error.message


@pytest.mark.parametrize("sqlstate", ["55000", "42704"])
def test_without_a_slot_the_same_codes_are_a_refusal(sqlstate: str) -> None:
    assert type(from_postgres(sqlstate, "no", "server")) is Refused


def test_over_a_unix_socket_the_same_changes_arrive(database: Database, slot: str, tmp_path: Path) -> None:
    database.execute("INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 20000) g")
    dsn = f"host={database.server.socket_directory} port={database.server.port} user=postgres dbname={database.name}"
    with Follower(database, slot, tmp_path, dsn=dsn) as follower:
        follower.catch_up()
    assert ids(follower) == list(range(1, 20_001))


def test_after_a_change_could_not_be_decoded_none_is_left_out_by_going_on(database: Database, slot: str, tmp_path: Path) -> None:
    def resolve(_: Relation) -> TableSchema | None:
        raise Refused("no such table")

    with Follower(database, slot, tmp_path, resolve=resolve) as follower:
        database.execute("INSERT INTO t VALUES (1)")
        assert isinstance(follower.until_broken(), Refused)
        with pytest.raises(Refused):
            follower.stream.take(0)
