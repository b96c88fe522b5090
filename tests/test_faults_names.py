"""Tables that people really have: hostile names, odd shapes, huge values; and what is changed about a sink later."""

from __future__ import annotations

import json

import pytest

from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database, MakeDatabase

pytestmark = pytest.mark.timeout(300)

_TABLES = (
    'CREATE SCHEMA "My Schema"',
    """CREATE TABLE "My Schema"."Or""der s" ("Key ""one"" x" int, "sélect" text, "select" text, "Ünïcode ☃" numeric(10,2),
       "a.b" text, "%s" text, "{x}" int, PRIMARY KEY ("Key ""one"" x", "a.b"))""",
    """INSERT INTO "My Schema"."Or""der s" SELECT g, 'x' || g, NULL, g * 1.5, 'p.' || g, '%', g FROM generate_series(1, 20) g""",
    "CREATE SCHEMA other",
    "CREATE TABLE other.dup (id int PRIMARY KEY, v text)",
    "CREATE TABLE public.dup (id int PRIMARY KEY, v text)",
    "INSERT INTO other.dup VALUES (1, 'o')",
    "INSERT INTO public.dup VALUES (1, 'p'), (2, 'p')",
    "CREATE TABLE empty (id int PRIMARY KEY, v text)",
    "CREATE TABLE keyonly (id int PRIMARY KEY)",
    "INSERT INTO keyonly SELECT generate_series(1, 5)",
    "CREATE TABLE big (id int PRIMARY KEY, b text)",
    "INSERT INTO big VALUES (1, repeat('x', 10000000)), (2, 's')",
    "CREATE TABLE part (id int, d date, PRIMARY KEY (id, d)) PARTITION BY RANGE (d)",
    "CREATE TABLE part_a PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
    "CREATE TABLE part_b PARTITION OF part FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')",
    "INSERT INTO part SELECT g, date '2020-06-01' + g * 10 FROM generate_series(1, 50) g",
    'CREATE TABLE "table" ("group" int PRIMARY KEY, "order" text)',
    """INSERT INTO "table" VALUES (1, 'a')""",
    "CREATE TABLE soft (id int PRIMARY KEY, v text, region text)",
    "INSERT INTO soft SELECT g, 'v' || g, CASE WHEN g % 2 = 0 THEN 'EU' ELSE 'US' END FROM generate_series(1, 10) g",
)
_CHANGES = (
    """UPDATE "My Schema"."Or""der s" SET "sélect" = 'new', "Key ""one"" x" = "Key ""one"" x" + 100 WHERE "Key ""one"" x" < 8""",
    """DELETE FROM "My Schema"."Or""der s" WHERE "Key ""one"" x" = 9""",
    "INSERT INTO empty VALUES (1, 'a')",
    "UPDATE soft SET region = 'US' WHERE id = 2",
    "UPDATE soft SET region = 'EU' WHERE id = 3",
    "DELETE FROM soft WHERE id IN (4, 5)",
    "DELETE FROM dup WHERE id = 2",
    "INSERT INTO keyonly VALUES (9)",
    "DELETE FROM keyonly WHERE id = 1",
    "UPDATE big SET b = b || 'y' WHERE id = 1",
    "UPDATE part SET d = '2021-12-01' WHERE id = 1",
    "TRUNCATE other.dup",
    """UPDATE "table" SET "order" = 'z'""",
)
_FILE = """
pipeline: odd
sources:
  s:
    type: postgres
    dsn: "{source}"
    tables: ['"My Schema"."Or""der s"', other.dup, public.dup, public.empty, public.keyonly, public.big, public.part, public.table,
             public.soft]
datasets:
  odup: {{from: [s.other.dup]}}
  'Or"der s': {{from: ['s."My Schema"."Or""der s"']}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
  eu:
    type: postgres
    dsn: "{sink}"
    schema: 'Sch "x" y'
    datasets:
      'Or"der s': {{table: 'The "T" ☃', where: '"Key ""one"" x" > 5', columns: {{'sélect': mask(hash)}}}}
      odup: {{}}
      empty: {{}}
      keyonly: {{}}
      big: {{}}
      part: {{}}
      table: {{}}
      soft: {{on_delete: soft, on_truncate: ignore, where: "{where}"}}
  history:
    type: postgres
    dsn: "{sink}"
    schema: history
    datasets:
      soft: {{mode: history}}
      dup: {{on_delete: ignore}}
      'Or"der s': {{mode: history, table: 'T"'}}
{more}
"""


def test_any_name_and_shape_goes_through_both_sinks_and_sinks_may_change(
    database15: Database, make_database: MakeDatabase, make_pipeline: MakePipeline
) -> None:
    database15.execute(*_TABLES)
    store = make_database(database15.server)

    def file(where: str, more: str = "") -> str:
        return _FILE.format(source=database15.dsn, sink=store.dsn, where=where, more=more)

    pipeline = make_pipeline(file("region = 'EU'"))
    pipeline.sync()
    database15.execute(*_CHANGES)
    pipeline.sync()
    verified = pipeline.sluice("verify", str(pipeline.file), "--json")
    assert verified.code == 0, verified.out + verified.err
    of_source = """SELECT "Key ""one"" x", "Ünïcode ☃"::text, "a.b", "{x}" FROM "My Schema"."Or""der s" ORDER BY 1"""
    assert pipeline.duckdb(of_source.replace('"My Schema".', "")) == database15.rows(of_source)
    assert pipeline.duckdb("SELECT id, length(b) FROM big ORDER BY 1") == [(1, 10_000_001), (2, 1)]
    assert pipeline.duckdb("SELECT count(*), max(d)::text FROM part") == [(50, "2021-12-01")]
    assert pipeline.duckdb("SELECT count(*) FROM odup") == [(0,)]
    keys = """SELECT "Key ""one"" x" FROM "{}"."{}" {} ORDER BY 1"""
    wanted = database15.rows(keys.format("My Schema", 'Or""der s', 'WHERE "Key ""one"" x" > 5'))
    assert store.rows(keys.format('Sch ""x"" y', 'The ""T"" ☃', "")) == wanted
    alive = """SELECT id FROM "Sch ""x"" y".soft WHERE _sluice_deleted_at IS NULL ORDER BY 1"""
    assert store.rows(alive) == [(3,), (6,), (8,), (10,)]
    assert store.rows("SELECT id FROM history.dup ORDER BY 1") == [(1,), (2,)]
    assert store.rows("SELECT count(*) FROM history.soft WHERE _op = 'delete'") == [(2,)]

    database15.execute("TRUNCATE soft", "INSERT INTO soft VALUES (2, 'again', 'EU')", "INSERT INTO soft VALUES (40, 'us', 'US')")
    pipeline.write(file("region = 'US'", "  late: {type: duckdb, path: late.duckdb}"))
    pipeline.sync()
    verified = pipeline.sluice("verify", str(pipeline.file), "--json")
    assert verified.code == 0, json.dumps(verified.json)
    assert pipeline.duckdb("SELECT id FROM keyonly ORDER BY 1", "late.duckdb") == [(2,), (3,), (4,), (5,), (9,)]
    assert (40,) in store.rows(alive)
