"""Rows that one sink refused are mended, approved and sent back to it alone: counted once, and never over what is newer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database

pytestmark = pytest.mark.timeout(180)

_TOO_LATE = "294276-01-01 00:00:00"  # for DuckDB
_PIPELINE = """\
pipeline: returning
state: .sluice
sources:
  portal: {{type: postgres, dsn: "{dsn}", tables: [public.events]}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
  eu: {{type: postgres, dsn: "{dsn}", schema: eu}}
"""


def _sluice(pipeline: PipelineUnderTest, *arguments: str, code: int = 0) -> Any:
    done = pipeline.sluice("quarantine", arguments[0], str(pipeline.file), *arguments[1:], "--json", timeout=90)
    assert done.code == code, done.out + done.err
    return done.json


def _statuses(pipeline: PipelineUnderTest) -> dict[int, tuple[str, int]]:
    return {one["key"]["id"]: (one["status"], one["attempts"]) for one in _sluice(pipeline, "list")}


def _counts(pipeline: PipelineUnderTest) -> tuple[int, int]:
    """What the warehouse has delivered, and how many records wait."""
    answer = pipeline.verify()
    assert answer["conserved"], answer
    found = answer["datasets"]["events"]["warehouse"]
    assert (found["missing"], found["extra"], found["different"]) == (0, 0, 0), found
    status = pipeline.status()
    return status["sinks"]["warehouse"]["datasets"]["events"]["delivered"], status["datasets"]["events"]["open_quarantine"]


def test_rows_that_a_sink_refused_come_back_to_it_once_and_in_order(database18: Database, make_pipeline: MakePipeline) -> None:
    database18.execute(
        "CREATE TABLE events (id int PRIMARY KEY, at timestamp)",
        f"INSERT INTO events SELECT i, '{_TOO_LATE}' FROM generate_series(1, 5) i",
    )
    pipeline = make_pipeline(_PIPELINE.format(dsn=database18.dsn))
    pipeline.sync()
    database18.execute("UPDATE events SET at = '2024-01-01' WHERE id = 2", "INSERT INTO events VALUES (6, '2024-01-01')")
    pipeline.sync()
    assert _counts(pipeline) == (2, 5)
    records = {one["key"]["id"]: one["id"] for one in _sluice(pipeline, "list")}
    ids = list(records.values())

    assert _sluice(pipeline, "fix", *ids[:2], "--set", "at=2025-01-01", "--by", "ann@example.com")["fixed"] == 2
    assert "somebody else" in _sluice(pipeline, "approve", ids[0], "--by", "ann@example.com", code=1)["records"][0]["why"]
    _sluice(pipeline, "approve", *ids[:3], "--by", "bo@example.com")
    assert _sluice(pipeline, "discard", records[4], "--by", "bo@example.com", "--why", "a test of theirs")["discarded"] == 1
    answer = _sluice(pipeline, "replay", *ids[:3], "--wait")
    assert (answer["replayed"], answer["returning"], answer["undelivered"]) == (3, 3, [])
    pipeline.sync()
    assert _statuses(pipeline) == {
        1: ("resolved", 0), 2: ("superseded", 0), 3: ("failed-again", 1), 4: ("discarded", 0), 5: ("open", 0),
    }  # fmt: skip
    rows = pipeline.duckdb('SELECT id, "at"::VARCHAR FROM events ORDER BY id')
    assert rows == [(1, "2025-01-01 00:00:00"), (2, "2024-01-01 00:00:00"), (6, "2024-01-01 00:00:00")]
    assert _counts(pipeline) == (3, 2)
    # the other sink has what the source has
    assert database18.rows("SELECT count(*) FROM eu.events WHERE at > '3000-01-01'") == [(4,)]

    _sluice(pipeline, "fix", records[3], "--set", "at=2026-01-01", "--by", "ann@example.com")
    _sluice(pipeline, "approve", records[3], "--by", "bo@example.com")
    assert _sluice(pipeline, "replay", "--approved", "--wait")["replayed"] == 1
    pipeline.sync()
    assert _statuses(pipeline)[3] == ("resolved", 1)
    assert _counts(pipeline) == (4, 1)
    told = _sluice(pipeline, "show", records[3])
    assert [line["step"] for line in told["audit"]][1:] == ["approve", "replay", "fix", "approve", "replay"]
    sound = pipeline.sluice("audit", "verify", str(pipeline.file), "--json", timeout=90)
    assert (sound.code, sound.json["problems"], sound.json["records"]) == (0, [], 5)
