"""Databases that do not hold UTF-8."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from examples.embedded_postgres import EmbeddedPostgres
from tests.fix_postgres import Database
from tests.pgoutput_reference import BAD
from tests.streaming import Follower, publish
from tests.waiting import wait_for


@contextlib.contextmanager
def encoded(server: EmbeddedPostgres, encoding: str) -> Iterator[Database]:
    """A database that does not hold UTF-8."""
    database = Database(server, f"in_{encoding.lower()}")
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {database.name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0".encode())
        try:
            yield database
        finally:

            def dropped() -> bool:
                try:
                    connection.execute(
                        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [database.name]
                    )
                    connection.execute(f"DROP DATABASE {database.name} WITH (FORCE)".encode())
                except psycopg.errors.ObjectInUse:
                    return False
                return True

            wait_for(dropped, message="the database to be free")


def test_trap_20_bytes_that_are_not_utf8_mark_their_row(postgres15: EmbeddedPostgres, tmp_path: Path) -> None:
    with encoded(postgres15, "SQL_ASCII") as database:
        database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
        slot = publish(database, "TABLE t")
        database.execute("INSERT INTO t VALUES (1, 'good'), (2, E'caf\\xe9'), (3, E'caf\\xc3\\xa9')")
        with Follower(database, slot, tmp_path) as follower:
            follower.catch_up()
    assert [change.values["note"] for change in follower.table("t")] == ["good", BAD, "café"]


@pytest.mark.parametrize("encoding, text", [("LATIN1", "café"), ("EUC_JP", "日本")])
def test_a_database_in_another_encoding_arrives_as_utf8(postgres15: EmbeddedPostgres, tmp_path: Path, encoding: str, text: str) -> None:
    with encoded(postgres15, encoding) as database:
        database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
        slot = publish(database, "TABLE t")
        with database.connect(client_encoding="UTF8") as connection:
            connection.execute("INSERT INTO t VALUES (1, %s)", [text])
        with Follower(database, slot, tmp_path) as follower:
            follower.catch_up()
    assert [change.values for change in follower.table("t")] == [{"id": "1", "note": text}]
