"""Files that are removed, cut off or written over: told in words, and made good where that can be done."""

from __future__ import annotations

import sqlite3

import pytest

from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database

pytestmark = pytest.mark.timeout(300)

_FILE = """
pipeline: files
state: .sluice
sources:
  s: {{type: postgres, dsn: "{source}", tables: [public.t, public.u]}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""


def test_a_warehouse_that_is_gone_or_cut_off_is_copied_again_or_refused(database15: Database, make_pipeline: MakePipeline) -> None:
    database15.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 5000) n",
        "CREATE TABLE u (id int PRIMARY KEY)",
        "INSERT INTO u VALUES (1)",
    )
    pipeline = make_pipeline(_FILE.format(source=database15.dsn))
    pipeline.sync()
    warehouse = pipeline.folder / "warehouse.duckdb"
    whole = warehouse.read_bytes()
    warehouse.write_bytes(whole[: len(whole) // 2])
    done = pipeline.sync(code=1)
    assert "is damaged" in done.out
    assert "copy everything again" in done.out
    for path in pipeline.folder.glob("warehouse.duckdb*"):
        path.unlink()
    database15.execute("INSERT INTO t VALUES (0, 'new')", "DELETE FROM t WHERE id = 7")
    pipeline.sync()
    assert pipeline.duckdb("SELECT count(*), min(id) FROM t") == [(5000, 0)]
    assert pipeline.duckdb("SELECT id FROM u") == [(1,)]

    database15.execute("DROP TABLE u")
    warehouse.unlink()
    assert "public.u" in pipeline.sync(code=1).out  # whose copy nobody can make any more, and nobody waits for
    assert pipeline.duckdb("SELECT count(*) FROM t") == [(5000,)]

    journal = pipeline.state / "journal.db"
    with sqlite3.connect(journal) as db:
        db.execute("PRAGMA user_version = 99")
    assert "upgrade this installation" in pipeline.sync(code=1).err
    journal.write_bytes(journal.read_bytes()[: journal.stat().st_size // 2])
    done = pipeline.sync(code=1)
    assert "journal.db is damaged" in done.err or "newer Sluice" in done.err
    assert "Traceback" not in done.err
