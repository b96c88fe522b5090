"""What real servers send, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from journal.schema import TableSchema
from pipeline.errors import SlotLostError
from sources.postgres.relation import Relation
from tests import pg_values, pgoutput_session
from tests.fix_postgres import Database
from tests.pgoutput_reference import ABSENT, Change
from tests.streaming import Follower, position, publish


def values(changes: list[Change]) -> list[dict[str, Any]]:
    return [change.values for change in changes]


def ops(changes: list[Change]) -> str:
    return "".join(change.op for change in changes)


def ids(changes: list[Change]) -> list[int]:
    return [int(change.values["id"]) for change in changes]


def set_for_all_sessions(database: Database, *settings: str) -> None:
    database.execute(*(f"ALTER DATABASE {database.name} SET {setting}" for setting in settings))


def test_every_kind_of_change_arrives_in_commit_order(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)", "CREATE TABLE u (id int PRIMARY KEY)")
    slot = publish(database, "TABLE t, u")
    with database.connect() as connection, connection.transaction():
        connection.execute("INSERT INTO t SELECT g, 'note ' || g FROM generate_series(1, 3) g")
        connection.execute("INSERT INTO u VALUES (1)")
        connection.execute("UPDATE t SET note = NULL WHERE id = 2")
    database.execute("DELETE FROM t WHERE id = 1", "TRUNCATE t, u", "INSERT INTO t VALUES (9, 'after')")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    t = follower.table("t")
    assert ops(t) == "IIIUDTI"
    assert ops(follower.table("u")) == "IT"
    assert values(t)[3:5] == [{"id": "2", "note": None}, {"id": "1", "note": ABSENT}]
    assert [change.nth for change in t] == [0, 1, 2, 4, 0, 0, 0]
    assert [change.nth for change in follower.table("u")] == [3, 1]
    assert [change.lsn for change in t] == sorted(change.lsn for change in t)
    assert t[-1].xid == database.rows("SELECT xmin::text::bigint FROM t")[0][0]
    (clock,) = database.rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")[0]
    assert clock - 60_000_000 < t[-1].time <= clock


def test_trap_01_transactions_that_overlap_come_in_the_order_of_their_commits(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = publish(database, "TABLE t")
    with database.connect(autocommit=False) as first, database.connect(autocommit=False) as second:
        for key in range(10):
            first.execute("INSERT INTO t VALUES (%s)", [key])
            second.execute("INSERT INTO t VALUES (%s)", [key + 100])
        second.commit()
        first.commit()
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    assert ids(follower.table("t")) == [*range(100, 110), *range(10)]
    positions = [(change.lsn, change.nth) for change in follower.table("t")]
    assert positions == sorted(set(positions))


def test_trap_01_rows_of_one_copy_have_positions_of_their_own(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = publish(database, "TABLE t")
    with database.connect() as connection, connection.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write("".join(f"{i}\n" for i in range(5000)))
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    assert [(change.nth, int(change.values["id"])) for change in follower.table("t")] == [(i, i) for i in range(5000)]


def test_trap_12_a_large_transaction_is_streamed_and_its_rolled_back_savepoints_leave_nothing(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
    set_for_all_sessions(database, "logical_decoding_work_mem = '64kB'")
    slot = publish(database, "TABLE t")
    rows = "INSERT INTO t SELECT g, repeat('x', 50) FROM generate_series(%s::int, %s::int) g"
    with database.connect() as connection, connection.transaction():
        connection.execute(rows, [1, 3000])
        connection.execute("SAVEPOINT gone")
        connection.execute("ALTER TABLE t ADD added int")
        connection.execute(rows, [3001, 6000])
        connection.execute("SAVEPOINT nested")
        connection.execute(rows, [6001, 9000])
        connection.execute("ROLLBACK TO gone")
        connection.execute("SAVEPOINT kept")
        connection.execute(rows, [9001, 12_000])
        connection.execute("RELEASE kept")
        connection.execute("UPDATE t SET note = 'y' WHERE id <= 3000")
    with Follower(database, slot, tmp_path, spool_bytes=50_000) as follower:
        follower.catch_up()
        streamed = database.rows(f"SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = '{slot}'")
    t = follower.table("t")
    assert ids(t) == [*range(1, 3001), *range(9001, 12_001), *range(1, 3001)]
    assert ops(t) == "I" * 6000 + "U" * 3000
    assert [change.nth for change in t] == list(range(9000))
    assert {(change.lsn, change.xid) for change in t} == {(t[0].lsn, t[0].xid)}
    assert set(t[0].values) == {"id", "note"}
    assert list(tmp_path.iterdir()) == []
    assert streamed[0][0] > 0, "the server did not stream: the test has tested nothing"


def test_trap_12_large_transactions_interleave_and_the_rolled_back_one_is_forgotten(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
    set_for_all_sessions(database, "logical_decoding_work_mem = '64kB'")
    slot = publish(database, "TABLE t")
    rows = "INSERT INTO t SELECT g, repeat('x', 50) FROM generate_series(%s::int, %s::int) g"
    with (
        Follower(database, slot, tmp_path, spool_bytes=100_000) as follower,
        database.connect(autocommit=False) as a,
        database.connect(autocommit=False) as b,
        database.connect(autocommit=False) as c,
        database.connect() as small,
    ):
        for round_ in range(5):
            for which, connection in enumerate((a, b, c)):
                first = which * 100_000 + round_ * 1000
                connection.execute(rows, [first, first + 999])
            small.execute("INSERT INTO t VALUES (%s, 'small')", [-1 - round_])
        b.commit()
        c.rollback()
        a.commit()
        follower.catch_up()
    assert ids(follower.table("t")) == [*range(-1, -6, -1), *range(100_000, 105_000), *range(5000)]
    assert list(tmp_path.iterdir()) == []


def test_trap_13_a_prepared_transaction_comes_when_it_is_committed_and_only_then(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = publish(database, "TABLE t")
    database.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'kept'")
    database.execute("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'dropped'")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
        assert follower.table("t") == []
        database.execute("ROLLBACK PREPARED 'dropped'", "COMMIT PREPARED 'kept'")
        follower.catch_up()
    assert ids(follower.table("t")) == [1]


def test_trap_14_logical_messages_and_origins_do_not_disturb(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "SELECT pg_replication_origin_create('elsewhere_' || current_database())")
    slot = publish(database, "TABLE t")
    with database.connect() as connection:
        connection.execute("SELECT pg_replication_origin_session_setup('elsewhere_' || current_database())")
        with connection.transaction():
            connection.execute("SELECT pg_logical_emit_message(true, 'p', 'inside')")
            connection.execute("SELECT pg_logical_emit_message(false, 'p', 'outside')")
            connection.execute("INSERT INTO t VALUES (1)")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    database.execute("SELECT pg_replication_origin_drop('elsewhere_' || current_database())")
    assert ids(follower.table("t")) == [1]


def test_trap_15_a_value_out_of_line_that_did_not_change_is_absent_or_filled_from_the_old_row(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, big text, n int)", "ALTER TABLE t ALTER big SET STORAGE EXTERNAL")
    big = "x" * 100_000
    database.execute(f"INSERT INTO t VALUES (1, '{big}', 0)")
    slot = publish(database, "TABLE t")
    database.execute("UPDATE t SET n = 1", "UPDATE t SET big = NULL", f"UPDATE t SET big = '{big}'", "ALTER TABLE t REPLICA IDENTITY FULL")
    database.execute("UPDATE t SET n = 2", "DELETE FROM t")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    t = follower.table("t")
    assert [change.values["big"] for change in t] == [ABSENT, None, big, big, big]
    assert [change.old for change in t[:3]] == [None] * 3
    assert t[3].old == {"id": "1", "big": big, "n": "1"}


def test_trap_16_an_update_tells_the_old_key_only_where_the_key_changed(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE)", "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key"
    )
    slot = publish(database, "TABLE t")
    database.execute("INSERT INTO t VALUES (1, 'a')", "UPDATE t SET id = 2", "UPDATE t SET code = 'b'", "DELETE FROM t")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    t = follower.table("t")
    assert [change.old for change in t] == [None, None, {"code": "a"}, None]
    assert values(t) == [{"id": "1", "code": "a"}, {"id": "2", "code": "a"}, {"id": "2", "code": "b"}, {"id": ABSENT, "code": "b"}]


def test_trap_16_a_key_stored_out_of_line_comes_with_every_update(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (k text PRIMARY KEY, n int)", "ALTER TABLE t ALTER k SET STORAGE EXTERNAL")
    database.execute("INSERT INTO t VALUES (repeat('k', 2500), 1)")
    slot = publish(database, "TABLE t")
    database.execute("UPDATE t SET n = 2")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    (change,) = follower.table("t")
    assert change.old == {"k": "k" * 2500}
    assert change.values["n"] == "2"


def test_trap_17_a_row_filter_turns_updates_at_its_border_into_inserts_and_deletes(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, region text)", "ALTER TABLE t REPLICA IDENTITY FULL")
    slot = publish(database, "TABLE t WHERE (region = 'EU')")
    database.execute("INSERT INTO t VALUES (1, 'US')", "UPDATE t SET region = 'EU'", "UPDATE t SET region = 'US'")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    assert ops(follower.table("t")) == "ID"


def test_trap_18_generated_columns_are_not_in_the_stream(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)")
    slot = publish(database, "TABLE t")
    database.execute("INSERT INTO t VALUES (1)")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    assert values(follower.table("t")) == [{"id": "1"}]


def test_trap_19_what_a_role_or_database_sets_does_not_change_how_values_are_written(database: Database, tmp_path: Path) -> None:
    set_for_all_sessions(database, "datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'", "timezone = 'Asia/Kolkata'")
    set_for_all_sessions(database, "extra_float_digits = 0", "bytea_output = 'escape'")
    database.execute("CREATE TABLE t (id int PRIMARY KEY, d date, z timestamptz, i interval, f float8, b bytea)")
    slot = publish(database, "TABLE t")
    database.execute("INSERT INTO t VALUES (1, '2024-02-03', '2024-02-03 04:05:06+00', '1 day 02:00:00', 0.1::float8 + 0.2, '\\x00ff')")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    assert values(follower.table("t")) == [
        {"id": "1", "d": "2024-02-03", "z": "2024-02-03 04:05:06+00", "i": "1 day 02:00:00", "f": "0.30000000000000004", "b": "\\x00ff"}
    ]


def test_trap_20_values_of_every_type_are_what_the_server_writes(database: Database, tmp_path: Path) -> None:
    database.execute(*pg_values.SET_UP, pg_values.create("t"))
    slot = publish(database, "TABLE t")
    database.execute(pg_values.insert("t", 0, database.version))
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    names = ["id", *pg_values.columns()]
    # COPY writes values with their types' own output functions; a cast to text trims char(n).
    pinned = "SET intervalstyle = postgres; SET timezone = 'UTC'; SET extra_float_digits = 3; SET datestyle = ISO; SET lc_monetary = 'C'"
    with database.connect() as connection:
        connection.execute(pinned.encode())
        with connection.cursor().copy("COPY (SELECT * FROM t ORDER BY id) TO STDOUT") as copy:
            expected = [dict(zip(names, row, strict=True)) for row in copy.rows()]
    assert values(follower.table("t")) == [
        {name: None if value is None else value.decode() if isinstance(value, bytes) else value for name, value in row.items()}
        for row in expected
    ]


def test_trap_21_columns_follow_the_stream_and_not_the_catalogue(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text)")
    slot = publish(database, "TABLE t")
    database.execute("INSERT INTO t VALUES (1, 'a')", "ALTER TABLE t ADD b text DEFAULT 'b'", "INSERT INTO t VALUES (2, 'a')")
    database.execute("ALTER TABLE t RENAME a TO c", "UPDATE t SET c = 'c' WHERE id = 2", "ALTER TABLE t DROP c", "INSERT INTO t VALUES (3)")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    assert values(follower.table("t")) == [
        {"id": "1", "a": "a"},
        {"id": "2", "a": "a", "b": "b"},
        {"id": "2", "c": "c", "b": "b"},
        {"id": "3", "b": "b"},
    ]


def test_trap_22_a_publication_that_is_not_there_at_this_point_of_the_log_is_an_error(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = publish(database, "TABLE t")
    with Follower(database, slot, tmp_path) as follower:
        database.execute("INSERT INTO t VALUES (1)")
        follower.catch_up()
        database.execute("DROP PUBLICATION p", "INSERT INTO t VALUES (2)")
        error = follower.until_broken()
    assert ids(follower.table("t")) == [1]
    assert isinstance(error, SlotLostError)
    assert "publication" in error.message
    assert error.hint is not None
    assert "resync" in error.hint


def test_trap_23_partitions_published_through_their_root_have_the_columns_of_the_root(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (id int, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
        "CREATE TABLE t_eu (note text, region text NOT NULL, dropped int, id int NOT NULL)",
        "ALTER TABLE t_eu DROP dropped",
        "ALTER TABLE t ATTACH PARTITION t_eu FOR VALUES IN ('EU')",
        "CREATE TABLE t_us PARTITION OF t FOR VALUES IN ('US')",
    )
    slot = publish(database, "TABLE t", options="WITH (publish_via_partition_root = true)")
    database.execute("INSERT INTO t VALUES (1, 'EU', 'a'), (2, 'US', 'b')", "UPDATE t SET region = 'US' WHERE id = 1")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    assert set(follower.received.changes) == {"public.t"}
    assert ops(follower.table("t")) == "IIDI"
    assert values(follower.table("t"))[0] == {"id": "1", "region": "EU", "note": "a"}


def test_trap_24_one_truncate_reaches_each_of_its_tables_once_and_in_place(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY REFERENCES a)")
    slot = publish(database, "TABLE a, b")
    with database.connect() as connection, connection.transaction():
        connection.execute("INSERT INTO a VALUES (1)")
        connection.execute("INSERT INTO b VALUES (1)")
        connection.execute("TRUNCATE a RESTART IDENTITY CASCADE")
        connection.execute("INSERT INTO a VALUES (2)")
        connection.execute("INSERT INTO b VALUES (2)")
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    assert ops(follower.table("a")) == ops(follower.table("b")) == "ITI"
    nths = sorted(change.nth for table in ("a", "b") for change in follower.table(table))
    assert nths == list(range(6))


def test_tables_that_are_not_wanted_are_passed_over(database: Database, tmp_path: Path) -> None:
    def resolve(relation: Relation) -> TableSchema | None:
        return pgoutput_session.resolve(relation) if relation.table == "wanted" else None

    database.execute("CREATE TABLE wanted (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)")
    slot = publish(database, "TABLE wanted, other")
    database.execute("BEGIN; INSERT INTO other VALUES (1); INSERT INTO wanted VALUES (1); TRUNCATE other, wanted; COMMIT")
    with Follower(database, slot, tmp_path, resolve=resolve) as follower:
        follower.catch_up()
    assert set(follower.received.changes) == {"public.wanted"}
    assert ops(follower.table("wanted")) == "IT"


def test_names_with_quotes_capitals_and_dots_and_1600_columns(database: Database, tmp_path: Path) -> None:
    wide = ", ".join(f'"Column ""{i}""" int' for i in range(1599))
    database.execute('CREATE SCHEMA "My.Schema"', f'CREATE TABLE "My.Schema"."A ""wide"" one" (id int PRIMARY KEY, {wide})')
    slot = publish(database, 'TABLE "My.Schema"."A ""wide"" one"')
    database.execute('INSERT INTO "My.Schema"."A ""wide"" one" SELECT g, g FROM generate_series(1, 20) g')
    with Follower(database, slot, tmp_path) as follower:
        follower.catch_up()
    rows = follower.received.changes['"My.Schema"."A ""wide"" one"']
    assert [row.values['Column "0"'] for row in rows] == [str(i) for i in range(1, 21)]
    assert len(rows[0].values) == 1600


def test_an_empty_log_is_no_change_and_its_end_is_told(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE other (id int)")
    slot = publish(database, "TABLE t")
    database.execute("INSERT INTO other VALUES (1)")
    with Follower(database, slot, tmp_path) as follower:
        received = follower.catch_up()
    assert received.changes == {}
    assert received.last_end is not None
    assert received.last_end >= position(database) - 1000
