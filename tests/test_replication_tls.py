"""Where the connection is encrypted, libpq reads it: the same changes, the same errors, the same feedback."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.embedded_postgres import EmbeddedPostgres
from pipeline.errors import AlreadyRunningError, SlotLostError, TransientError
from sources.postgres.link import SealedLink
from tests.fix_postgres import Database, launch
from tests.streaming import Follower, confirmed, hurry, publish
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server with a certificate of its own."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*new, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    files = {"server.key": key.read_bytes(), "server.crt": certificate.read_bytes()}
    with launch(15, settings={"ssl": "on", "ssl_key_file": "server.key", "ssl_cert_file": "server.crt"}, files=files) as server:
        yield server


@pytest.fixture(params=["tls", "pg15", "pg18"])
def sealed(request: pytest.FixtureRequest) -> tuple[Database, str]:
    """A database, and a dsn with which it is read through libpq: over TLS, or because GSS encryption was not ruled out."""
    if request.param == "tls":
        make = request.getfixturevalue("make_database")
        database: Database = make(request.getfixturevalue("tls_server"))
        return database, f"{database.dsn} sslmode=require"
    database = request.getfixturevalue("database15" if request.param == "pg15" else "database18")
    return database, f"{database.dsn} gssencmode=prefer"


def table(database: Database) -> str:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
    return publish(database, "TABLE t")


def ids(follower: Follower) -> list[int]:
    return [int(change.values["id"]) for change in follower.table("t")]


def test_over_tls_the_connection_is_encrypted(tls_server: EmbeddedPostgres, tmp_path: Path) -> None:
    database = Database(tls_server, "postgres")
    slot = table(database)
    with Follower(database, slot, tmp_path, dsn=f"{database.dsn} sslmode=require") as follower:
        assert database.rows(f"SELECT ssl FROM pg_stat_ssl WHERE pid = {follower.walsender()}") == [(True,)]


def test_changes_arrive_through_libpq(sealed: tuple[Database, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[SealedLink] = []
    start = SealedLink.start

    def noted(link: SealedLink, command: str, deadline: float) -> None:
        opened.append(link)
        start(link, command, deadline)

    monkeypatch.setattr(SealedLink, "start", noted)
    database, dsn = sealed
    slot = table(database)
    database.execute("INSERT INTO t SELECT g, 'note ' || g FROM generate_series(1, 20000) g")
    database.execute("UPDATE t SET id = -1 WHERE id = 1", "TRUNCATE t")
    with Follower(database, slot, tmp_path, dsn=dsn) as follower:
        follower.catch_up()
        database.execute("INSERT INTO t VALUES (7)")
        follower.catch_up(confirm=True)
        end = follower.received.last_end
        assert end is not None
        wait_for(lambda: confirmed(database, slot) >= end, message="feedback through libpq")
    assert opened, "libpq was not used: the test has tested nothing"
    changes = follower.table("t")
    assert [change.op for change in changes] == ["I"] * 20_000 + ["U", "T", "I"]
    assert [change.values["note"] for change in changes[:20_000]] == [f"note {i}" for i in range(1, 20_001)]
    assert changes[20_000].old == {"id": "1"}


def test_rows_larger_than_all_buffers_arrive_through_libpq(sealed: tuple[Database, str], tmp_path: Path) -> None:
    database, dsn = sealed
    slot = table(database)
    database.execute("INSERT INTO t SELECT g, repeat(g::text, 1000000) FROM generate_series(1, 9) g")
    with Follower(database, slot, tmp_path, dsn=dsn) as follower:
        follower.catch_up()
    assert [change.values["note"] for change in follower.table("t")] == [str(i) * 1_000_000 for i in range(1, 10)]


def test_a_large_transaction_is_streamed_through_libpq(sealed: tuple[Database, str], tmp_path: Path) -> None:
    database, dsn = sealed
    database.execute(f"ALTER DATABASE {database.name} SET logical_decoding_work_mem = '64kB'")
    slot = table(database)
    with database.connect() as connection, connection.transaction():
        connection.execute("INSERT INTO t SELECT g FROM generate_series(1, 5000) g")
        connection.execute("SAVEPOINT s")
        connection.execute("INSERT INTO t SELECT -g FROM generate_series(1, 5000) g")
        connection.execute("ROLLBACK TO s")
    with Follower(database, slot, tmp_path, dsn=dsn, spool_bytes=1000) as follower:
        follower.catch_up()
    assert ids(follower) == list(range(1, 5001))


@pytest.mark.parametrize("sealed", ["tls", "pg18"], indirect=True)
def test_trap_06_feedback_through_libpq_goes_on_while_nobody_takes(sealed: tuple[Database, str], tmp_path: Path) -> None:
    database, dsn = sealed
    slot = table(database)
    hurry(database)
    database.execute("INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")
    with Follower(database, slot, tmp_path, dsn=dsn, queue_bytes=4 << 20) as follower:
        pid = follower.walsender()
        wait_for(lambda: follower.stream.bytes_read > 1_900_000, message="the queue to fill")
        follower.outlive_patience(taking=False)
        assert follower.walsender() == pid
        follower.catch_up()
    assert ids(follower) == list(range(1, 20_001))


def test_a_killed_walsender_behind_libpq_is_a_passing_failure(sealed: tuple[Database, str], tmp_path: Path) -> None:
    database, dsn = sealed
    slot = table(database)
    with Follower(database, slot, tmp_path, dsn=dsn) as follower:
        database.execute("INSERT INTO t VALUES (1)")
        follower.catch_up()
        database.execute(f"SELECT pg_terminate_backend({follower.walsender()})")
        error = follower.until_broken()
    assert type(error) is TransientError
    assert "57P01" in error.message
    assert ids(follower) == [1]


def test_a_publication_that_is_dropped_is_noticed_through_libpq(sealed: tuple[Database, str], tmp_path: Path) -> None:
    database, dsn = sealed
    slot = table(database)
    with Follower(database, slot, tmp_path, dsn=dsn) as follower:
        database.execute("INSERT INTO t VALUES (1)", "DROP PUBLICATION p", "INSERT INTO t VALUES (2)")
        error = follower.until_broken()
    assert isinstance(error, SlotLostError)
    assert "publication" in error.message


def test_a_slot_in_use_is_refused_through_libpq(sealed: tuple[Database, str], tmp_path: Path) -> None:
    database, dsn = sealed
    slot = table(database)
    with Follower(database, slot, tmp_path / "one", dsn=dsn), pytest.raises(AlreadyRunningError):
        Follower(database, slot, tmp_path / "two", dsn=dsn).stream.start()


def test_a_crash_behind_tls_is_a_passing_failure(tls_server: EmbeddedPostgres, tmp_path: Path) -> None:
    database = Database(tls_server, "postgres")
    database.execute("CREATE TABLE IF NOT EXISTS u (id int PRIMARY KEY)", "SELECT pg_create_logical_replication_slot('u', 'pgoutput')")
    database.execute("CREATE PUBLICATION u FOR TABLE u")
    with Follower(database, "u", tmp_path, dsn=f"{database.dsn} sslmode=require", publication="u") as follower:
        tls_server.stop("immediate")
        assert isinstance(follower.until_broken(), TransientError)
    tls_server.start()
