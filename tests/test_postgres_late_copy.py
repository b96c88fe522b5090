"""Copies that go on beside the stream: new tables, copies that broke, and copies that were asked for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest
from structlog.testing import capture_logs

from journal.batch import CopyMarker, Op
from sources.postgres import supervisor
from tests.fix_follower import Follow
from tests.fix_postgres import Database
from tests.follower import Follower, Mirror, batches


@contextmanager
def _hammering(database: Database, *tables: str) -> Iterator[None]:
    """Several writers of short and longer transactions on tables (id, n)."""
    over = threading.Event()

    def write(seed: int) -> None:
        random = np.random.default_rng(seed)
        with database.connect() as connection:
            while not over.is_set():
                try:
                    with connection.transaction():
                        for _ in range(int(random.integers(1, 6))):
                            table, id = tables[random.integers(len(tables))], int(random.integers(1, 400)) * 3 + seed
                            choice = random.integers(10)
                            if choice < 5:
                                connection.execute(
                                    f"INSERT INTO {table} VALUES (%s, 1) ON CONFLICT (id) DO UPDATE SET n = {table}.n + 1", [id]
                                )
                            elif choice < 8:
                                connection.execute(
                                    f"UPDATE {table} SET n = n + 1 WHERE id BETWEEN %s AND %s AND id %% 3 = %s", [id, id + 9, seed]
                                )
                            else:
                                connection.execute(f"DELETE FROM {table} WHERE id = %s", [id])
                        if random.integers(8) == 0:
                            raise psycopg.Rollback
                except (psycopg.Rollback, psycopg.errors.UndefinedTable, psycopg.errors.DeadlockDetected):
                    continue

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


_MAKE = "CREATE TABLE {0} (id int PRIMARY KEY, n int)"
_FILL = "INSERT INTO {0} SELECT n, 0 FROM generate_series(1, 1200) n ON CONFLICT DO NOTHING"


def _streams(follower: Follower, table: str) -> None:
    follower.until(lambda: table in follower.copied, message=f"the copy of {table}")


def test_trap_22_a_table_that_comes_to_match_is_copied_while_it_is_written_to(database: Database, follow: Follow) -> None:
    database.execute(_MAKE.format("first"), _FILL.format("first"))
    follower = follow(database)
    with follower.running():
        _streams(follower, "public.first")
        with _hammering(database, "first", "second", "third"):
            for table in ("second", "third"):
                # seen by the writers when it is full
                database.execute(f"BEGIN; {_MAKE.format(table)}; {_FILL.format(table)}; COMMIT")
                _streams(follower, f"public.{table}")
                seen = follower.segments
                follower.until(lambda seen=seen: follower.segments > seen + 5)  # type: ignore[misc]
        for table in ("first", "second", "third"):
            follower.same(f"public.{table}")
    starts = [entry for entry in follower.log if isinstance(entry, CopyMarker) and entry.phase == "start"]
    assert all(entry.first for entry in starts)


def test_trap_22_a_transaction_that_wrote_before_the_publication_had_the_table_is_outlasted(database15: Database, follow: Follow) -> None:
    database = database15
    database.execute(_MAKE.format("t"))
    follower = follow(database, "public.t")
    with follower.running():
        follower.same("public.t")
        database.execute("ALTER PUBLICATION " + follower.slot + " DROP TABLE t")
        with database.connect() as writer:
            writer.execute("BEGIN")
            writer.execute("INSERT INTO t VALUES (1, 1)")
            # its first change is not in the log for us, and its second one would be
            follower.kill()
            with capture_logs() as logs:
                follower.start()

                def waits() -> bool:
                    return any("waits for open transactions that wrote" in entry["event"] for entry in logs)

                follower.until(waits)
            told = next(entry for entry in logs if "waits for open" in entry["event"])
            assert told["pids"] == [writer.info.backend_pid]
            writer.execute("INSERT INTO t VALUES (2, 2)")
            writer.execute("COMMIT")
        follower.same("public.t")


def _abandoned(follower: Follower) -> int:
    return sum(isinstance(entry, CopyMarker) and entry.phase == "abandoned" for entry in follower.log)


def test_a_copy_that_breaks_is_given_up_and_made_again(database15: Database, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    database = database15
    monkeypatch.setattr(supervisor, "_COPY_BYTES", 1)  # one batch is waiting, and the next one blocks
    database.execute(_MAKE.format("first"))
    follower = follow(database)
    with follower.running():
        _streams(follower, "public.first")
        database.execute(
            "CREATE TABLE second (id int PRIMARY KEY, n int, padding text)",
            "INSERT INTO second SELECT n, 0, repeat('x', 4000) FROM generate_series(1, 15000) n",
        )
        with _hammering(database, "second"):
            kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%second%' AND state = 'active'"
            for _ in range(2):
                follower.until(lambda: bool(database.rows(kill)), message="a copy to break")
                seen = _abandoned(follower)
                follower.until(lambda seen=seen: _abandoned(follower) > seen)  # type: ignore[misc]
            _streams(follower, "public.second")
        follower.same("public.second")
    phases = [entry.phase for entry in follower.log if isinstance(entry, CopyMarker) and entry.table == "public.second"]
    assert phases == ["start", "abandoned", "start", "abandoned", "start", "end"]


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_crash_in_the_middle_of_a_late_copy_is_followed_by_a_new_one(database15: Database, follow: Follow, after: int) -> None:
    database = database15
    database.execute(_MAKE.format("first"), "CREATE TABLE keyless (n int)", "ALTER TABLE keyless REPLICA IDENTITY FULL")
    follower = follow(database)
    with follower.running():
        _streams(follower, "public.first")
    database.execute(_MAKE.format("second"), "INSERT INTO second SELECT n, 0 FROM generate_series(1, 40000) n")
    with _hammering(database, "first", "second"):
        for _ in range(2):
            with follower.running():
                follower.until(lambda: len(batches(follower, "public.second")) > after or "public.second" in follower.copied)
        with follower.running():
            _streams(follower, "public.second")
    with follower.running():
        follower.same("public.first")
        follower.same("public.second")


def test_a_copy_again_for_all_sinks_repairs_what_differs_while_writes_go_on(database: Database, follow: Follow) -> None:
    database.execute(_MAKE.format("t"), _FILL.format("t"))
    follower = follow(database, "public.t")
    with follower.running():
        _streams(follower, "public.t")
        mirror = follower.mirrors[None, "public.t"]
        mirror.rows.pop(("7",), None)
        mirror.rows[("-1",)] = (1, {"id": "-1", "n": "5"})
        with _hammering(database, "t"):
            assert follower.source is not None
            for _ in range(3):
                follower.source.copy_again("public.t")
            follower.until(lambda: "public.t" in follower.begun)
            _streams(follower, "public.t")
        follower.same("public.t")
        follower.source.copy_again("public.nowhere")
        follower.caught_up()
    starts = [entry for entry in follower.log if isinstance(entry, CopyMarker) and entry.phase == "start"]
    assert [entry.first for entry in starts] == [True, False]


def test_a_copy_is_not_over_before_the_stream_has_passed_it(database15: Database, follow: Follow) -> None:
    database = database15
    database.execute("CREATE TABLE heap (n int)", "ALTER TABLE heap REPLICA IDENTITY FULL", "INSERT INTO heap VALUES (0)")
    follower = follow(database, "public.heap")
    with follower.running():
        follower.same("public.heap")
        slot = f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{follower.slot}'"
        walsender = int(database.rows(slot)[0][0])
        os.kill(walsender, signal.SIGSTOP)  # the stream lags behind the copy
        try:
            database.execute("INSERT INTO heap SELECT generate_series(1, 20)", "DELETE FROM heap WHERE n < 10")
            assert follower.source is not None
            follower.source.copy_again("public.heap")
            follower.until(lambda: any((batch.op == Op.READ).all() for batch in batches(follower, "public.heap")[1:]))
            for _ in range(20):
                follower.step()
            assert follower.begun == {"public.heap"}
        finally:
            os.kill(walsender, signal.SIGCONT)
        follower.same("public.heap")
    with follower.running():
        follower.same("public.heap")


def test_a_copy_for_one_sink_reaches_it_alone_and_holds_nobody_else_up(database: Database, follow: Follow) -> None:
    database.execute(_MAKE.format("t"), _FILL.format("t"))
    follower = follow(database, "public.t")
    with follower.running():
        _streams(follower, "public.t")
        late = ("late", "public.t")
        follower.mirrors[late] = Mirror(follower.schemas["public.t"])
        follower.waiting.add(late)
        with _hammering(database, "t"):
            assert follower.source is not None
            follower.source.copy_again("public.t", "late")
            follower.until(lambda: late not in follower.waiting)
            seen = follower.segments
            follower.until(lambda: follower.segments > seen + 5)
        follower.same("public.t", sink="late")
        follower.same("public.t")
    assert follower.copied == {"public.t"}
    starts = [entry.sink for entry in follower.log if isinstance(entry, CopyMarker) and entry.phase == "start"]
    assert starts == [None, "late"]


def test_a_copy_that_was_asked_for_before_the_start_is_made(database15: Database, follow: Follow) -> None:
    database15.execute(_MAKE.format("t"), _FILL.format("t"))
    follower = follow(database15, "public.t")
    with follower.running():
        _streams(follower, "public.t")
    late = ("late", "public.t")
    follower.requested = {"public.t": "late"}
    follower.mirrors[late] = Mirror(follower.schemas["public.t"])
    follower.waiting.add(late)
    with follower.running():
        follower.until(lambda: late not in follower.waiting)
        follower.same("public.t", sink="late")


def test_a_table_that_is_truncated_while_it_is_copied_ends_as_it_is(database15: Database, follow: Follow) -> None:
    database = database15
    database.execute(_MAKE.format("t"), "INSERT INTO t SELECT n, 0 FROM generate_series(1, 40000) n")
    follower = follow(database, "public.t")
    with follower.running():
        _streams(follower, "public.t")
        assert follower.source is not None
        for _ in range(4):
            follower.source.copy_again("public.t")
            database.execute("TRUNCATE t", "INSERT INTO t SELECT n, 1 FROM generate_series(1, 3000) n")
        follower.same("public.t")


def test_a_table_that_is_dropped_and_made_anew_is_copied_anew(database15: Database, follow: Follow) -> None:
    database = database15
    database.execute(_MAKE.format("t"), _FILL.format("t"), _MAKE.format("other"))
    follower = follow(database)
    with follower.running():
        follower.same("public.t")
        assert follower.source is not None
        source = follower.source
        database.execute("DROP TABLE t", "INSERT INTO other VALUES (1, 1)")
        follower.until(lambda: source.status().tables["public.t"].state == "stopped")
        assert "not there any more" in (source.status().tables["public.t"].error or "")
        follower.same("public.other")
        database.execute("CREATE TABLE t (code text PRIMARY KEY)", "INSERT INTO t VALUES ('new')")
        follower.until(lambda: source.status().tables["public.t"].state == "streaming")
        follower.same("public.t")
        database.execute("BEGIN; DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1); COMMIT")
        follower.until(lambda: follower.schemas["public.t"].names == ("id", "n"))
        follower.same("public.t")
    database.execute("BEGIN; DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (2, 2); COMMIT")
    with follower.running():
        follower.same("public.t")


def test_a_table_that_was_not_meant_for_a_time_is_copied_again(database15: Database, follow: Follow) -> None:
    database = database15
    database.execute(_MAKE.format("t"), _MAKE.format("u"), _FILL.format("t"))
    for config in ({}, {"publication": "all_of_them"}):
        if config:
            database.execute("CREATE PUBLICATION all_of_them FOR ALL TABLES")
        follower = follow(database, "public.t", "public.u", slot=f"slot{len(config)}_{database.name}", **config)
        with follower.running():
            follower.same("public.t")
        follower.tables = ("public.u",)
        with follower.running():
            follower.same("public.u")
            database.execute("UPDATE t SET n = n + 1 WHERE id % 2 = 0", "DELETE FROM t WHERE id % 7 = 0")
            follower.caught_up()
        follower.tables = ("public.t", "public.u")
        with follower.running():
            follower.same("public.t")
        database.execute(_FILL.format("t"))


def test_a_table_that_loses_its_identity_is_stopped_alone_and_comes_back_when_mended(database15: Database, follow: Follow) -> None:
    database = database15
    database.execute(_MAKE.format("t"), _FILL.format("t"), _MAKE.format("other"))
    follower = follow(database)
    with follower.running():
        follower.same("public.t")
        assert follower.source is not None
        source = follower.source
        database.execute("ALTER TABLE t DROP CONSTRAINT t_pkey", "INSERT INTO t VALUES (5000, 1)", "INSERT INTO other VALUES (1, 1)")
        follower.until(lambda: source.status().tables["public.t"].state == "stopped")
        assert "replica identity" in (source.status().tables["public.t"].error or "")
        follower.same("public.other")
        assert follower.copied == {"public.other"}
    with follower.running():  # it is still stopped after a restart, and the others go on
        database.execute("INSERT INTO other VALUES (2, 2)")
        follower.same("public.other")
        assert follower.source is not None
        source = follower.source
        assert source.status().tables["public.t"].state == "stopped"
        database.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
        follower.until(lambda: source.status().tables["public.t"].state == "streaming")
        database.execute("UPDATE t SET n = 9 WHERE id = 5000")
        follower.same("public.t")


def test_a_grant_that_is_missing_stops_the_new_table_until_it_is_given(database15: Database, follow: Follow) -> None:
    database = database15
    role = f"limited_{database.name}"
    database.execute(
        f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'x'",
        _MAKE.format("t"),
        f"GRANT SELECT ON t TO {role}",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    follower = follow(database, publication="p", dsn=database.server.dsn_for(database.name, user=role, password="x"))
    with follower.running():
        _streams(follower, "public.t")
        assert follower.source is not None
        source = follower.source
        database.execute(_MAKE.format("second"), _FILL.format("second"))
        follower.until(lambda: "public.second" in source.status().tables)
        found = source.status().tables["public.second"]
        assert found.state == "stopped"
        assert f'GRANT SELECT ON "public"."second" TO "{role}"' in (found.error or "")
        database.execute("INSERT INTO second VALUES (5000, 5)", "INSERT INTO t VALUES (1, 1)")
        follower.until(lambda: len(follower.mirrors[None, "public.t"].rows) == 1)
        database.execute(f"GRANT SELECT ON second TO {role}")
        _streams(follower, "public.second")
        database.execute("INSERT INTO second VALUES (5001, 5)")
        follower.until(lambda: ("5001",) in follower.mirrors[None, "public.second"].rows)
        assert len(follower.mirrors[None, "public.second"].rows) == 1202


def test_a_second_table_for_a_dataset_is_stopped_and_the_first_goes_on(database15: Database, follow: Follow) -> None:
    database = database15
    database.execute(_MAKE.format("t"))
    follower = follow(database, "*.*")
    with follower.running():
        _streams(follower, "public.t")
        database.execute("CREATE SCHEMA a", _MAKE.format("a.t"), "INSERT INTO a.t VALUES (1, 1)", "INSERT INTO t VALUES (2, 2)")
        assert follower.source is not None
        source = follower.source
        follower.until(lambda: "a.t" in source.status().tables)
        assert "would both be the dataset `t`" in (source.status().tables["a.t"].error or "")
        follower.same("public.t")
    with follower.running():
        follower.same("public.t")
        assert follower.source is not None
        assert follower.source.status().tables["a.t"].state == "stopped"
