"""A slot that is gone, came back as another, belongs to somebody or waits: a gap is never passed over in silence."""

from __future__ import annotations

import json
import os

import psycopg
import pytest
from structlog.testing import capture_logs

from pipeline.errors import AlreadyRunningError, SlotLostError
from sources.postgres import supervisor
from sources.postgres.slot import timeline_parents
from tests.fix_follower import Follow
from tests.fix_postgres import Database, Launch
from tests.two_tables import both_same, slot_made_by_hand, slot_rests
from tests.waiting import wait_for


def test_a_slot_that_nobody_here_made_is_not_taken(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    shop.execute(
        "CREATE PUBLICATION p FOR TABLE orders, events", f"SELECT pg_create_logical_replication_slot('{follower.slot}', 'pgoutput')"
    )
    follower.config["publication"] = "p"
    with follower.running(), pytest.raises(Exception, match="has never read from it"):
        follower.until(lambda: False)


def test_trap_10_a_slot_that_was_dropped_or_made_again_is_a_gap(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with follower.running():
        both_same(follower)
    slot_rests(follower)
    shop.execute(f"SELECT pg_drop_replication_slot('{follower.slot}')")
    with follower.running(), pytest.raises(SlotLostError, match="is gone") as gone:
        follower.until(lambda: False)
    assert "sluice resync" in (gone.value.hint or "")
    shop.execute("INSERT INTO events VALUES ('lost', 1)", slot_made_by_hand(follower))
    with follower.running(), pytest.raises(SlotLostError, match="beyond") as again:
        follower.until(lambda: False)
    assert "sluice resync" in (again.value.hint or "")
    assert follower.make().preflight(follower.resume).problems


def test_trap_10_another_server_or_one_restored_to_an_earlier_time_is_a_gap(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with follower.running():
        both_same(follower)
    assert follower.watermark is not None
    found = json.loads(follower.watermark)
    for change, said in (
        ({"system": "1"}, "another server"),
        ({"lsn": found["lsn"] + (1 << 40)}, "restored"),
        ({"slot": "x"}, "through the slot"),
    ):
        follower.watermark = json.dumps({**found, **change})
        with follower.running(), pytest.raises(SlotLostError, match=said):
            follower.until(lambda: False)


def test_trap_10_a_slot_that_comes_back_as_another_while_running_ends_the_source(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with follower.running():
        both_same(follower)

        def dropped() -> bool:
            shop.execute(f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{follower.slot}'")
            try:
                shop.execute(f"SELECT pg_drop_replication_slot('{follower.slot}')")
            except psycopg.Error:
                return False
            return True

        wait_for(dropped, message="the slot to be dropped")
        with pytest.raises(SlotLostError):
            follower.until(lambda: False)
        assert follower.source is not None
        assert follower.source.status().state == "stopped"


@pytest.mark.parametrize("version", [15, 18])
def test_trap_11_a_slot_whose_log_was_removed_is_lost(version: int, launch_postgres: Launch, follow: Follow) -> None:
    server = launch_postgres(
        version, settings={"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB", "wal_keep_size": 0}
    )
    database = Database(server, "postgres")
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    follower = follow(database, "public.t")
    with follower.running():
        follower.same("public.t")

    def lost() -> bool:
        database.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 8000000))", "SELECT pg_switch_wal()", "CHECKPOINT")
        return database.rows("SELECT wal_status FROM pg_replication_slots") == [("lost",)]

    wait_for(lost, message="the slot to be lost")
    with follower.running(), pytest.raises(SlotLostError) as told:
        follower.until(lambda: False)
    assert "sluice resync" in (told.value.hint or "")


def test_trap_11_a_slot_that_another_reads_is_waited_for_and_then_told(
    shop: Database, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = follow(shop), follow(shop)
    with first.running():
        both_same(first)
        second.watermark, second.copied = first.watermark, set(first.copied)
        second.config["slot"] = first.slot
        with second.running():
            second.until(lambda: second.source is not None and second.source.status().state == "retrying")
        monkeypatch.setattr(supervisor, "_OCCUPIED", 1.0)
        with second.running(), pytest.raises(AlreadyRunningError, match="active"):
            second.until(lambda: False)


def test_making_the_slot_waits_for_open_transactions_and_says_for_which(shop: Database, follow: Follow) -> None:
    with shop.connect() as writer:
        writer.execute("BEGIN")
        writer.execute("SET application_name = 'the slow one'")
        writer.execute("INSERT INTO events VALUES ('open', 1)")
        pid = writer.info.backend_pid
        follower = follow(shop)
        with capture_logs() as logs, follower.running():
            follower.until(lambda: any("waits for open transactions" in entry["event"] for entry in logs))
            told = next(entry["oldest"] for entry in logs if "waits for open transactions" in entry["event"])
            assert f"pid {pid}" in told
            assert "the slow one" in told
            writer.execute("COMMIT")
            both_same(follower)


def test_closing_while_the_slot_waits_leaves_no_slot_behind(shop: Database, follow: Follow) -> None:
    with shop.connect() as writer:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO events VALUES ('open', 1)")
        follower = follow(shop)
        follower.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%' AND state = 'active'"
        wait_for(lambda: shop.rows(waits), message="the slot to be in the making")
        follower.kill()
        wait_for(lambda: not shop.rows(waits), message="the making to end")
        writer.execute("COMMIT")
    assert shop.rows(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{follower.slot}'") == []


def test_starting_over_drops_the_slot_and_copies_everything_anew(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    with follower.running():
        both_same(follower)
    slot_rests(follower)
    source = follower.make()
    dropped = f"SELECT pg_drop_replication_slot('{follower.slot}')"
    told = source.start_over(do=False).actions
    assert dropped in told
    assert source.start_over(do=True).actions == told
    assert dropped not in source.start_over(do=True).actions
    shop.execute("DELETE FROM orders WHERE id < 100", "INSERT INTO events VALUES ('while away', 1)")
    follower.watermark, follower.begun, follower.copied = None, set(follower.copied), set()
    with follower.running():
        both_same(follower)


def test_timelines_are_read_from_their_history() -> None:
    history = "1\t0/3000148\tno recovery target specified\n\n# a comment\n2\t1/A0\tbefore 2024-01-01\n"
    assert timeline_parents(history) == ((1, 0x3000148), (2, (1 << 32) + 0xA0))


def test_trap_10_after_a_failover_the_stream_goes_on_only_from_before_the_fork(launch_postgres: Launch, follow: Follow) -> None:
    server = launch_postgres(18)
    database = Database(server, "postgres")
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    follower = follow(database, "public.t")
    with follower.running():
        follower.same("public.t")
    # the end of a recovery makes a new timeline, as a promotion does
    server.settings["restore_command"] = "false"
    server.stop()
    recovery = server.data / "recovery.signal"
    recovery.touch()
    owner = server.data.stat()
    os.chown(recovery, owner.st_uid, owner.st_gid)
    server.start()
    wait_for(lambda: database.rows("SELECT pg_is_in_recovery()") == [(False,)], message="the recovery to end")
    assert database.rows("SELECT timeline_id FROM pg_control_checkpoint()") == [(2,)]
    database.execute("INSERT INTO t VALUES (2)")
    with follower.running():
        follower.same("public.t")
    found = json.loads(follower.watermark or "")
    follower.watermark = json.dumps({**found, "timeline": 1})
    with follower.running(), pytest.raises(SlotLostError, match="timeline"):
        follower.until(lambda: False)
