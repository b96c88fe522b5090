"""Real Postgres servers for tests: versions 15 and 18, once per test process, and a fresh database per test."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import psycopg
import pytest
from psycopg import sql

from examples.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from tests.waiting import wait_for

VERSIONS = (15, 18)
SETTINGS: Mapping[str, str | int] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_wal_size": "256MB",
    "max_connections": 200,
    "max_replication_slots": 40,
    "max_wal_senders": 40,
    "max_prepared_transactions": 10,
}
# Not a secret, but a word that tests can look for where no password may ever appear.
PASSWORD = "s3cret-of-the-tests"
_PREFIX = "sluice-test-"
_SHM = Path("/dev/shm")
_names = itertools.count()

Launch = Callable[..., EmbeddedPostgres]


@dataclass(frozen=True)
class Database:
    """An empty database of a test's own."""

    server: EmbeddedPostgres
    name: str

    @property
    def dsn(self) -> str:
        """A libpq connection string of the superuser, with its password."""
        return self.server.dsn_for(self.name)

    @property
    def version(self) -> int:
        """The server's major version."""
        return self.server.version

    def connect(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit connection of the superuser."""
        return self.server.connect(self.name, **options)

    def execute(self, *statements: str) -> None:
        """Runs each statement in a transaction of its own, on one connection."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.connect() as connection:
            return connection.execute(query.encode()).fetchall()


MakeDatabase = Callable[..., Database]


class Servers:
    """The servers of one test process, each started when a test first asks for it."""

    def __init__(self) -> None:
        self._running: dict[int, EmbeddedPostgres] = {}

    def of_version(self, version: int) -> EmbeddedPostgres:
        """The running server of this major version; skips the test, or fails it where nothing may be skipped, if there are no binaries."""
        if version not in self._running:
            self._running[version] = launch(version).start()
        # A test may have left it stopped.
        return self._running[version].start()

    def close(self) -> None:
        """Stops and deletes all of them."""
        for server in self._running.values():
            server.remove()


def launch(version: int, *, settings: Mapping[str, str | int] | None = None, **options: Any) -> EmbeddedPostgres:
    """A server for tests, not yet started."""
    try:
        return EmbeddedPostgres(
            version=version,
            password=PASSWORD,
            settings={**SETTINGS, **(settings or {})},
            prefix=f"{_PREFIX}{os.getpid()}-",
            temporary=_memory(),
            **options,
        )
    except EmbeddedPostgresError as error:
        missing_server(str(error))


def missing_server(reason: str) -> Never:
    """Skips the test for `reason`, or fails it with CI=true or SLUICE_TEST_ALL=1, where a silent gap would be taken for success."""
    if os.environ.get("CI") == "true" or os.environ.get("SLUICE_TEST_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[Servers]:
    """The servers of this test process, by version."""
    _remove_what_dead_runs_left()
    servers = Servers()
    try:
        yield servers
    finally:
        servers.close()


@pytest.fixture(params=VERSIONS, ids=[f"pg{version}" for version in VERSIONS])
def postgres(request: pytest.FixtureRequest, postgres_servers: Servers) -> EmbeddedPostgres:
    """A shared running server, in turn of every version that is supported."""
    return postgres_servers.of_version(request.param)


@pytest.fixture
def postgres15(postgres_servers: Servers) -> EmbeddedPostgres:
    """The shared running server of version 15."""
    return postgres_servers.of_version(15)


@pytest.fixture
def postgres18(postgres_servers: Servers) -> EmbeddedPostgres:
    """The shared running server of version 18."""
    return postgres_servers.of_version(18)


@pytest.fixture
def make_database() -> Iterator[MakeDatabase]:
    """Makes fresh databases, `make_database(server)`, and drops them, with their slots, after the test."""
    made: list[Database] = []

    def make(server: EmbeddedPostgres, name: str | None = None) -> Database:
        database = Database(server, name or f"test_{os.getpid()}_{next(_names)}")
        with server.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY file_copy").format(sql.Identifier(database.name)))
        made.append(database)
        return database

    yield make
    for database in made:
        _drop(database)


@pytest.fixture
def database(postgres: EmbeddedPostgres, make_database: MakeDatabase) -> Database:
    """A fresh database, in turn on every version that is supported."""
    return make_database(postgres)


@pytest.fixture
def database15(postgres15: EmbeddedPostgres, make_database: MakeDatabase) -> Database:
    """A fresh database on version 15."""
    return make_database(postgres15)


@pytest.fixture
def database18(postgres18: EmbeddedPostgres, make_database: MakeDatabase) -> Database:
    """A fresh database on version 18."""
    return make_database(postgres18)


@pytest.fixture
def launch_postgres() -> Iterator[Launch]:
    """Starts servers of a test's own, to be stopped, killed or set up otherwise: `launch_postgres(version, settings=…, files=…)`."""
    with contextlib.ExitStack() as stack:

        def start(version: int = VERSIONS[-1], **options: Any) -> EmbeddedPostgres:
            return stack.enter_context(launch(version, **options))

        yield start


def _drop(database: Database) -> None:
    """Drops a database and what would hold it: prepared transactions, walsenders, slots, sessions."""
    if not database.server.data.exists():
        return  # it went with a server of the test's own
    database.server.start()
    with database.server.connect() as connection:
        prepared = connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [database.name]).fetchall()
        if prepared:
            with database.connect() as inside:
                for (gid,) in prepared:
                    inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))

        def dropped() -> bool:
            # A reader that a failed test left behind may come back between the two statements, so both are tried again.
            connection.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s", [database.name])
            try:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))
            except psycopg.errors.ObjectInUse:
                return False
            return True

        wait_for(dropped, message=f"the database {database.name} to be free")


def _memory() -> Path | None:
    """The file system in memory, if there is one with room to spare: a database is made there in 10 ms, on a disk in 300."""
    if not _SHM.is_dir() or not os.access(_SHM, os.W_OK):
        return None
    match = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    available = int(match.group(1)) * 1024 if match else 0
    return _SHM if min(shutil.disk_usage(_SHM).free, available) > 6 * 2**30 else None


def _remove_what_dead_runs_left() -> None:
    """Stops and deletes the servers of test processes that were killed before they could."""
    for home in (*Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"), *_SHM.glob(f"{_PREFIX}*")):
        owner = home.name.removeprefix(_PREFIX).partition("-")[0]
        if not owner.isdigit() or Path(f"/proc/{owner}").exists() or home.stat().st_uid not in (os.geteuid(), 65534):
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((home / "data" / "postmaster.pid").read_text().splitlines()[0])
            if str(home) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGQUIT)
        shutil.rmtree(home, ignore_errors=True)
