"""What the catalogue says of tables, on real servers."""

from __future__ import annotations

from contextlib import closing

import pytest

from sources.postgres.catalogue import matching, read_publication, read_tables
from sources.postgres.patterns import TablePatterns, canonical
from sources.postgres.session import Server
from sources.postgres.table import Table
from tests.fix_postgres import Database


def _read(database: Database, *patterns: str, publication: str = "none") -> dict[str, Table]:
    with closing(Server(database.dsn, "test", 5).connect()) as connection:
        found = matching(connection, TablePatterns(patterns))
        tables = read_tables(connection, [match.oid for match in found], read_publication(connection, publication))
        return {table.label: table for table in tables.values()}


def _types(table: Table) -> dict[str, str]:
    return {column.name: column.type for column in table.live}


def test_patterns_match_tables_and_partitioned_roots_never_partitions_or_views(database: Database) -> None:
    database.execute(
        "CREATE TABLE plain (id int)",
        "CREATE TABLE parent (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id)",
        "CREATE TABLE grandchild PARTITION OF child FOR VALUES FROM (0) TO (5)",
        "CREATE VIEW seen AS SELECT * FROM plain",
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain",
        "CREATE SCHEMA other",
        "CREATE TABLE other.plain (id int)",
        "CREATE TEMPORARY TABLE passing (id int)",
        "CREATE SEQUENCE numbers",
    )
    assert set(_read(database, "public.*")) == {"public.plain", "public.parent"}
    assert set(_read(database, "*.plain")) == {"public.plain", "other.plain"}
    assert set(_read(database, "public.pl?in")) == {"public.plain"}
    assert set(_read(database, "*.*")) == {"public.plain", "public.parent", "other.plain"}
    assert set(_read(database, "public.child")) == set()


def test_each_part_of_a_name_is_literal_and_keeps_its_case(database: Database) -> None:
    names = ["Orders", "orders", "a.b", "with space", 'quo"te', "st*r", "per%cent", "under_score", "underXscore"]
    database.execute(*('CREATE TABLE "{}" (id int)'.format(name.replace('"', '""')) for name in names))
    assert set(_read(database, "public.Orders")) == {"public.Orders"}
    assert set(_read(database, 'public."a.b"', 'public."with space"')) == {'public."a.b"', 'public."with space"'}
    assert set(_read(database, 'public."quo""te"')) == {'public."quo""te"'}
    assert [table.name for table in _read(database, 'public."st*r"').values()] == ["st*r"]
    assert set(_read(database, "public.per%cent", "public.under_score")) == {"public.per%cent", "public.under_score"}
    assert set(_read(database, "public.under_s*")) == {"public.under_score"}


@pytest.mark.parametrize(
    "written,meant",
    [("orders", "public.orders"), (' "public" . orders ', "public.orders"), ("public.*", "public.*"), ('public."*"', 'public."*"')],
)
def test_names_are_written_in_one_way(written: str, meant: str) -> None:
    assert canonical(written) == meant


@pytest.mark.parametrize("written", ["a.b.c", "a..b", "", 'a."b', "a b"])
def test_what_is_not_a_name_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"name|parts"):
        canonical(written)


def test_trap_19_types_resolve_for_a_reader_that_has_only_built_in_types(database: Database) -> None:
    database.execute(
        "CREATE SCHEMA ext",
        "CREATE EXTENSION hstore SCHEMA ext",
        "CREATE EXTENSION citext SCHEMA ext",
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE TYPE span AS RANGE (subtype = float8)",
        "CREATE DOMAIN amount AS numeric(10,2)",
        "CREATE DOMAIN positive AS amount CHECK (value > 0)",
        "CREATE DOMAIN moods AS mood[]",
        """CREATE TABLE t (
            amount amount, positive positive, amounts amount[], mood mood, moods mood[], domain_moods moods, pair pair, pairs pair[],
            span span, spans span[], built_in int4range, many int4multirange, h ext.hstore, hs ext.hstore[], c ext.citext,
            padded char(3), unpadded bpchar, short varchar(7)[], at timestamptz(3), for_time interval day to second(2), letter "char",
            bits bit(3), rounded numeric(3,-1), oids oidvector, what regclass, at_local time(0), point point)""",
    )
    assert _types(_read(database, "public.t")["public.t"]) == {
        "amount": "numeric(10,2)",
        "positive": "numeric(10,2)",
        "amounts": "numeric(10,2)[]",
        "mood": "text",
        "moods": "text[]",
        "domain_moods": "text[]",
        "pair": "text",
        "pairs": "text[]",
        "span": "text",
        "spans": "text[]",
        "built_in": "int4range",
        "many": "int4multirange",
        "h": "hstore",
        "hs": "hstore[]",
        "c": "citext",
        "padded": "character(3)",
        "unpadded": "bpchar",
        "short": "character varying(7)[]",
        "at": "timestamp(3) with time zone",
        "for_time": "interval day to second(2)",
        "letter": '"char"',
        "bits": "bit(3)",
        "rounded": "numeric(3,-1)",
        "oids": "oidvector",
        "what": "regclass",
        "at_local": "time(0) without time zone",
        "point": "point",
    }


