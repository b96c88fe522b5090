"""The Postgres sink against real servers: all that every sink must survive, and what is its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.fix_postgres import VERSIONS, Database, Servers
from tests.postgres_place import PostgresPlace
from tests.sink_conformance import SinkConformance
from tests.sink_place import Place

_schemas = itertools.count()


@pytest.fixture(scope="module", params=VERSIONS, ids=[f"pg{version}" for version in VERSIONS])
def shared(request: pytest.FixtureRequest, postgres_servers: Servers) -> Iterator[Database]:
    """One database for all these tests: each has a schema of its own."""
    server = postgres_servers.of_version(request.param)
    with server.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS sink_conformance WITH (FORCE)")
        connection.execute("CREATE DATABASE sink_conformance TEMPLATE template0")
    yield Database(server, "sink_conformance")
    with server.start().connect() as connection:
        connection.execute("DROP DATABASE sink_conformance WITH (FORCE)")


class TestPostgresSink(SinkConformance):
    text_identical = True

    @pytest.fixture
    def place(self, shared: Database) -> Place:
        return PostgresPlace(shared, f"a sink's schema {next(_schemas)}")
