"""One deliver process against a real Postgres, fed by a journal that the test itself writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pyarrow as pa
import pytest

from journal.batch import ChangeBatch, CopyMarker, Op, batch_from_columns
from journal.bell import Ringer
from journal.local import JournalWriter
from journal.schema import Column, TableSchema
from journal.state import State
from pipeline.model import JournalConfig
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.fix_postgres import Database
from tests.waiting import wait_for

SCHEMA = TableSchema("orders", (Column("id", "bigint", 1), Column("region", "text", 2), Column("amount", "integer", 3)), ("id",))

_FILE = """
pipeline: shop
state: .sluice
sources:
  portal: {{type: postgres, dsn: "host=nowhere.invalid", tables: [public.orders]}}
sinks:
  eu:
    type: postgres
    dsn: "{sink}"
    datasets:
      orders: {{{route}}}
"""


class Feeder:
    """Ingest's end of the journal."""

    def __init__(self, pipeline: PipelineUnderTest) -> None:
        self.journal = JournalWriter.open(pipeline.state, "shop", JournalConfig(10**9))
        self.bell = Ringer(pipeline.state, ["eu"])
        self.lsn = 100

    def commit(self, op: Op, *rows: tuple[str | None, ...], sink: str | None = None) -> None:
        """One transaction."""
        self.lsn += 1
        columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(3)]
        first = self.journal.next_ordinal
        batch = batch_from_columns(SCHEMA, columns, op, source="portal", table="public.orders", lsn=self.lsn, first=first)
        self.add(batch if sink is None else _for(batch, sink))

    def add(self, *entries: ChangeBatch | CopyMarker) -> None:
        for entry in entries:
            if isinstance(entry, CopyMarker):
                self.journal.mark(entry)
            else:
                first, last = int(entry.ordinal[0]), int(entry.ordinal[-1])
                self.journal.append(entry)
                if entry.sink is None:
                    self.journal.count("orders", source="portal", rows=len(entry), first_ordinal=first, last_ordinal=last)
        self.journal.commit("portal", f'{{"lsn": {self.lsn}}}')
        self.bell.ring()


def _for(batch: ChangeBatch, sink: str) -> ChangeBatch:
    return replace(batch, sink=sink)


Shop = tuple[PipelineUnderTest, Feeder, Database]


@pytest.fixture
def shop(database18: Database, make_pipeline: MakePipeline) -> Iterator[Shop]:
    pipeline = make_pipeline(_FILE.format(sink=database18.dsn, route=""))
    feeder = Feeder(pipeline)
    yield pipeline, feeder, database18
    feeder.journal.close()


def _rows(store: Database) -> list[tuple[object, ...]]:
    if not store.rows("SELECT 1 FROM pg_tables WHERE tablename = 'orders'"):
        return []
    return store.rows("SELECT id, region, amount FROM orders ORDER BY id")


def _await(store: Database, wanted: list[tuple[object, ...]], pipeline: PipelineUnderTest) -> None:
    wait_for(lambda: _rows(store) == wanted, message=lambda: f"{wanted}, not {_rows(store)}\n{pipeline.log[-2000:]}")


def test_what_is_committed_in_the_journal_appears_in_the_sink(shop: Shop) -> None:
    pipeline, feeder, store = shop
    process = pipeline.start("--only", "deliver:eu")
    feeder.commit(Op.INSERT, ("1", "EU", "10"), ("2", "US", "20"))
    _await(store, [(1, "EU", 10), (2, "US", 20)], pipeline)
    feeder.commit(Op.UPDATE, ("2", "EU", "21"))
    feeder.commit(Op.DELETE, ("1", "EU", "10"))
    _await(store, [(2, "EU", 21)], pipeline)
    assert pipeline.stop(process) == 0


