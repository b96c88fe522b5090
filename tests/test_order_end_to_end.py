"""Records that are released late, in a whole pipeline whose processes are killed: sinks end in order, and the counts are right."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract_text import contract_of, positive_amounts
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(180)

_PIPELINE = """\
pipeline: ordered
state: .sluice
sources:
  portal: {{type: postgres, dsn: "{dsn}", tables: [public.newest, public.strict]}}
datasets:
  newest: {{from: [portal.public.newest], contract: newest.yaml}}
  strict: {{from: [portal.public.strict], contract: strict.yaml}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
  history: {{type: duckdb, path: history.duckdb, datasets: {{newest: {{mode: history}}, strict: {{mode: history}}}}}}
"""


def _sluice(pipeline: PipelineUnderTest, *arguments: str, code: int = 0) -> Any:
    done = pipeline.sluice("quarantine", arguments[0], str(pipeline.file), *arguments[1:], "--json", timeout=90)
    assert done.code == code, done.out + done.err
    return done.json


def _records(pipeline: PipelineUnderTest, dataset: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _sluice(pipeline, "list", "--dataset", dataset)
    return found


def _mend(pipeline: PipelineUnderTest, record: dict[str, Any], amount: int) -> Any:
    _sluice(pipeline, "fix", record["id"], "--set", f"amount={amount}", "--by", "ann@example.com")
    _sluice(pipeline, "approve", record["id"], "--by", "bo@example.com")
    return _sluice(pipeline, "replay", record["id"])


def _counts(pipeline: PipelineUnderTest) -> dict[str, dict[str, int]]:
    answer = pipeline.verify()
    assert answer["conserved"], answer
    found = {f"{dataset} {sink}": found for dataset, sinks in answer["datasets"].items() for sink, found in sinks.items()}
    assert [(one["missing"], one["extra"], one["different"]) for one in found.values()] == [(0, 0, 0)] * 4, found
    return found


def test_what_is_released_late_comes_in_order_whatever_is_killed(database18: Database, make_pipeline: MakePipeline) -> None:
    database18.execute(*(f"CREATE TABLE {name} (id int PRIMARY KEY, amount int)" for name in ("newest", "strict")))
    pipeline = make_pipeline(_PIPELINE.format(dsn=database18.dsn))
    for order in ("newest", "strict"):
        pipeline.write(contract_of(positive_amounts("integer", order)).replace("name: orders", f"name: {order}"), f"{order}.yaml")
    database18.execute(*(f"INSERT INTO {name} VALUES (1, -1), (2, 2), (3, -3), (4, -4)" for name in ("newest", "strict")))
    pipeline.sync()
    for name in ("newest", "strict"):
        database18.execute(
            f"UPDATE {name} SET amount = 10 WHERE id = 1",
            f"DELETE FROM {name} WHERE id = 3",
            f"UPDATE {name} SET id = 30, amount = -30 WHERE id = 2",
            f"UPDATE {name} SET amount = 31 WHERE id = 30",
        )
    pipeline.sync()
    newest, strict = _records(pipeline, "newest"), _records(pipeline, "strict")
    assert [(one["key"]["id"], one["newer"]) for one in newest] == [(1, True), (3, True), (4, False), (30, True)]
    assert [(one["key"]["id"], [reason["rule"] for reason in one["reasons"]], one["newer"]) for one in strict] == [
        (1, ["positive"], False), (3, ["positive"], False), (4, ["positive"], False),
        (1, ["order"], False), (3, ["order"], False), (30, ["positive"], False), (30, ["order"], False),
    ]  # fmt: skip
    _counts(pipeline)

    pipeline.start()
    wait_for(lambda: pipeline.status()["sources"]["portal"]["state"] == "streaming", message="the stream")
    for record in newest:
        _mend(pipeline, record, 100)
    pipeline.kill("ingest")
    pipeline.kill("deliver:warehouse")
    pipeline.kill("deliver:history")
    first, *others = [one for one in strict if one["reasons"][0]["rule"] == "positive"]
    _mend(pipeline, first, 100)
    pipeline.kill("ingest")
    for record in others:
        _mend(pipeline, record, 100)
    database18.execute("UPDATE strict SET amount = 32 WHERE id = 30", "UPDATE newest SET amount = 32 WHERE id = 30")
    pipeline.stop(pipeline.running[0])
    pipeline.sync()

    assert [one["status"] for one in _records(pipeline, "newest")] == ["superseded", "superseded", "resolved", "resolved"]
    assert {one["status"] for one in _records(pipeline, "strict")} == {"resolved"}
    for name in ("newest", "strict"):
        assert pipeline.duckdb(f"SELECT id, amount FROM {name} ORDER BY id") == [(1, 10), (4, 100), (30, 32)]
    # each change of a lane is in the history, in the order in which it came to pass; 2 became 30 before that was changed
    lanes = pipeline.duckdb("SELECT id, _op, amount FROM strict ORDER BY _sluice_position", "history.duckdb")
    assert lanes == [
        (1, "read", 100), (2, "read", 2), (3, "read", 100), (4, "read", 100),
        (1, "update", 10), (3, "delete", None), (30, "update", 100), (30, "update", 31), (30, "update", 32),
    ]  # fmt: skip
    found = _counts(pipeline)
    assert {name: (one["patched"], one["quarantined"]) for name, one in found.items()} == dict.fromkeys(found, (1, 0))
    status = pipeline.status()["datasets"]
    assert [(status[name]["quarantined"], status[name]["open_quarantine"]) for name in ("newest", "strict")] == [(2, 0), (0, 0)]

    database18.execute("UPDATE newest SET amount = 5 WHERE id = 4")
    pipeline.sync()
    assert _counts(pipeline)["newest warehouse"]["patched"] == 0
