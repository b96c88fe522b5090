"""Tables copied from real servers."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from psycopg import sql

from pipeline.errors import Refused, TransientError
from sources.postgres.catalogue import matching, read_publication, read_tables
from sources.postgres.copy import copy_of, copy_query, copy_rows
from sources.postgres.patterns import TablePatterns
from sources.postgres.session import Connection, Server
from tests import pg_values
from tests.fix_follower import Follow
from tests.fix_postgres import Database, Launch
from tests.follower import batches, texts

_ENDLESS = copy_of(sql.SQL("SELECT a.*, b.* FROM generate_series(1, 10000) a, generate_series(1, 10000) b"))


@pytest.fixture
def server(database: Database) -> Server:
    """The database as a source reaches it."""
    return Server(database.dsn, "test", 5)


def _rows(server: Server, connection: Connection, query: str, width: int) -> list[tuple[str | None, ...]]:
    parts = list(copy_rows(server, connection, copy_of(sql.SQL(query)), width, lambda: False))
    return [row for part in parts for row in zip(*(column.to_pylist() for column in part.columns), strict=True)]


def test_trap_20_every_type_comes_by_copy_and_by_stream_with_the_text_that_the_server_gives(database: Database, follow: Follow) -> None:
    database.execute(*pg_values.SET_UP, pg_values.create("t"), pg_values.insert("t", 0, database.version))
    follower = follow(database, "public.t")
    with follower.running():
        follower.same("public.t")
        database.execute(pg_values.insert("t", 1000, database.version))
        follower.same("public.t")
    rows = follower.mirrors[None, "public.t"].rows
    copied = [list(row.values())[1:] for _, (_, row) in sorted(rows.items(), key=lambda item: int(item[0][0]))]
    half = len(copied) // 2
    assert copied[:half] == copied[half:]
    assert not any(batch.defects for batch in batches(follower, "public.t"))


def test_libpq_and_the_bare_socket_give_the_same_rows(database: Database, server: Server) -> None:
    database.execute(*pg_values.SET_UP, pg_values.create("t"), pg_values.insert("t", 0, database.version))
    width = len(pg_values.VALUES) + 1
    with closing(server.connect()) as connection:
        bare = _rows(server, connection, "SELECT * FROM public.t", width)
        server.plain = False
        assert _rows(server, connection, "SELECT * FROM public.t", width) == bare
    assert bare == texts(database, "SELECT * FROM t")


def test_rows_larger_than_any_buffer_and_many_small_ones_arrive_whole(database: Database, server: Server) -> None:
    with closing(server.connect()) as connection:
        query = "SELECT n, repeat(chr(97 + n % 26), CASE n % 5 WHEN 0 THEN 9000000 ELSE n END) FROM generate_series(1, 12) n"
        found = _rows(server, connection, query, 2)
        assert [(int(n or 0), len(text or "")) for n, text in found] == [(n, 9_000_000 if n % 5 == 0 else n) for n in range(1, 13)]
        numbers = [row[0] for row in _rows(server, connection, "SELECT * FROM generate_series(1, 300000)", 1)]
        assert numbers == [str(n) for n in range(1, 300_001)]
        # lengths of rows that contain the bytes by which rows are found
        lengths = _rows(server, connection, "SELECT repeat('x', 2655 - n % 3) FROM generate_series(1, 20000) n", 1)
        assert sum(len(row[0] or "") for row in lengths) == sum(2655 - n % 3 for n in range(1, 20_001))
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_error_of_the_server_leaves_the_session_usable_and_is_told(server: Server) -> None:
    with closing(server.connect()) as connection:
        with pytest.raises(Refused, match="does not exist"):
            _rows(server, connection, "SELECT * FROM public.nowhere", 1)
        with pytest.raises(Refused, match="division by zero"):
            _rows(server, connection, "SELECT 1 / (n - 5000) FROM generate_series(1, 10000) n", 1)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_notices_between_rows_are_passed_over(database: Database, server: Server) -> None:
    database.execute(
        "CREATE FUNCTION say(n int) RETURNS int LANGUAGE plpgsql AS"
        " $$ BEGIN IF n % 100 = 0 THEN RAISE NOTICE 'd at %', n; END IF; RETURN n; END $$"
    )
    with closing(server.connect()) as connection:
        found = _rows(server, connection, "SELECT public.say(n) FROM generate_series(1, 5000) n", 1)
    assert [row[0] for row in found] == [str(n) for n in range(1, 5001)]


def test_a_copy_that_is_stopped_closes_its_session(server: Server) -> None:
    connection = server.connect()
    rows = copy_rows(server, connection, _ENDLESS, 2, lambda: True)
    assert list(rows) == []
    assert connection.closed


def test_a_broken_connection_is_worth_another_try(database: Database, server: Server) -> None:
    with closing(server.connect()) as connection:
        pid = connection.info.backend_pid
        rows = copy_rows(server, connection, _ENDLESS, 2, lambda: False)
        next(rows)
        database.execute(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(TransientError):
            for _ in rows:
                pass


def test_trap_26_row_filter_column_list_and_partitions_are_those_of_the_publication(database: Database, follow: Follow) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, region text, secret text)",
        "INSERT INTO t SELECT n, CASE n % 2 WHEN 0 THEN 'EU' ELSE 'US' END, 'x' FROM generate_series(1, 10) n",
        "CREATE TABLE root (id int, at int, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE leaf1 (note text, at int NOT NULL, id int NOT NULL, PRIMARY KEY (id, at))",  # another order of columns
        "ALTER TABLE root ATTACH PARTITION leaf1 FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE leaf2 PARTITION OF root FOR VALUES FROM (10) TO (20)",
        "INSERT INTO root VALUES (1, 1, 'one'), (2, 15, 'two')",
        "CREATE PUBLICATION p FOR TABLE t (id, region) WHERE (region = 'EU' OR id < 2), root WITH (publish_via_partition_root = true)",
        "ALTER TABLE t ALTER region SET NOT NULL",
        "CREATE UNIQUE INDEX t_identity ON t (id, region)",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_identity",
    )
    follower = follow(database, "public.t", "public.root", publication="p")
    with follower.running():
        follower.same("public.t", "SELECT id, region FROM t WHERE region = 'EU' OR id < 2")
        follower.same("public.root")
        database.execute(
            "INSERT INTO root VALUES (3, 3, 'three'), (4, 14, 'four')",
            "UPDATE root SET note = 'ONE', at = 12 WHERE id = 1",  # moves to another partition
            "UPDATE t SET region = 'EU' WHERE id = 3",
            "UPDATE t SET region = 'US' WHERE id = 4",
        )
        follower.same("public.t", "SELECT id, region FROM t WHERE region = 'EU' OR id < 2")
        follower.same("public.root")
    assert follower.schemas["public.t"].names == ("id", "region")


def test_trap_23_partitions_that_the_stream_describes_beside_their_root_are_no_tables(database: Database, follow: Follow) -> None:
    database.execute(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10)",
    )
    follower = follow(database, "public.*")
    with follower.running():
        follower.same("public.root")
        database.execute(
            "INSERT INTO root VALUES (1)",
            "CREATE TABLE later PARTITION OF root FOR VALUES FROM (10) TO (20)",
            "INSERT INTO root VALUES (11)",
        )
        follower.same("public.root")
        assert follower.source is not None
        assert set(follower.source.status().tables) == {"public.root"}
    assert set(follower.schemas) == {"public.root"}


def test_children_that_inherit_are_tables_of_their_own(database: Database, follow: Follow) -> None:
    database.execute(
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
        "INSERT INTO parent VALUES (1)",
        "INSERT INTO child VALUES (2)",
    )
    follower = follow(database, "public.parent")
    with follower.running():
        follower.same("public.parent", "SELECT id FROM ONLY parent")
        database.execute("INSERT INTO child VALUES (3)", "INSERT INTO parent VALUES (4)")
        follower.same("public.parent", "SELECT id FROM ONLY parent")


def test_trap_18_a_generated_column_is_copied_where_it_is_streamed(database: Database, follow: Follow) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, x int)",
        "INSERT INTO t (id, x) VALUES (1, 1), (2, 2)",
    )
    follower = follow(database, "public.t")
    with follower.running():
        follower.same("public.t")
        database.execute("INSERT INTO t (id, x) VALUES (3, 3)", "UPDATE t SET x = 5 WHERE id = 1")
        follower.same("public.t")
    assert follower.schemas["public.t"].names == (("id", "twice", "x") if database.version >= 18 else ("id", "x"))


def test_values_that_are_not_utf8_become_defects_with_their_bytes(launch_postgres: Launch, follow: Follow) -> None:
    server = launch_postgres(15)
    with server.connect() as connection:
        connection.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    database = Database(server, "bytes")
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text, w text)")
    database.execute("INSERT INTO t VALUES (1, 'good', 'w'), (2, E'b\\xe4d', 'w'), (3, NULL, 'w')")
    follower = follow(database, "public.t")
    with follower.running():
        follower.until(lambda: "public.t" in follower.copied)
        database.execute("INSERT INTO t VALUES (4, E'\\xff', 'w')")
        follower.until(lambda: sum(len(batch) for batch in batches(follower, "public.t")) == 4)
    defects = [(batch.column("id")[d.row].as_py(), d.column, d.raw) for batch in batches(follower, "public.t") for d in batch.defects]
    assert defects == [("2", "v", b"b\xe4d"), ("4", "v", b"\xff")]


def test_trap_25_and_19_settings_of_the_role_do_not_change_what_is_read(database: Database, follow: Follow) -> None:
    role = f"odd_{database.name}"
    database.execute(
        f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'x'",
        *(
            f"ALTER ROLE {role} SET {setting}"
            for setting in (
                "datestyle = 'German, DMY'", "timezone = 'Asia/Kolkata'", "intervalstyle = 'iso_8601'", "extra_float_digits = -15",
                "bytea_output = 'escape'", "client_encoding = 'LATIN1'", "statement_timeout = '20ms'", "search_path = 'pg_catalog'",
                "idle_in_transaction_session_timeout = '20ms'", "default_transaction_isolation = 'serializable'", "lock_timeout = '20ms'",
                "default_transaction_read_only = on", *(["transaction_timeout = '20ms'"] if database.version >= 17 else []),
            )
        ),
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, d date, i interval, f float8, b bytea, e text)",
        "INSERT INTO t SELECT n, '2024-07-01 12:00+00', '2024-07-01', '1 day 2 hours', 0.1::float8 + 0.2, '\\x00ff', 'é€'"
        " FROM generate_series(1, 5000) n",
    )  # fmt: skip
    follower = follow(database, "public.t", dsn=database.server.dsn_for(database.name, user=role, password="x"))
    with follower.running():
        follower.same("public.t")
        database.execute("INSERT INTO t SELECT 0, at, d, i, f, b, e FROM t WHERE id = 1")
        follower.same("public.t")
    row = follower.mirrors[None, "public.t"].rows[("0",)][1]
    assert list(row.values())[1:] == ["2024-07-01 12:00:00+00", "2024-07-01", "1 day 02:00:00", "0.30000000000000004", "\\x00ff", "é€"]


def test_a_table_of_sixteen_hundred_columns_is_copied(database: Database, follow: Follow) -> None:
    names = [f"c{n}" for n in range(1599)]
    database.execute(
        f"CREATE TABLE wide (id int PRIMARY KEY, {', '.join(f'{name} smallint' for name in names)})",
        f"INSERT INTO wide SELECT n, {', '.join(str(n % 7) for n in range(1599))} FROM generate_series(1, 20) n",
    )
    follower = follow(database)
    with follower.running():
        follower.same("public.wide")
        database.execute("UPDATE wide SET c7 = 1000 WHERE id = 3")
        follower.same("public.wide")


@pytest.fixture
def sealed(launch_postgres: Launch, tmp_path: Path) -> Database:
    """A server that takes nothing but TLS connections."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-days",
            "2",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    files = {"server.key": key.read_bytes(), "server.crt": certificate.read_bytes()}
    server = launch_postgres(15, settings={"ssl": "on", "ssl_key_file": "server.key", "ssl_cert_file": "server.crt"}, files=files)
    return Database(server, "postgres")