def test_a_row_that_leaves_the_filter_is_deleted_and_one_that_enters_arrives(shop: Shop) -> None:
    pipeline, feeder, store = shop
    pipeline.write(_FILE.format(sink=store.dsn, route="where: \"region = 'EU'\""))
    process = pipeline.start("--only", "deliver:eu")
    feeder.commit(Op.INSERT, ("1", "EU", "10"), ("2", "US", "20"))
    _await(store, [(1, "EU", 10)], pipeline)
    feeder.commit(Op.UPDATE, ("1", "US", "11"), ("2", "EU", "20"))
    _await(store, [(2, "EU", 20)], pipeline)
    assert pipeline.stop(process) == 0
    with closing(State.open(pipeline.state)) as state:
        cursor = state.sinks()["eu"].cursor
    assert cursor is not None
    assert '"orders": [2, 2, 0]' in cursor


def test_killed_in_the_middle_of_a_stream_it_goes_on_where_the_target_says(shop: Shop) -> None:
    pipeline, feeder, store = shop
    for round_ in range(4):
        process = pipeline.start("--only", "deliver:eu")
        for n in range(round_ * 50, round_ * 50 + 50):
            feeder.commit(Op.INSERT, (str(n), "EU", str(n)))
            if n % 50 == 25:
                wait_for(lambda: len(_rows(store)) > 0, message="the first rows")
                process.kill()
                process.wait()
                process = pipeline.start("--only", "deliver:eu")
        process.kill()
        process.wait()
    process = pipeline.start("--only", "deliver:eu")
    _await(store, [(n, "EU", n) for n in range(200)], pipeline)
    assert pipeline.stop(process) == 0


def test_a_sink_that_comes_late_asks_for_a_copy_and_takes_nothing_else_before_it(shop: Shop) -> None:
    pipeline, feeder, store = shop
    feeder.commit(Op.INSERT, ("1", "EU", "10"))
    feeder.commit(Op.INSERT, ("2", "EU", "20"))
    feeder.journal.prune(1)
    process = pipeline.start("--only", "deliver:eu")
    asked = State.open(pipeline.state)
    wait_for(lambda: asked.copy_requests() == {"eu": frozenset({"orders"})}, message=lambda: f"the request\n{pipeline.log}")
    feeder.commit(Op.UPDATE, ("2", "EU", "21"))
    start = CopyMarker(SCHEMA, "portal", "public.orders", "start", feeder.journal.next_ordinal, sink="eu")
    feeder.add(start)
    feeder.commit(Op.READ, ("1", "EU", "10"), ("2", "EU", "21"), sink="eu")
    feeder.commit(Op.UPDATE, ("1", "EU", "11"))  # comes again behind the copy, as ingest kept it for this sink
    wait_for(lambda: _rows(store), message="the copied rows")
    assert (1, "EU", 11) not in _rows(store)
    wait_for(lambda: [sink.seq for sink in asked.sinks().values()] == [6], message="the copied rows to be told of")
    assert pipeline.status()["sinks"]["eu"]["state"] == "copying"
    feeder.add(CopyMarker(SCHEMA, "portal", "public.orders", "end", start.ordinal, sink="eu"))
    feeder.commit(Op.UPDATE, ("1", "EU", "11"), sink="eu")
    feeder.commit(Op.INSERT, ("3", "EU", "30"))
    _await(store, [(1, "EU", 11), (2, "EU", 21), (3, "EU", 30)], pipeline)
    wait_for(lambda: pipeline.status()["sinks"]["eu"]["state"] == "running", message="the end of the copy to be told")
    asked.close()
    assert pipeline.stop(process) == 0


def test_a_sink_that_comes_back_after_the_journal_has_forgotten_what_it_lacks_gets_a_copy(shop: Shop) -> None:
    pipeline, feeder, store = shop
    process = pipeline.start("--only", "deliver:eu")
    feeder.commit(Op.INSERT, ("1", "EU", "10"), ("2", "EU", "20"))
    _await(store, [(1, "EU", 10), (2, "EU", 20)], pipeline)
    assert pipeline.stop(process) == 0
    for amount in ("11", "12", "13"):
        feeder.commit(Op.UPDATE, ("1", "EU", amount))
    feeder.journal.prune(3)
    process = pipeline.start("--only", "deliver:eu")
    with closing(State.open(pipeline.state)) as asked:
        wait_for(lambda: asked.copy_requests() == {"eu": frozenset({"orders"})}, message=lambda: f"the request\n{pipeline.log}")
    start = CopyMarker(SCHEMA, "portal", "public.orders", "start", feeder.journal.next_ordinal, sink="eu")
    feeder.add(start)
    feeder.commit(Op.READ, ("1", "EU", "13"), sink="eu")
    feeder.add(replace(start, phase="end"))
    feeder.commit(Op.INSERT, ("3", "EU", "30"))
    _await(store, [(1, "EU", 13), (3, "EU", 30)], pipeline)
    assert pipeline.stop(process) == 0
    with closing(State.open(pipeline.state)) as state:
        cursor = state.sinks()["eu"].cursor
    assert cursor is not None
    assert '"orders": [6, 0, 0]' in cursor


