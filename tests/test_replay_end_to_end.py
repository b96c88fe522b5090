"""Bad records through a whole pipeline, mended while it runs and while it does not; and commands beside each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from dataflows.asking import ask
from dataflows.build import contracts
from dataflows.requests import open_requests
from dataflows.stages import load_stages
from journal.locks import ProcessLock
from journal.opening import open_writer
from journal.processes import INGEST
from journal.state import State
from pipeline.load import load_pipeline
from tests.contract_text import contract_of
from tests.file_taking import put
from tests.fix_life import Life
from tests.fix_pipeline import MakePipeline, PipelineUnderTest
from tests.invoking import sluice
from tests.waiting import wait_for

PIPELINE = """
pipeline: shop
sources:
  drops: {type: files, path: drops, pattern: "*.csv", format: csv, settle_seconds: 0.1, schema: {id: bigint, amount: integer}}
datasets:
  orders: {from: drops, key: [id], contract: orders.odcs.yaml}
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""
CONTRACT = contract_of("""\
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true}
      - name: amount
        logicalType: integer
        physicalType: integer
        quality: [{id: positive, type: sql, query: amount > 0, mustBe: true}]
""")


def _quarantine(pipeline: PipelineUnderTest, command: str, *arguments: str, code: int = 0) -> dict[str, object]:
    done = sluice("quarantine", command, pipeline.file, *arguments, "--json")
    assert done.code == code, done.out + done.err
    found: dict[str, object] = done.json
    return found


def test_records_are_mended_while_the_service_runs_and_while_it_does_not(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(PIPELINE)
    pipeline.write(CONTRACT, "orders.odcs.yaml")
    folder = pipeline.folder / "drops"
    folder.mkdir()
    put(folder, "a.csv", "id,amount\n1,10\n2,-20\n3,-30\n4,-40\n5,50\n", age=90)
    pipeline.sync()
    listed = sluice("quarantine", "list", pipeline.file, "--json").json
    two, three, four = (one["id"] for one in listed)
    _quarantine(pipeline, "fix", two, "--set", "amount=20", "--by", "ann@example.com")
    _quarantine(pipeline, "approve", two, "--by", "bo@example.com")
    answer = _quarantine(pipeline, "replay", two, "--wait")
    assert (answer["resolved"], answer["undelivered"]) == (1, [])
    assert pipeline.duckdb("select id, amount from orders order by id") == [(1, 10), (2, 20), (5, 50)]

    service = pipeline.start()
    put(folder, "b.csv", "id,amount\n4,44\n6,60\n", age=10)  # a newer row of a key that is in quarantine
    wait_for(lambda: (6, 60) in pipeline.duckdb("select id, amount from orders"), message=lambda: pipeline.log)
    _quarantine(pipeline, "fix", three, four, "--expr", "amount=abs(amount)", "--by", "ann@example.com")
    _quarantine(pipeline, "approve", three, four, "--by", "bo@example.com")
    answer = _quarantine(pipeline, "replay", "--approved", "--wait")
    assert (answer["resolved"], answer["superseded"], answer["undelivered"]) == (1, 1, [])
    assert pipeline.duckdb("select id, amount from orders order by id") == [(1, 10), (2, 20), (3, 30), (4, 44), (5, 50), (6, 60)]
    put(folder, "c.csv", "id,amount\n7,70\n", age=5)
    wait_for(lambda: (7, 70) in pipeline.duckdb("select id, amount from orders"), message=lambda: pipeline.log)
    assert pipeline.stop(service) == 0
    status = sluice("status", pipeline.file, "--json").json
    counts = status["datasets"]["orders"]
    assert (counts["in"], counts["quarantined"], counts["open_quarantine"]) == (8, 1, 0)
    assert status["sinks"]["warehouse"]["datasets"]["orders"]["delivered"] == 7
    assert sluice("verify", pipeline.file, "--json").json["conserved"] is True
    assert sluice("audit", "verify", pipeline.file).code == 0


@contextmanager
def _ingest(life: Life) -> Iterator[None]:
    """Something that holds ingest's lock and serves owners, as ingest does."""
    over, ready = threading.Event(), threading.Event()

    def serve() -> None:
        pipeline = load_pipeline(life.file)
        with ExitStack() as held:
            held.enter_context(ProcessLock(pipeline.state, INGEST, "ingest", 20.0))
            journal = held.enter_context(open_writer(pipeline))
            rules = contracts(pipeline)
            state = held.enter_context(closing(State.open(pipeline.state)))
            stages = load_stages(pipeline, rules, journal)
            requests = held.enter_context(closing(open_requests(pipeline, rules, journal, state, stages, lambda: None)))
            ready.set()
            while not over.wait(0.01):
                requests.work(0.04)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        over.set()
        thread.join()


def _at_once(life: Life, number: int, **content: object) -> list[dict[str, Any]]:
    """The same is asked for several times at once; the answers."""
    pipeline = load_pipeline(life.file)
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(lambda _: ask(pipeline, content, 60), range(number)))


def test_of_commands_at_once_each_is_answered_and_each_record_is_delivered_once(life: Life) -> None:
    first, second, third = life.ids()
    before = len(life.delivered())
    with _ingest(life):
        assert life.step("quarantine fix", first, second, "--set", "amount=1", "--by", "ann@example.com")["fixed"] == 2
        done = _at_once(life, 3, action="approve", ids=[first, second], by="bo@example.com")
        assert sorted(one["done"] for one in done) == [0, 0, 2]
        assert {reason["why"] for one in done for reason in one["records"]} == {"it is approved already, by bo@example.com"}
        done = _at_once(life, 3, action="replay", ids=[first, second])
        assert sorted(one["done"] for one in done) == [0, 0, 2]
        assert len(life.delivered()) == before + 2
    done = _at_once(life, 3, action="fix", ids=[third], by="ann@example.com", set={"amount": "3"}, expr={})  # without an ingest
    assert [one["done"] for one in done] == [1, 1, 1]
    done = _at_once(life, 3, action="approve", ids=[third], by="bo@example.com")
    assert sorted(one["done"] for one in done) == [0, 0, 1]
    with ThreadPoolExecutor(1) as pool:  # ingest begins while a command is at work
        answer = pool.submit(_at_once, life, 2, action="replay", ids=[third])
        with _ingest(life):
            assert sorted(one["done"] for one in answer.result()) == [0, 1]
    assert len(life.delivered()) == before + 3
    assert life.step("audit verify")["sound"]
    assert life.counts()["quarantined"] == 0


def test_what_nobody_answers_says_so_and_is_carried_out_later(life: Life) -> None:
    first, *_ = life.ids()
    with ProcessLock(life.state_folder, INGEST, "ingest"):
        refused = life.run("quarantine discard", first, "--why", "a test", "--by", "ann@example.com", "--timeout", "1")
    assert refused.code == 2
    assert "was not answered within 1 s" in refused.err
    assert [one["status"] for one in life.list()] == ["open"] * 3
    life.step("quarantine replay", "--approved")
    assert [one["status"] for one in life.list()] == ["discarded", "open", "open"]
