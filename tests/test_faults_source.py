"""What goes wrong at a source: it is told in words, with the right exit code, and nothing is lost or left behind."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import pq

from tests.fix_pipeline import Done, MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: faulty
sources:
  s: {{type: postgres, dsn: "{source}", tables: [{tables}]}}
sinks:
  warehouse:
    type: duckdb
    path: warehouse.duckdb
    datasets:
      t: {{{route}}}
{more}
"""
_CONTRACT = """
apiVersion: v3.0.2
kind: DataContract
id: t
name: t
version: 1.0.0
status: active
schema:
  - name: t
    properties:
      - {name: id, logicalType: integer}
    quality:
      - {id: positive, type: sql, query: "id > 0", mustBe: true, customProperties: [{property: action, value: fail}]}
"""


def _made(database: Database, make_pipeline: MakePipeline, route: str = "", more: str = "", tables: str = "public.t") -> PipelineUnderTest:
    database.execute("CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, v text)")
    return make_pipeline(_FILE.format(source=database.dsn, tables=tables, route=route, more=more))


def _said(done: Done, *words: str) -> None:
    told = done.out + done.err
    for word in ("Traceback", "panicked", "defect"):
        assert word not in told, told
    for word in words:
        assert word in told, told


def _slots(database: Database) -> list[tuple[object, ...]]:
    return database.rows("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")


@pytest.mark.parametrize(
    "route, said",
    [("where: \"v = = 'a'\"", "syntax error"), ("where: vv = 'a'", "vv"), ("columns: {vv: drop}", "vv"), ("columns: {id: drop}", "key")],
)
def test_a_route_that_does_not_fit_is_refused_before_anything_is_made(
    database15: Database, make_pipeline: MakePipeline, route: str, said: str
) -> None:
    pipeline = _made(database15, make_pipeline, route)
    _said(pipeline.sync(code=2), "sink `warehouse`", said)
    assert _slots(database15) == []


def test_a_slot_that_another_reads_is_waited_for_and_a_lost_one_names_resync(database15: Database, make_pipeline: MakePipeline) -> None:
    pipeline = _made(database15, make_pipeline)
    pipeline.sync()
    other = pq.PGconn.connect(f"{database15.dsn} replication=database".encode())
    try:
        started = other.exec_(
            b"START_REPLICATION SLOT sluice_faulty_s LOGICAL 0/0 (proto_version '1', publication_names 'sluice_faulty_s')"
        )
        assert started.status == pq.ExecStatus.COPY_BOTH
        database15.execute("INSERT INTO t VALUES (1, 'a')")
        _said(pipeline.sync("--timeout", "1", code=1), "source s", "is active for PID")
    finally:
        other.finish()
    pipeline.sync()
    assert pipeline.duckdb("SELECT id FROM t") == [(1,)]

    def drop() -> bool:
        try:
            database15.execute("SELECT pg_drop_replication_slot('sluice_faulty_s')")
        except psycopg.errors.ObjectInUse:
            return False
        return True

    wait_for(drop, message="the slot to be free")
    database15.execute("INSERT INTO t VALUES (2, 'lost')")
    _said(pipeline.sync(code=1), "sluice_faulty_s is gone", "sluice resync")
    database15.execute("SELECT pg_create_logical_replication_slot('sluice_faulty_s', 'pgoutput')")
    _said(pipeline.sync(code=1), "made again, or read by another", "sluice resync")


def test_a_rule_that_fails_stops_its_table_alone_and_mended_loses_nothing(database15: Database, make_pipeline: MakePipeline) -> None:
    database15.execute("CREATE TABLE other (id int PRIMARY KEY)")
    pipeline = _made(
        database15,
        make_pipeline,
        more="      other: {}\ndatasets:\n  t: {from: [s.public.t], contract: t.odcs.yaml}",
        tables="public.t, public.other",
    )
    pipeline.write(_CONTRACT, "t.odcs.yaml")
    database15.execute("INSERT INTO t VALUES (1, 'good')", "INSERT INTO other VALUES (1)")
    pipeline.sync()
    database15.execute("INSERT INTO t VALUES (-1, 'bad')", "INSERT INTO t VALUES (2, 'after')", "INSERT INTO other VALUES (2)")
    _said(pipeline.sync(code=1), "s.public.t", "positive")
    assert pipeline.duckdb("SELECT id FROM t") == [(1,)]
    assert pipeline.duckdb("SELECT id FROM other ORDER BY 1") == [(1,), (2,)]
    database15.execute("INSERT INTO t VALUES (3, 'later')", "UPDATE t SET v = 'changed' WHERE id = 1")
    _said(pipeline.sync(code=1), "positive")
    pipeline.write(_CONTRACT.replace("value: fail", "value: quarantine"), "t.odcs.yaml")
    pipeline.sync("--fail-on-quarantine", code=3)
    assert pipeline.duckdb("SELECT id, v FROM t ORDER BY 1") == [(1, "changed"), (2, "after"), (3, "later")]
    assert pipeline.verify()["conserved"]


def test_a_table_without_columns_is_named_and_one_that_loses_them_stops_alone(database15: Database, make_pipeline: MakePipeline) -> None:
    database15.execute("CREATE TABLE nothing ()", "ALTER TABLE nothing REPLICA IDENTITY FULL")
    pipeline = _made(database15, make_pipeline, tables="public.t, public.nothing", more="      nothing: {}")
    _said(pipeline.sync(code=1), "public.nothing has no columns")
    database15.execute("ALTER TABLE nothing ADD a int")
    pipeline.sync()
    database15.execute("ALTER TABLE nothing DROP a", "INSERT INTO nothing DEFAULT VALUES", "INSERT INTO t VALUES (7, 'x')")
    _said(pipeline.sync("--timeout", "10", code=1), "public.nothing", "no columns")
    assert pipeline.duckdb("SELECT id FROM t") == [(7,)]
