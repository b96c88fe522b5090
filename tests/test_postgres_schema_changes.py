"""Tables whose shape changes while they are followed, and while nobody looks."""

from __future__ import annotations

import pytest

from journal.batch import CopyMarker
from tests.fix_follower import Follow
from tests.fix_postgres import Database, MakeDatabase, Servers
from tests.follower import Follower

_SET_UP = (
    "CREATE TABLE t (id int PRIMARY KEY, a int, z text)",
    "INSERT INTO t SELECT n, n * 10, 'z' || n FROM generate_series(1, 100) n",
)


def _copies(follower: Follower) -> int:
    return sum(isinstance(entry, CopyMarker) and entry.phase == "start" for entry in follower.log)


def _names(follower: Follower) -> dict[str, int]:
    return {column.name: column.attnum for column in follower.schemas["public.t"].columns}


class Changing:
    """Runs statements while a follower follows, or while it is away; then both have to be the same."""

    def __init__(self, database: Database, follower: Follower, away: bool) -> None:
        self.database = database
        self.follower = follower
        self.away = away
        self.begun = False

    def __call__(self, *statements: str) -> None:
        if not self.begun:
            with self.follower.running():
                self.follower.same("public.t")
            self.begun = True
        if self.away:
            self.database.execute(*statements)
            with self.follower.running():
                self.follower.same("public.t")
        else:
            with self.follower.running():
                for statement in statements:
                    self.database.execute(statement)
                    self.follower.caught_up()
                self.follower.same("public.t")


@pytest.fixture(params=[(18, False), (15, True)], ids=["live-pg18", "away-pg15"])
def changing(request: pytest.FixtureRequest, postgres_servers: Servers, make_database: MakeDatabase, follow: Follow) -> Changing:
    """Changes of public.t (id, a, z), seen at once or all at the end."""
    version, away = request.param
    database = make_database(postgres_servers.of_version(version))
    database.execute(*_SET_UP)
    return Changing(database, follow(database, "public.t"), away)


def test_trap_21_a_column_that_is_added_is_there_from_its_first_change_on(changing: Changing) -> None:
    changing(
        "INSERT INTO t VALUES (200, 1, 'x')",
        "ALTER TABLE t ADD b text",
        "INSERT INTO t VALUES (201, 1, 'x', 'b')",
        "DELETE FROM t WHERE id = 1",
    )
    assert _names(changing.follower) == {"id": 1, "a": 2, "z": 3, "b": 4}
    assert _copies(changing.follower) == 1


def test_a_column_added_with_a_constant_has_it_in_the_rows_that_were_there(changing: Changing) -> None:
    changing(
        "ALTER TABLE t ADD b text DEFAULT 'it''s', ADD at timestamptz DEFAULT now()",
        "UPDATE t SET a = 0 WHERE id = 3",
        "ALTER TABLE t ALTER b DROP DEFAULT",
        "INSERT INTO t VALUES (300, 0, 'z')",
    )
    assert _copies(changing.follower) == 1
    assert changing.follower.mirrors[None, "public.t"].rows[("5",)][1]["b"] == "it's"


@pytest.mark.parametrize(
    "added",
    ["r float8 DEFAULT random()", "s bigserial", "i int GENERATED ALWAYS AS IDENTITY"],
    ids=["volatile", "serial", "identity"],
)
def test_a_column_whose_default_was_computed_for_each_row_is_copied(database15: Database, follow: Follow, added: str) -> None:
    database15.execute(*_SET_UP)
    for away in (False, True):
        changing = Changing(database15, follow(database15, "public.t", slot=f"slot_{away}_{database15.name}".lower()), away)
        changing(f"ALTER TABLE t ADD {added}", "UPDATE t SET a = a + 1 WHERE id < 5")
        assert _copies(changing.follower) >= 2
        database15.execute(f"ALTER TABLE t DROP {added.split()[0]}")


def test_trap_21_a_column_that_is_renamed_keeps_its_values(changing: Changing) -> None:
    changing("UPDATE t SET a = 7 WHERE id = 2", "ALTER TABLE t RENAME a TO amount", "UPDATE t SET amount = 8 WHERE id = 3")
    assert _names(changing.follower) == {"id": 1, "amount": 2, "z": 3}
    assert _copies(changing.follower) == 1


def test_trap_21_columns_that_swap_their_names_keep_their_values(changing: Changing) -> None:
    changing(
        "UPDATE t SET a = 1, z = 'one' WHERE id = 1",
        "BEGIN; ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME z TO a; ALTER TABLE t RENAME x TO z; COMMIT",
        "UPDATE t SET a = 'two', z = 2 WHERE id = 2",
    )
    assert _names(changing.follower) == {"id": 1, "z": 2, "a": 3}