def test_over_tls_a_table_is_copied_and_followed(sealed: Database, follow: Follow) -> None:
    sealed.execute(*pg_values.SET_UP, pg_values.create("t"), pg_values.insert("t", 0, sealed.version))
    follower = follow(sealed, "public.t", dsn=sealed.dsn + " sslmode=require")
    with follower.running():
        follower.same("public.t")
        sealed.execute(pg_values.insert("t", 1000, sealed.version))
        follower.same("public.t")
        uses = sealed.rows("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'sluice%'")
        assert uses == [(True,)]


def test_the_query_is_a_plain_copy_where_that_is_enough(database: Database, server: Server) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "CREATE PUBLICATION p FOR TABLE t WHERE (id > 1)")
    with closing(server.connect()) as connection:
        oids = [match.oid for match in matching(connection, TablePatterns(["public.t"]))]
        plain = next(iter(read_tables(connection, oids).values()))
        filtered = next(iter(read_tables(connection, oids, read_publication(connection, "p")).values()))
    assert copy_query(plain, plain.live).as_string() == 'COPY "public"."t" ("id", "v") TO STDOUT'
    assert copy_query(filtered, filtered.live).as_string() == 'COPY (SELECT "id", "v" FROM ONLY "public"."t" WHERE ((id > 1))) TO STDOUT'


def test_a_batch_of_copied_rows_says_where_it_comes_from(database: Database, follow: Follow) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 70000)")
    follower = follow(database, "public.t")
    with follower.running():
        follower.until(lambda: "public.t" in follower.copied)
        status = follower.source.status().tables["public.t"] if follower.source else None
    found = batches(follower, "public.t")
    assert all(1 <= len(batch) <= 65536 for batch in found)
    assert np.concatenate([batch.nth for batch in found]).tolist() == list(range(70_000))
    assert len({int(lsn) for batch in found for lsn in batch.lsn}) == 1
    assert status is not None
    assert (status.rows_copied, status.rows_total) == (70_000, 70_000)
    assert status.bytes_copied == sum(len(str(n)) + 1 for n in range(1, 70_001))