@pytest.mark.parametrize("change", ["another way", "another target"])
def test_the_rest_of_a_copy_is_no_copy_for_a_sink_that_lacks_its_beginning(shop: Shop, change: str) -> None:
    pipeline, feeder, store = shop
    process = pipeline.start("--only", "deliver:eu")
    feeder.commit(Op.INSERT, ("1", "EU", "10"), ("2", "EU", "20"))
    _await(store, [(1, "EU", 10), (2, "EU", 20)], pipeline)
    start = CopyMarker(SCHEMA, "portal", "public.orders", "start", feeder.journal.next_ordinal, sink="eu")
    feeder.add(start)
    feeder.commit(Op.READ, ("1", "EU", "11"), sink="eu")
    _await(store, [(1, "EU", 11), (2, "EU", 20)], pipeline)
    assert pipeline.stop(process) == 0
    feeder.journal.prune(1)
    if change == "another way":
        pipeline.write(_FILE.format(sink=store.dsn, route="where: amount < 100"))
    else:
        store.execute("DROP TABLE orders, _sluice_cursor, _sluice_tables")
    process = pipeline.start("--only", "deliver:eu")
    with closing(State.open(pipeline.state)) as asked:
        wait_for(lambda: asked.copy_requests() == {"eu": frozenset({"orders"})}, message=lambda: f"the request\n{pipeline.log}")
    feeder.commit(Op.READ, ("2", "EU", "21"), sink="eu")
    feeder.add(CopyMarker(SCHEMA, "portal", "public.orders", "end", start.ordinal, sink="eu"))
    feeder.commit(Op.INSERT, ("3", "EU", "30"))
    again = replace(start, ordinal=feeder.journal.next_ordinal)
    feeder.add(again)
    feeder.commit(Op.READ, ("1", "EU", "12"), ("3", "EU", "30"), sink="eu")
    feeder.add(replace(again, phase="end"))
    feeder.commit(Op.INSERT, ("4", "EU", "40"))
    _await(store, [(1, "EU", 12), (3, "EU", 30), (4, "EU", 40)], pipeline)
    assert pipeline.stop(process) == 0


def test_a_second_process_for_one_sink_waits_and_then_gives_up(shop: Shop) -> None:
    pipeline, feeder, store = shop
    process = pipeline.start("--only", "deliver:eu")
    feeder.commit(Op.INSERT, ("1", "EU", "10"))
    _await(store, [(1, "EU", 10)], pipeline)
    second = pipeline.sluice("run", str(pipeline.file), "--only", "deliver:eu")
    assert second.code == 1
    assert "already running" in second.err
    assert pipeline.stop(process) == 0


def test_a_sink_fed_by_another_journal_is_refused(shop: Shop, make_pipeline: MakePipeline) -> None:
    pipeline, feeder, store = shop
    feeder.commit(Op.INSERT, ("1", "EU", "10"))
    process = pipeline.start("--only", "deliver:eu")
    _await(store, [(1, "EU", 10)], pipeline)
    assert pipeline.stop(process) == 0
    other = make_pipeline(_FILE.format(sink=store.dsn, route=""))
    stranger = Feeder(other)
    stranger.commit(Op.INSERT, ("9", "EU", "9"))
    refused = other.sluice("run", str(other.file), "--only", "deliver:eu")
    stranger.journal.close()
    assert refused.code == 1
    assert "journal" in refused.err
    assert _rows(store) == [(1, "EU", 10)]
