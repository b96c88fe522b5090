"""A Postgres source from its first copy through crashes and restarts, on real servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from journal.batch import Presence
from pipeline.errors import Refused, TransientError
from sources.postgres import recall, taker
from sources.postgres.position import Watermark
from tests.fix_follower import Follow
from tests.fix_postgres import Database, Launch
from tests.follower import batches
from tests.two_tables import both_same
from tests.waiting import wait_for


@contextmanager
def _writing(database: Database) -> Iterator[None]:
    """Transactions of every kind, one after the other, until the end of the block."""
    over = threading.Event()

    def write() -> None:
        with database.connect() as connection:
            n = 100_000
            while not over.is_set():
                n += 3
                try:
                    with connection.transaction():
                        connection.execute("INSERT INTO orders VALUES (%s, 'new'), (%s, 'new'), (%s, 'new')", [n, n + 1, n + 2])
                        connection.execute("UPDATE orders SET n = n + 1 WHERE id %% 100 = %s", [n % 100])
                        connection.execute("UPDATE orders SET id = -id WHERE id = %s", [n + 1])
                        connection.execute("DELETE FROM orders WHERE id = %s", [n % 3000])
                        connection.execute("INSERT INTO events VALUES ('streamed', %s), ('streamed', %s)", [n, n % 7])
                        if n % 5 == 0:
                            raise psycopg.Rollback
                except psycopg.Rollback:
                    continue

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_trap_25_the_copy_and_the_stream_meet_without_gap_or_overlap_under_concurrent_writes(everywhere: Database, follow: Follow) -> None:
    follower = follow(everywhere)
    with follower.running():
        with _writing(everywhere):
            follower.until(lambda: follower.copied == {"public.orders", "public.events"})
            follower.until(lambda: len(batches(follower, "public.orders")) > 20)
        both_same(follower)


def test_after_a_restart_the_stream_goes_on_where_the_journal_ends(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with _writing(shop):
        for _ in range(4):
            with follower.running():
                seen = follower.segments
                follower.until(lambda seen=seen: follower.segments > seen + 15)  # type: ignore[misc]
    with follower.running():
        both_same(follower)


def test_what_breaks_the_connection_is_followed_by_neither_loss_nor_repetition(everywhere: Database, follow: Follow) -> None:
    follower = follow(everywhere)
    kill = (
        f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{follower.slot}' AND active_pid IS NOT NULL"
    )
    with follower.running():
        follower.until(lambda: follower.copied == {"public.orders", "public.events"})
        with _writing(everywhere):
            for broken in range(1, 5):

                def again(broken: int = broken) -> bool:
                    everywhere.execute(kill)
                    return follower.source is not None and follower.source.status().reconnects >= broken

                follower.until(again)
                seen = follower.segments
                follower.until(lambda seen=seen: follower.segments > seen + 3)  # type: ignore[misc]
        both_same(follower)


def test_a_transaction_of_which_half_was_taken_is_not_taken_twice(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with follower.running():
        both_same(follower)
        with shop.connect() as connection:
            # below logical_decoding_work_mem, so that it is sent at its commit, and larger than one chunk
            connection.execute("INSERT INTO events SELECT repeat('x', 80), n FROM generate_series(1, 60000) n")
        assert follower.source is not None
        whole = 50 + 60_000
        follower.until(lambda: any(len(entry) for segment in follower._open for entry in segment.entries if hasattr(entry, "op")), 30)  # type: ignore[arg-type]
        shop.execute(f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{follower.slot}'")
        follower.until(lambda: sum(len(b) for b in batches(follower, "public.events")) >= whole, 60)
        follower.caught_up()
        assert sum(len(batch) for batch in batches(follower, "public.events")) == whole


def test_a_stretch_that_ends_inside_a_transaction_is_committed_up_to_it(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with follower.running():
        both_same(follower)
    with shop.connect() as connection:
        for n in range(300):
            connection.execute("INSERT INTO events SELECT repeat('x', 60), %s FROM generate_series(1, 250)", [n])
    source = follower.start()
    head = source.head()
    open_rows = whole_rows = 0
    watermark = follower.watermark
    while not source.reached(watermark, head):
        segment = source.take(1.0)
        assert segment is not None
        transactions = {int(lsn) for entry in segment.entries for lsn in entry.lsn}  # type: ignore[union-attr]
        if segment.watermark is None:
            assert len(transactions) == 1
            open_rows += segment.rows
        else:
            whole_rows += segment.rows
            watermark = segment.watermark
            source.confirm(watermark)
    assert (open_rows + whole_rows, open_rows > 0, whole_rows > 30_000) == (75_000, True, True)


def test_trap_30_a_server_that_is_restarted_is_found_again(launch_postgres: Launch, follow: Follow) -> None:
    server = launch_postgres(15)
    database = Database(server, "postgres")
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    follower = follow(database, "public.t")
    with follower.running():
        follower.same("public.t")
        for mode in ("fast", "immediate"):
            server.stop(mode)
            follower.until(lambda: follower.source is not None and follower.source.status().state == "retrying")
            server.start()
            database.execute("INSERT INTO t SELECT max(id) + 1 FROM t")
            follower.same("public.t")
        assert follower.source is not None
        assert follower.source.status().error is None


def test_a_server_that_is_away_at_the_start_is_waited_for(launch_postgres: Launch, follow: Follow) -> None:
    server = launch_postgres(15)
    database = Database(server, "postgres")
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    follower = follow(database, "public.t")
    server.stop()
    with follower.running():
        follower.until(lambda: follower.source is not None and follower.source.status().reconnects > 1)
        server.start()
        follower.same("public.t")


def test_a_wrong_password_ends_the_source_at_once(shop: Database, follow: Follow) -> None:
    follower = follow(shop, dsn=shop.server.dsn_for(shop.name, password="wrong"))
    with follower.running(), pytest.raises(Refused, match="password"):
        follower.until(lambda: False)
    with follower.running():
        assert follower.source is not None
        source = follower.source
        wait_for(lambda: source.status().state == "stopped", message="the source to stop")


def test_trap_27_a_crash_in_the_middle_of_the_first_copy_keeps_what_is_whole_and_copies_the_rest(shop: Database, follow: Follow) -> None:
    shop.execute(
        "CREATE TABLE large (id int PRIMARY KEY, v text)", "INSERT INTO large SELECT n, repeat('x', 100) FROM generate_series(1, 100000) n"
    )
    follower = follow(shop, "public.events", "public.large", "public.orders")
    with _writing(shop):
        with follower.running():
            follower.until(lambda: "public.large" in follower.begun and len(batches(follower, "public.large")) > 0)
        assert (follower.copied, follower.begun) == ({"public.events"}, {"public.large"})
        seen = len(batches(follower, "public.events"))
        shop.execute("DELETE FROM large WHERE id <= 500", "UPDATE large SET v = 'changed' WHERE id % 1000 = 0")
        with follower.running():
            follower.until(lambda: follower.copied == {"public.events", "public.large", "public.orders"}, 60)
    assert not any((batch.op == ord("R")).any() for batch in batches(follower, "public.events")[seen:])
    with follower.running():
        both_same(follower)
        follower.same("public.large")


def test_a_crash_after_the_slot_was_made_and_before_anything_was_journaled_heals(everywhere: Database, follow: Follow) -> None:
    follower = follow(everywhere)
    for _ in range(2):
        follower.start()
        wait_for(lambda: everywhere.rows(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{follower.slot}'"), message="the slot")
        follower.kill()
        everywhere.execute("INSERT INTO events VALUES ('between', 0)")
    with follower.running():
        both_same(follower)
    assert not (follower.folder / "slot-portal.json").exists()


def test_trap_28_the_position_moves_on_while_the_tables_rest(shop: Database, follow: Follow) -> None:
    shop.execute("CREATE TABLE busy (id int)")
    follower = follow(shop, "public.orders", "public.events")
    with follower.running():
        both_same(follower)
        before = Watermark.decode(follower.watermark or "").lsn
        shop.execute("INSERT INTO busy SELECT generate_series(1, 10000)")
        end = shop.rows("SELECT pg_current_wal_flush_lsn() - '0/0'")[0][0]
        assert end > before + 100_000
        follower.until(lambda: Watermark.decode(follower.watermark or "").lsn >= end)

        def confirmed() -> bool:
            follower.step()
            return bool(
                shop.rows(f"SELECT confirmed_flush_lsn - '0/0' >= {end} FROM pg_replication_slots WHERE slot_name = '{follower.slot}'")[0][
                    0
                ]
            )

        wait_for(confirmed, message="the slot to move on")


def test_nothing_is_acknowledged_that_was_not_confirmed(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with follower.running():
        both_same(follower)
        durable = Watermark.decode(follower.watermark or "").lsn
        assert follower.source is not None
        shop.execute("INSERT INTO events VALUES ('taken', 1)")
        source = follower.source
        wait_for(lambda: source.take(0.1), message="a segment")  # and never confirmed
        slot = f"SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = '{follower.slot}'"
        source.close()
        assert int(shop.rows(slot)[0][0]) <= durable
        follower.source = None
    with follower.running():
        both_same(follower)


def test_with_snapshot_never_only_what_comes_is_streamed(shop: Database, follow: Follow) -> None:
    follower = follow(shop, snapshot="never")
    with follower.running():
        follower.until(lambda: follower.watermark is not None)
        shop.execute("INSERT INTO events VALUES ('new', 1)")
        follower.until(lambda: len(batches(follower, "public.events")) == 1)
    shop.execute("INSERT INTO events VALUES ('new', 2)")
    with follower.running():
        follower.until(lambda: len(batches(follower, "public.events")) == 2)
    assert follower.mirrors[None, "public.events"].sorted() == [("new", "1"), ("new", "2")]
    assert follower.begun == follower.copied == set()


def test_a_slot_and_publication_made_by_hand_serve_a_copy_as_well(everywhere: Database, follow: Follow) -> None:
    follower = follow(everywhere, publication="p", create=False)
    everywhere.execute(
        "CREATE PUBLICATION p FOR TABLE orders, events", f"SELECT pg_create_logical_replication_slot('{follower.slot}', 'pgoutput')"
    )
    everywhere.execute("INSERT INTO events VALUES ('before the start', 1)")
    with _writing(everywhere), follower.running():
        follower.until(lambda: follower.copied == {"public.orders", "public.events"})
    with follower.running():
        both_same(follower)


def test_values_that_the_log_left_out_are_read_again_where_that_is_wanted(database: Database, follow: Follow) -> None:
    database.execute(
        "CREATE TABLE t (a int, b text, long text, other text, n int, PRIMARY KEY (a, b))",
        "ALTER TABLE t ALTER long SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT n, 'it''s \"' || n || E'\\\\', repeat('x', 5000) || n, repeat('y', 5000) || n, 0"
        " FROM generate_series(1, 20) n",
    )
    follower = follow(database, "public.t", recall=True)
    with follower.running():
        follower.same("public.t")
        with database.connect() as connection, connection.transaction():
            connection.execute("UPDATE t SET n = 1")
            connection.execute("UPDATE t SET long = 'newer' WHERE a = 3")
            connection.execute("DELETE FROM t WHERE a = 4")
            connection.execute("UPDATE t SET b = 'moved' WHERE a = 5")
        follower.same("public.t")
    update = batches(follower, "public.t")[1]
    long, presence = update.schema.index("long"), update.presence
    keys = update.column("a").to_pylist()
    codes = [int(code) for code in presence[long]]
    assert (codes[keys.index("1")], codes[keys.index("4")], codes[keys.index("5")]) == (Presence.RECALLED, Presence.ABSENT, Presence.ABSENT)
    values = update.columns[long].to_pylist()
    assert values[keys.index("1")] == "x" * 5000 + "1"
    assert values[keys.index("3")] == "newer"  # as it is now, not as it was then


def test_values_that_cannot_be_read_again_now_are_asked_for_now_and_then_and_nothing_is_lost(
    database: Database, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, long text, n int)",
        "ALTER TABLE t ALTER long SET STORAGE EXTERNAL",
        "INSERT INTO t VALUES (1, repeat('x', 5000), 0)",
    )
    asked: list[float] = []
    read = recall.recalled

    def away(*arguments: Any) -> Any:
        asked.append(time.monotonic())
        if asked[-1] - asked[0] < 0.8:
            raise TransientError("the server is away")
        return read(*arguments)

    follower = follow(database, "public.t", recall=True)
    with follower.running():
        follower.same("public.t")
        monkeypatch.setattr(taker, "recalled", away)
        database.execute("UPDATE t SET n = 1")
        follower.same("public.t")
    assert 2 <= len(asked) <= 4


def test_the_head_is_reached_and_the_lag_is_told(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with follower.running():
        follower.caught_up()
        assert follower.source is not None
        source = follower.source
        shop.execute("INSERT INTO events VALUES ('x', 1)")
        head = source.head()
        assert not source.reached(None, head)
        assert not source.reached(follower.watermark, head)
        wait_for(lambda: (source.status().lag_bytes or 0) > 0, message="the lag to be seen")
        wait_for(lambda: (source.status().lag_seconds or 0) > 0.2, message="the lag to grow")
        follower.until(lambda: source.reached(follower.watermark, head))
        follower.until(lambda: source.status().lag_bytes == 0 and source.status().lag_seconds == 0.0)
        status = source.status()
        assert (status.state, status.confirmed, status.error) == ("streaming", status.server, None)
        follower.until(lambda: source.status().wal_status == "reserved")
        assert {table: found.state for table, found in status.tables.items()} == {
            "public.orders": "streaming",
            "public.events": "streaming",
        }
    assert source.status().state == "stopped"


def test_the_head_covers_what_committed_without_waiting_for_the_disk(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with follower.running():
        follower.caught_up()
        with shop.connect() as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute("INSERT INTO events VALUES ('async', 1)")
        assert follower.source is not None
        head, source = follower.source.head(), follower.source
        follower.until(lambda: source.reached(follower.watermark, head))
        assert ("async", "1") in follower.mirrors[None, "public.events"].sorted()


def test_a_table_is_read_for_comparison_as_it_is_now(shop: Database, follow: Follow) -> None:
    follower = follow(shop, publication="p")
    shop.execute("CREATE PUBLICATION p FOR TABLE orders WHERE (id > 10), events")
    with follower.running():
        follower.caught_up()
        schema = follower.schemas["public.orders"]
        assert follower.source is not None
        source = follower.source
        found: list[str] = []
        head = source.read_table("public.orders", schema, None, lambda batch: found.extend(batch.column("id").to_pylist()))
        assert sorted(map(int, found)) == list(range(11, 3001))
        follower.until(lambda: source.reached(follower.watermark, head))
        keys = next(batch for batch in batches(follower, "public.orders") if len(batch) > 5).slice(0, 3)
        some: list[str] = []
        source.read_table("public.orders", schema, keys, lambda batch: some.extend(batch.column("id").to_pylist()))
        assert sorted(some) == sorted(keys.column("id").to_pylist())
        with pytest.raises(Refused, match="not there"):
            source.read_table("public.nowhere", schema, None, lambda batch: None)
