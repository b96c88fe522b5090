"""What stands in the way of a source is said before anything is made, each with the statement that mends it."""

from __future__ import annotations

import psycopg
import pytest

from examples.embedded_postgres import EmbeddedPostgres
from pipeline.errors import PreflightError, Refused, TransientError
from sources.base import CopyState, Preflight, Resume
from tests.fix_follower import Follow
from tests.fix_postgres import PASSWORD, Database, Launch, MakeDatabase
from tests.follower import Follower

FIRST = Resume(None, CopyState(), {})
_WORD = "a-word-of-the-reader"


def _look(follower: Follower) -> Preflight:
    return follower.make().preflight(FIRST)


def _told(found: Preflight) -> list[tuple[str, str | None]]:
    return [(problem.message, problem.hint) for problem in found.problems]


def _only(found: Preflight) -> tuple[str, str]:
    assert len(found.problems) == 1, found.problems
    return found.problems[0].message, found.problems[0].hint or ""


@pytest.fixture
def shop(database: Database) -> Database:
    """A table that is fit."""
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, region text)")
    return database


def _reader(database: Database, *, options: str = "REPLICATION") -> str:
    """A role that may log in, and no more than `options`; its dsn."""
    name = f"reader_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{_WORD}' {options}")
    return database.server.dsn_for(database.name, user=name, password=_WORD)


@pytest.fixture
def reader(shop: Database) -> str:
    """The dsn of a role with nothing but REPLICATION."""
    return _reader(shop)


def test_a_source_that_is_ready_says_what_would_be_made(shop: Database, follow: Follow) -> None:
    follower = follow(shop)
    found = _look(follower)
    assert found.problems == []
    assert found.refusal() is None
    assert [column.name for column in found.tables["public.orders"].columns] == ["id", "region"]
    create, comment, slot, copy = found.actions
    assert create.startswith(
        f'CREATE PUBLICATION "{follower.slot}" FOR TABLE ONLY "public"."orders" WITH (publish_via_partition_root = true'
    )
    assert comment == f"COMMENT ON PUBLICATION \"{follower.slot}\" IS 'made by Sluice for test.portal'"
    assert slot.startswith(f"CREATE_REPLICATION_SLOT {follower.slot} LOGICAL pgoutput")
    assert copy == "copy public.orders"
    assert shop.rows("SELECT count(*) FROM pg_publication") == [(0,)]
    assert shop.rows(f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{follower.slot}'") == [(0,)]


def test_a_missing_table_is_refused_and_the_nearest_name_is_offered(shop: Database, follow: Follow) -> None:
    found = _look(follow(shop, "public.order"))
    assert _only(found) == ("public.order: there is no such table", "did you mean public.orders?")
    assert isinstance(found.refusal(), Refused)


def test_partitions_and_views_are_no_tables_to_follow(shop: Database, follow: Follow) -> None:
    shop.execute(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9)",
        "CREATE VIEW seen AS SELECT * FROM orders",
    )
    assert _told(_look(follow(shop, "public.leaf", "public.seen"))) == [
        ("public.leaf: it is a partition; its changes come under the name of its root", "name public.root in its place"),
        ("public.seen: it is a view, which has no changes in the log", "name the tables behind it"),
    ]


def test_unlogged_and_foreign_tables_are_refused_by_name_and_left_out_by_pattern(shop: Database, follow: Follow) -> None:
    shop.execute(
        "CREATE UNLOGGED TABLE cache (id int PRIMARY KEY)",
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE FOREIGN TABLE far (id int) SERVER elsewhere",
    )
    named = _look(follow(shop, "public.cache", "public.far"))
    assert [problem.hint for problem in named.problems] == [
        'ALTER TABLE "public"."cache" SET LOGGED',
        "name the table at the server where it is",
    ]
    matched = _look(follow(shop, "public.*"))
    assert (matched.problems, set(matched.tables)) == ([], {"public.orders"})
    assert "unlogged" in "".join(advice.message for advice in matched.advice)
    by_hand = next(problem.hint for problem in _look(follow(shop, "public.*", create=False)).problems)
    assert by_hand is not None
    assert "orders" in by_hand
    assert "cache" not in by_hand


