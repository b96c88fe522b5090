"""The embedded Postgres server, and the databases that tests get on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from examples import postgres_binaries
from examples.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from examples.postgres_binaries import Account, Binaries, find_binaries
from tests.fix_postgres import PASSWORD, Database, Launch, MakeDatabase
from tests.waiting import wait_for


def test_a_server_decodes_logically_in_utf8_and_utc(postgres: EmbeddedPostgres) -> None:
    with postgres.connect() as connection:
        settings = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
    assert settings["wal_level"] == "logical"
    assert settings["server_encoding"] == "UTF8"
    assert settings["TimeZone"] == "UTC"
    assert int(settings["server_version_num"]) // 10_000 == postgres.version


def test_a_server_does_not_run_as_root(postgres18: EmbeddedPostgres) -> None:
    assert Path(f"/proc/{postgres18.pid}").stat().st_uid != 0


def test_a_wrong_password_is_refused(database18: Database) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database18.server.dsn_for(database18.name, password="wrong"))


def test_a_killed_server_comes_back_on_its_port_with_its_data(launch_postgres: Launch) -> None:
    server = launch_postgres()
    with server.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
    port = server.port
    server.kill()
    assert server.pid is None
    server.start()
    assert server.port == port
    with server.connect() as connection:
        assert connection.execute("SELECT id FROM kept").fetchall() == [(1,)]


def test_settings_change_with_a_restart(launch_postgres: Launch) -> None:
    server = launch_postgres(settings={"application_name": "it's"})
    server.restart(settings={"wal_level": "replica"})
    with server.connect() as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("replica",)
        assert connection.execute("SELECT reset_val FROM pg_settings WHERE name = 'application_name'").fetchone() == ("it's",)


def test_a_server_that_cannot_start_says_why(launch_postgres: Launch) -> None:
    with pytest.raises(EmbeddedPostgresError, match="shared_bufers"):
        launch_postgres(settings={"shared_bufers": "16MB"})


def test_files_stand_in_the_data_folder_before_the_start(launch_postgres: Launch) -> None:
    server = launch_postgres(files={"extra.conf": b"work_mem = '7MB'\n"}, settings={"include_if_exists": "extra.conf"})
    with server.connect() as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)


def test_nothing_is_left_behind(launch_postgres: Launch) -> None:
    server = launch_postgres()
    pid, home, sockets = server.pid, server.home, server.socket_directory
    server.remove()
    assert not home.exists()
    assert not sockets.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_private_folder_is_linked_to_a_public_one(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with EmbeddedPostgres(directory=private / "source", settings={"fsync": "off"}) as server:
        first = server.home
        server.stop()
        again = EmbeddedPostgres(directory=private / "source", settings={"fsync": "off"})
        assert again.home == first
        again.start()
        again.remove()


def test_two_servers_that_want_one_port_both_start(monkeypatch: pytest.MonkeyPatch, launch_postgres: Launch) -> None:
    taken = launch_postgres()
    ports = iter([taken.port, taken.port + 1, taken.port + 2])
    monkeypatch.setattr("examples.embedded_postgres.free_port", lambda: next(ports))
    other = launch_postgres()
    assert other.port != taken.port
    with other.connect() as connection:
        assert connection.execute("SELECT inet_server_port()").fetchone() == (other.port,)


def test_binaries_are_looked_for_where_the_variable_says_first(monkeypatch: pytest.MonkeyPatch, postgres15: EmbeddedPostgres) -> None:
    monkeypatch.setenv("PG_BIN", str(postgres15.binaries.folder))
    assert find_binaries().folder == postgres15.binaries.folder
    assert find_binaries(18).major == 18


def test_missing_binaries_are_an_error_that_names_what_was_found() -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"no Postgres 7 binaries on this machine \(found .*18 in "):
        find_binaries(7)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers under another account")
def test_binaries_below_a_private_folder_are_copied_to_where_the_server_can_run_them(tmp_path: Path) -> None:
    found = find_binaries(18).folder
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for folder in (found.parents[1], found.parents[1].with_suffix(".libs")):
        subprocess.run(["cp", "-r", folder, private], check=True)
    account = Account.for_server()
    installed = Binaries(private.joinpath(*found.parts[-3:]), 18)
    copied = installed.reachable_by(account)
    copy = copied.folder.parents[2]
    try:
        assert account.can_traverse(copied.folder)
        process = account.run([copied.folder / "initdb", "--version"], subprocess.PIPE, folder=copied.folder, environment={})
        assert b"(PostgreSQL) 18" in process.communicate()[0]
        assert installed.reachable_by(account) == copied
    finally:
        subprocess.run(["rm", "-rf", copy, copy.with_suffix(".lock")], check=True)


def test_a_test_database_goes_with_its_slots_sessions_and_prepared_transactions(
    postgres18: EmbeddedPostgres, make_database: MakeDatabase
) -> None:
    from tests.fix_postgres import _drop

    database = make_database(postgres18)
    database.execute(
        "CREATE TABLE t (id int)",
        "SELECT pg_create_logical_replication_slot('goes_too', 'pgoutput')",
        "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'goes too'",
    )
    with database.connect():
        _drop(database)
    with postgres18.connect() as connection:
        assert connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'goes_too'").fetchall() == []
        assert connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database.name]).fetchall() == []


def test_waiting_ends_with_the_last_answer_and_what_was_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"still waiting after 0.02 s for the moon; the last answer was 0"):
        wait_for(lambda: 0, timeout=0.02, message="the moon")
    assert wait_for(lambda: "there") == "there"


def test_the_password_of_the_tests_is_in_a_dsn_and_not_on_a_command_line(postgres18: EmbeddedPostgres) -> None:
    assert PASSWORD in postgres18.dsn
    assert PASSWORD.encode() not in Path(f"/proc/{postgres18.pid}/cmdline").read_bytes()


def test_a_folder_that_the_server_cannot_enter_is_seen_as_such(tmp_path: Path) -> None:
    stranger = Account(uid=4_000_000, gid=4_000_000)
    (tmp_path / "closed").mkdir(mode=0o700)
    assert not stranger.can_traverse(tmp_path / "closed")
    assert stranger.can_traverse(Path("/usr"))
    assert postgres_binaries.public_folder(stranger).is_dir()
