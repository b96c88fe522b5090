"""Folders of files through whole pipelines, driven from the command line."""

from __future__ import annotations

import base64
from pathlib import Path

from journal.ledger import Tally
from journal.local import JournalReader
from pipeline.errors import JournalError
from tests.file_taking import put
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.invoking import sluice
from tests.waiting import wait_for

PIPELINE = """
pipeline: shop
sources:
  drops:
    type: files
    path: drops
    pattern: "*.csv"
    format: csv
    settle_seconds: 0.1
    schema: {id: bigint, name: text}
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""


def _lines(first: int, count: int) -> str:
    return "id,name\n" + "".join(f"{one},name {one}\n" for one in range(first, first + count))


def _folder(pipeline: PipelineUnderTest) -> Path:
    made = pipeline.folder / "drops"
    made.mkdir()
    return made


def test_sync_brings_files_into_a_sink_and_bad_lines_into_quarantine(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(PIPELINE)
    folder = _folder(pipeline)
    put(folder, "a.csv", "id,name\n1,a\nx,b\n", age=90)
    put(folder, "b.csv", "id,name\n2,c\n", age=0)
    pipeline.sync("--fail-on-quarantine", code=3)
    assert pipeline.duckdb("select id, name from drops order by id") == [(1, "a"), (2, "c")]
    (listed,) = sluice("quarantine", "list", pipeline.file, "--json").json
    assert listed["position"] == {"file": "a.csv", "line": 3}
    shown = sluice("quarantine", "show", pipeline.file, listed["id"], "--json").json
    assert base64.b64decode(shown["raw"]["value"]) == b"x,b"
    put(folder, "a.csv", "id,name\n1,a\n7,g\n", age=30)
    done = pipeline.sync()
    assert "a.csv changed" in done.out + done.err
    assert pipeline.duckdb("select count(*) from drops") == [(2,)]
    status = sluice("status", pipeline.file, "--json").json
    assert (status["datasets"]["drops"]["in"], status["datasets"]["drops"]["quarantined"]) == (3, 1)
    assert "a.csv changed" in status["sources"]["drops"]["tables"]["drops"]["error"]


def test_a_file_of_which_nothing_can_be_taken_is_mended_line_by_line(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(PIPELINE)
    put(_folder(pipeline), "a.csv", "id,name\nx,b\n", age=90)
    pipeline.sync()
    (listed,) = sluice("quarantine", "list", pipeline.file, "--json").json
    for words in (["fix", "--set", "id=7", "--set", "name=b", "--by", "ann"], ["approve", "--by", "bo"], ["replay", "--wait"]):
        done = pipeline.sluice("quarantine", words[0], str(pipeline.file), listed["id"], *words[1:])
        assert done.code == 0, done.out + done.err
    assert pipeline.duckdb("select id, name from drops") == [(7, "b")]


def test_killed_again_and_again_every_record_is_there_exactly_once(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(PIPELINE)
    folder = _folder(pipeline)
    files, rows = 4, 30_000
    for number in range(files):
        put(folder, f"{number}.csv", _lines(number * rows, rows), age=100 - number)
    process = pipeline.start()
    done = 0
    for _ in range(3):
        before = done

        def more(before: int = before) -> int:
            found = _in(pipeline)
            return found if found > before or found == files * rows else 0

        done = wait_for(more, message=lambda: f"more rows; {pipeline.log}")
        pipeline.kill("ingest")
    put(folder, "late.csv", _lines(files * rows, 10), age=0)
    total = files * rows + 10
    wait_for(lambda: _in(pipeline) == total, message=lambda: pipeline.log)
    assert pipeline.stop(process) == 0
    pipeline.sync()
    assert pipeline.duckdb("select count(*), count(distinct id), min(id), max(id) from drops") == [(total, total, 0, total - 1)]


def _in(pipeline: PipelineUnderTest) -> int:
    """Records that the journal has counted."""
    try:
        with JournalReader.open(pipeline.state / "shop", "shop") as reader:
            return reader.totals().get("drops", Tally()).rows
    except JournalError:  # nothing has run yet
        return 0