def test_trap_29_a_table_without_replica_identity_is_refused_before_updates_break(shop: Database, follow: Follow) -> None:
    shop.execute("CREATE TABLE heap (x int)", "INSERT INTO heap VALUES (1)")
    follower = follow(shop)
    message, hint = _only(_look(follower))
    assert "public.heap has no replica identity and no primary key" in message
    assert 'ALTER TABLE "public"."heap" REPLICA IDENTITY FULL' in hint
    follower.start()
    with pytest.raises(PreflightError, match=r"public\.heap"):
        follower.until(lambda: False)
    shop.execute("UPDATE heap SET x = 2")  # nothing was published
    assert shop.rows("SELECT count(*) FROM pg_publication") == [(0,)]


def test_grants_that_are_missing_are_all_told(shop: Database, reader: str, follow: Follow) -> None:
    shop.execute("CREATE SCHEMA hidden", "CREATE TABLE hidden.t (id int PRIMARY KEY)")
    role = f"reader_{shop.name}"
    hints = [hint or "" for _, hint in _told(_look(follow(shop, "public.orders", "hidden.t", dsn=reader)))]
    joined = "\n".join(hints)
    assert f'GRANT CREATE ON DATABASE "{shop.name}" TO "{role}"' in joined
    assert f'GRANT SELECT ON "public"."orders" TO "{role}"' in joined
    assert f'GRANT USAGE ON SCHEMA "hidden" TO "{role}"' in joined
    assert f'GRANT "postgres" TO "{role}"' in joined


def test_a_role_without_replication_is_told(shop: Database, follow: Follow) -> None:
    dsn = _reader(shop, options="")
    hints = [hint for _, hint in _told(_look(follow(shop, "public.orders", dsn=dsn)))]
    assert f'ALTER ROLE "reader_{shop.name}" REPLICATION' in hints


def test_the_least_that_a_role_needs_is_enough(shop: Database, reader: str, follow: Follow) -> None:
    role = f"reader_{shop.name}"
    shop.execute(
        "INSERT INTO orders VALUES (1, 'EU')",
        f"GRANT SELECT ON orders TO {role}",
        "CREATE PUBLICATION sluice FOR TABLE orders WITH (publish_via_partition_root = true)",
    )
    follower = follow(shop, "public.orders", dsn=reader, publication="sluice")
    assert _told(_look(follower)) == []
    with follower.running():
        follower.same("public.orders")
        shop.execute("INSERT INTO orders VALUES (2, 'US')")
        follower.same("public.orders")


def test_a_role_that_may_make_the_publication_makes_it(shop: Database, reader: str, follow: Follow) -> None:
    role = f"reader_{shop.name}"
    shop.execute(
        f"CREATE ROLE app_{shop.name}",
        f"ALTER TABLE orders OWNER TO app_{shop.name}",
        f"GRANT app_{shop.name} TO {role}",
        f"GRANT CREATE ON DATABASE {shop.name} TO {role}",
        "INSERT INTO orders VALUES (1, 'EU')",
    )
    follower = follow(shop, dsn=reader)
    assert _told(_look(follower)) == []
    with follower.running():
        follower.same("public.orders")
        shop.execute("CREATE TABLE late (id int PRIMARY KEY)", f"ALTER TABLE late OWNER TO app_{shop.name}", "INSERT INTO late VALUES (1)")
        follower.until(lambda: "public.late" in follower.copied)
        follower.same("public.late")


def test_some_columns_are_enough_where_the_publication_has_no_others(shop: Database, reader: str, follow: Follow) -> None:
    role = f"reader_{shop.name}"
    shop.execute(
        "INSERT INTO orders VALUES (1, 'EU')",
        f"GRANT SELECT (id) ON orders TO {role}",
        "CREATE PUBLICATION sluice FOR TABLE orders (id)",
    )
    follower = follow(shop, "public.orders", dsn=reader, publication="sluice")
    assert _told(_look(follower)) == []
    with follower.running():
        follower.until(lambda: "public.orders" in follower.copied)
    assert follower.mirrors[None, "public.orders"].sorted() == [("1",)]