def test_trap_21_a_column_that_is_dropped_is_gone_from_the_next_change_on(changing: Changing) -> None:
    changing(
        "UPDATE t SET a = 7 WHERE id = 2", "ALTER TABLE t DROP a", "UPDATE t SET z = 'after' WHERE id = 3", "DELETE FROM t WHERE id = 4"
    )
    assert _names(changing.follower) == {"id": 1, "z": 3}


def test_trap_21_a_column_that_is_dropped_and_made_again_is_a_new_one(changing: Changing) -> None:
    changing(
        "UPDATE t SET a = 7 WHERE id = 2",
        "ALTER TABLE t DROP a",
        "UPDATE t SET z = 'between' WHERE id = 3",
        "ALTER TABLE t ADD a int",
        "UPDATE t SET a = 9 WHERE id = 4",
    )
    assert _names(changing.follower) == {"id": 1, "z": 3, "a": 4}


def test_trap_21_the_last_column_made_again_with_its_name_and_type_is_copied_where_the_log_cannot_tell(changing: Changing) -> None:
    changing("UPDATE t SET z = 'old' WHERE id = 2", "ALTER TABLE t DROP z, ADD z text", "UPDATE t SET z = 'new' WHERE id = 4")
    assert _names(changing.follower) == {"id": 1, "a": 2, "z": 4}


def test_a_type_that_changes_the_rows_that_are_there_is_copied(changing: Changing) -> None:
    changing("UPDATE t SET a = 7 WHERE id = 2", "ALTER TABLE t ALTER a TYPE text USING 'n' || a", "UPDATE t SET a = 'x' WHERE id = 3")
    assert changing.follower.schemas["public.t"].types["a"] == "text"


def test_a_type_that_leaves_the_rows_alone_is_not_copied_while_somebody_looks(database15: Database, follow: Follow) -> None:
    database15.execute("CREATE TABLE t (id int PRIMARY KEY, a varchar(10))", "INSERT INTO t VALUES (1, 'x')")
    follower = follow(database15, "public.t")
    changing = Changing(database15, follower, away=False)
    changing("ALTER TABLE t ALTER a TYPE varchar(20)", "INSERT INTO t VALUES (2, 'longer than ten')")
    assert follower.schemas["public.t"].types["a"] == "character varying(20)"
    with follower.running():
        follower.caught_up()
        before = _copies(follower)
        database15.execute("ALTER TABLE t ALTER a TYPE text", "INSERT INTO t VALUES (3, 'y')")
        follower.same("public.t")
        assert _copies(follower) == before


def test_another_primary_key_is_the_key_from_its_first_change_on(changing: Changing) -> None:
    changing(
        "UPDATE t SET a = 1 WHERE id = 1",
        "BEGIN; ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (z); COMMIT",
        "UPDATE t SET a = 2 WHERE z = 'z2'",
        "DELETE FROM t WHERE z = 'z3'",
    )
    assert changing.follower.schemas["public.t"].key == ("z",)


def test_a_table_that_is_gone_when_its_changes_are_read_still_has_them_delivered(database15: Database, follow: Follow) -> None:
    database = database15
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad')", "CREATE TABLE t (id int PRIMARY KEY, m mood)", "CREATE TABLE other (id int PRIMARY KEY)"
    )
    follower = follow(database, "public.*")
    with follower.running():
        follower.same("public.t")
    database.execute("INSERT INTO t VALUES (1, 'sad')", "INSERT INTO other VALUES (1)", "DROP TABLE t", "DROP TYPE mood")
    with follower.running():
        follower.same("public.other")
        assert follower.source is not None
        source = follower.source
        follower.until(lambda: source.status().tables["public.t"].state == "stopped")
    assert follower.mirrors[None, "public.t"].sorted() == [("1", "sad")]


def test_trap_24_one_truncate_of_several_tables_empties_each(database: Database, follow: Follow) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE u (id int PRIMARY KEY REFERENCES t)",
        "INSERT INTO t VALUES (1), (2)",
        "INSERT INTO u VALUES (1)",
    )
    follower = follow(database, "public.*")
    with follower.running():
        follower.same("public.t")
        database.execute("BEGIN; INSERT INTO t VALUES (3); TRUNCATE t, u; INSERT INTO t VALUES (4); COMMIT")
        follower.same("public.t")
        follower.same("public.u")