def test_rows_from_before_a_column_hold_the_default_that_the_catalogue_stored(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1)",
        """ALTER TABLE t ADD a int DEFAULT 7, ADD b text DEFAULT 'x''y,"z"\\', ADD c int[] DEFAULT '{1,2}',
           ADD d box DEFAULT '((1,2),(3,4))',
           ADD e boolean DEFAULT true, ADD f text, ADD g text DEFAULT ''""",
        "ALTER TABLE t ADD computed float8",
        "ALTER TABLE t ALTER computed SET DEFAULT random()",
    )
    columns = {attribute.name: attribute for attribute in _read(database, "public.t")["public.t"].live}
    found = {name: attribute.column.default for name, attribute in columns.items()}
    assert found == {
        "id": None, "a": "7", "b": "x'y,\"z\"\\", "c": "{1,2}", "d": "(3,4),(1,2)", "e": "t", "f": None, "g": "", "computed": None,
    }  # fmt: skip
    assert [name for name, attribute in columns.items() if attribute.computed] == ["id", "computed"]


def test_the_key_follows_the_replica_identity(database: Database) -> None:
    database.execute(
        "CREATE TABLE by_default (b int, a int, c int, PRIMARY KEY (a, b) INCLUDE (c))",
        "CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL, UNIQUE (code))",
        "ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key",
        "CREATE TABLE whole (id int PRIMARY KEY, x int)",
        "ALTER TABLE whole REPLICA IDENTITY FULL",
        "CREATE TABLE whole_without (x int)",
        "ALTER TABLE whole_without REPLICA IDENTITY FULL",
        "CREATE TABLE nothing (id int PRIMARY KEY)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "CREATE TABLE keyless (x int)",
        "CREATE TABLE lost (id int NOT NULL, UNIQUE (id))",
        "ALTER TABLE lost REPLICA IDENTITY USING INDEX lost_id_key",
        "ALTER TABLE lost DROP CONSTRAINT lost_id_key",
        "CREATE TABLE by_deferred (id int PRIMARY KEY DEFERRABLE)",
        "CREATE TABLE deferrable_whole (id int PRIMARY KEY DEFERRABLE, x int)",
        "ALTER TABLE deferrable_whole REPLICA IDENTITY FULL",
    )
    tables = _read(database, "public.*")
    assert {table.name: (table.key, table.identifying) for table in tables.values()} == {
        "by_default": (("a", "b"), ("a", "b")),
        "by_index": (("code",), ("code",)),
        "whole": (("id",), ("id", "x")),
        "whole_without": ((), ("x",)),
        "nothing": ((), None),
        "keyless": ((), None),
        "lost": ((), None),
        "by_deferred": ((), None),
        "deferrable_whole": ((), ("id", "x")),
    }


def test_trap_18_generated_columns_are_those_that_the_publication_sends(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "CREATE TABLE u (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, secret text)",
        "CREATE PUBLICATION plain FOR TABLE t",
    )
    recent = database.version >= 18
    without = _read(database, "public.t", publication="plain")["public.t"]
    assert [column.name for column in without.columns(recent)] == ["id"]
    if recent:
        database.execute("CREATE PUBLICATION whole FOR TABLE t, u (id, twice) WITH (publish_generated_columns = stored)")
        tables = _read(database, "public.*", publication="whole")
        assert [column.name for column in tables["public.t"].columns(recent)] == ["id", "twice"]
        assert [column.name for column in tables["public.u"].columns(recent)] == ["id", "twice"]


def test_trap_26_the_row_filter_and_the_column_list_are_known(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, region text, secret text)",
        "CREATE PUBLICATION part FOR TABLE t (id, region) WHERE (id > 3)",
    )
    table = _read(database, "public.t", publication="part")["public.t"]
    assert (table.published, table.filter) == (("id", "region"), "(id > 3)")


def test_sixteen_hundred_columns_are_read(database: Database) -> None:
    columns = ", ".join(f"c{n} text" for n in range(1599))
    database.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {columns})")
    assert len(_read(database, "public.wide")["public.wide"].live) == 1600