def test_row_level_security_that_would_hide_rows_is_told(shop: Database, reader: str, follow: Follow) -> None:
    role = f"reader_{shop.name}"
    shop.execute(
        f"GRANT SELECT ON orders TO {role}", "ALTER TABLE orders ENABLE ROW LEVEL SECURITY", "CREATE PUBLICATION sluice FOR TABLE orders"
    )
    message, hint = _only(_look(follow(shop, "public.orders", dsn=reader, publication="sluice")))
    assert ("row-level security" in message, hint) == (True, f'ALTER ROLE "{role}" BYPASSRLS')


def test_a_publication_of_others_that_lacks_a_table_is_told(shop: Database, follow: Follow) -> None:
    shop.execute("CREATE TABLE other (id int PRIMARY KEY)", "CREATE PUBLICATION theirs FOR TABLE other")
    message, hint = _only(_look(follow(shop, "public.orders", publication="theirs")))
    assert (message, hint) == (
        "the publication theirs does not have public.orders",
        'ALTER PUBLICATION "theirs" ADD TABLE ONLY "public"."orders"',
    )


def test_trap_23_a_publication_that_sends_partitions_under_their_own_names_is_told(shop: Database, follow: Follow) -> None:
    shop.execute(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9)",
        "CREATE PUBLICATION theirs FOR TABLE root",
    )
    _, hint = _only(_look(follow(shop, "public.root", publication="theirs")))
    assert hint == 'ALTER PUBLICATION "theirs" SET (publish_via_partition_root = true)'


def test_a_column_list_without_the_key_is_told(shop: Database, follow: Follow) -> None:
    shop.execute("CREATE PUBLICATION theirs FOR TABLE orders (region)")
    message, _ = _only(_look(follow(shop, "public.orders", publication="theirs")))
    assert "lacks id of its replica identity" in message


def test_actions_that_are_not_published_are_mentioned_and_stop_nothing(shop: Database, follow: Follow) -> None:
    shop.execute("CREATE TABLE heap (x int)", "CREATE PUBLICATION theirs FOR TABLE orders, heap WITH (publish = 'insert')")
    found = _look(follow(shop, "public.*", publication="theirs"))
    assert found.problems == []  # nothing but inserts is published, so that no table needs an identity
    assert any("UPDATE and DELETE and TRUNCATE" in advice.message for advice in found.advice)


def test_a_key_of_the_pipeline_file_must_be_in_old_rows(shop: Database, follow: Follow) -> None:
    message, hint = _only(_look(follow(shop, "public.orders", context={"keys": {"orders": ("region",)}})))
    assert ("do not carry region" in message, hint) == (True, 'ALTER TABLE "public"."orders" REPLICA IDENTITY FULL')
    message, hint = _only(_look(follow(shop, "public.orders", context={"keys": {"orders": ("nr",)}})))
    assert ("has no column nr" in message, hint) == (True, "its columns: id, region")


def test_two_tables_that_would_be_one_dataset_are_told(shop: Database, follow: Follow) -> None:
    shop.execute("CREATE SCHEMA old", "CREATE TABLE old.orders (id int PRIMARY KEY)")
    message, hint = _only(_look(follow(shop, "*.orders")))
    assert message == "old.orders and public.orders would both be the dataset `orders`"
    assert hint == "name one of them under `datasets`"
    named = _look(follow(shop, "*.orders", context={"tables": {"old.orders": "old_orders"}}))
    assert {schema.dataset for schema in named.tables.values()} == {"orders", "old_orders"}


def test_with_create_false_nothing_would_be_made(shop: Database, follow: Follow) -> None:
    follower = follow(shop, create=False)
    found = _look(follower)
    assert [problem.hint for problem in found.problems] == [
        next(hint for _, hint in _told(found) if hint and hint.startswith("CREATE PUBLICATION")),
        f"SELECT pg_create_logical_replication_slot('{follower.slot}', 'pgoutput')",
    ]
    assert found.actions == ["copy public.orders"]


def test_a_slot_that_is_not_for_us_is_told(shop: Database, make_database: MakeDatabase, follow: Follow) -> None:
    other = make_database(shop.server)
    names = {kind: f"{kind}_{shop.name}" for kind in ("physical", "plugin", "elsewhere", "used")}
    shop.execute(f"SELECT pg_create_physical_replication_slot('{names['physical']}')")
    shop.execute(f"SELECT pg_create_logical_replication_slot('{names['plugin']}', 'test_decoding')") if _has_test_decoding(shop) else None
    other.execute(f"SELECT pg_create_logical_replication_slot('{names['elsewhere']}', 'pgoutput')")
    shop.execute(f"SELECT pg_create_logical_replication_slot('{names['used']}', 'pgoutput')", "CREATE PUBLICATION p FOR TABLE orders")
    try:
        assert "physical" in _only(_look(follow(shop, slot=names["physical"], publication="p")))[0]
        assert other.name in _only(_look(follow(shop, slot=names["elsewhere"], publication="p")))[0]
        message, hint = _only(_look(follow(shop, slot=names["used"], publication="p")))
        assert "has never read from it" in message
        assert f"SELECT pg_drop_replication_slot('{names['used']}')" in hint
        assert _look(follow(shop, slot=names["used"], publication="p", snapshot="never")).problems == []
        assert _look(follow(shop, slot=names["used"], publication="p", create=False)).problems == []
    finally:
        shop.execute(f"SELECT pg_drop_replication_slot('{names['physical']}')")


def _has_test_decoding(database: Database) -> bool:
    try:
        database.execute("SELECT pg_create_logical_replication_slot('probe', 'test_decoding', true)")
    except psycopg.Error:
        return False
    return True


def test_trap_22_a_slot_is_not_read_with_a_publication_that_is_newer(shop: Database, follow: Follow) -> None:
    follower = follow(shop, snapshot="never")
    shop.execute(f"SELECT pg_create_logical_replication_slot('{follower.slot}', 'pgoutput')")
    message, hint = _only(_look(follower))
    assert "cannot be read with a newer publication" in message
    assert f"SELECT pg_drop_replication_slot('{follower.slot}')" in hint


@pytest.mark.parametrize("version", [15, 18])
def test_a_server_that_is_not_set_up_is_told_everything(version: int, launch_postgres: Launch, follow: Follow) -> None:
    server = launch_postgres(
        version, settings={"wal_level": "replica", "max_replication_slots": 1, "max_wal_senders": 1, "wal_sender_timeout": "2s"}
    )
    database = Database(server, "postgres")
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "SELECT pg_create_physical_replication_slot('taken')")
    found = _look(follow(database))
    assert [hint for _, hint in _told(found)] == [
        "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
        "drop one that nobody reads (SELECT * FROM pg_replication_slots WHERE NOT active), or raise max_replication_slots",
    ]
    advice = "\n".join(problem.message for problem in found.advice)
    assert "max_slot_wal_keep_size is not set" in advice
    assert "wal_sender_timeout is 2000 ms" in advice


def test_a_server_that_cannot_be_reached_passes_and_a_wrong_password_does_not(postgres15: EmbeddedPostgres, follow: Follow) -> None:
    database = Database(postgres15, "postgres")
    with pytest.raises(TransientError) as away:
        _look(follow(database, dsn=f"host=127.0.0.1 port=1 user=postgres password={PASSWORD} dbname=x"))
    with pytest.raises(Refused) as wrong:
        _look(follow(database, dsn=database.server.dsn_for("postgres", password="wrong-" + PASSWORD)))
    with pytest.raises(Refused) as missing:
        _look(follow(database, dsn=database.server.dsn_for("no_such_database")))
    assert "no_such_database" in missing.value.message
    for told in (away, wrong, missing):
        assert PASSWORD not in str(told.value)


@pytest.mark.parametrize("dsn", [f"postgresql://user:{PASSWORD}@[host/x", f"host=x password={PASSWORD} nonsense", "replication=1"])
def test_a_dsn_that_cannot_be_read_is_told_without_its_password(dsn: str) -> None:
    from pydantic import ValidationError

    from sources.postgres.config import PostgresConfig

    with pytest.raises(ValidationError) as told:
        PostgresConfig.model_validate({"dsn": dsn, "tables": ["t"]})
    assert PASSWORD not in str(told.value)
    assert "replication" in str(told.value) or "not a libpq connection string" in str(told.value)
