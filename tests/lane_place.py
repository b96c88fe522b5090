"""A pipeline of one table in this process: its judge, its journal, and what its owners ask for, without a source or a sink."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataflows import steps
from dataflows.build import contracts
from dataflows.fixing import fix
from dataflows.judging import Judge
from dataflows.records import judged_records
from dataflows.refused_steps import RefusedSteps
from dataflows.replay import Replay
from dataflows.requests import Requests
from dataflows.stages import load_stages
from dataflows.steps import Answer, Desk, Doing
from dataflows.strict_order import strict_order
from journal.batch import ChangeBatch, CopyMarker, Op, Segment
from journal.bell import Ringer
from journal.inbox import Inbox, Request
from journal.local import JournalReader, JournalWriter
from journal.quarantine import QuarantineRecord, Wanted
from journal.returns import Returns
from journal.schema import Column, TableSchema
from journal.state import State
from pipeline.load import load_pipeline
from pipeline.model import JournalConfig
from tests.contract_text import positive_amounts, write_contract
from tests.journal_cases import everything, ordinals
from tests.played_source import journal_step

SCHEMA = TableSchema("orders", (Column("id", "text", 1), Column("amount", "integer", 2)), ("id",))
SOURCE, TABLE = "portal", "public.orders"


@dataclass(frozen=True)
class Change:
    """One change: the row's id and amount (of a delete: none), and the id that an update took from it."""

    op: Op
    id: str | None = None
    amount: str | None = None
    old: str | None = None


def put(id: str, amount: int) -> Change:
    return Change(Op.INSERT, id, str(amount))


def update(id: str, amount: int, old: str | None = None) -> Change:
    return Change(Op.UPDATE, id, str(amount), old)


def delete(id: str) -> Change:
    return Change(Op.DELETE, id)


def copied(id: str, amount: int) -> Change:
    return Change(Op.READ, id, str(amount))


TRUNCATE = Change(Op.TRUNCATE)


def batch_of(changes: Sequence[Change]) -> ChangeBatch:
    n = len(changes)
    old = [change.old for change in changes]
    moved = np.array([one is not None for one in old], np.bool_)
    absent = np.array([change.op is Op.DELETE for change in changes], np.uint8)
    return ChangeBatch(
        schema=SCHEMA,
        source=SOURCE,
        table=TABLE,
        op=np.array([change.op for change in changes], np.uint8),
        lsn=np.zeros(n, np.int64),
        nth=np.arange(n, dtype=np.int64),
        time=np.zeros(n, np.int64),
        ordinal=np.zeros(n, np.int64),
        columns=(pa.array([change.id for change in changes], pa.string()), pa.array([change.amount for change in changes], pa.string())),
        presence={1: absent} if absent.any() else {},
        old={0: pa.array(old, pa.string())} if moved.any() else {},
        has_old=moved if moved.any() else None,
    )


PIPELINE = """\
pipeline: commerce
state: .
sources: {portal: {type: postgres, dsn: host=nowhere, tables: [public.orders]}}
datasets: {orders: {from: [portal.public.orders], contract: orders.odcs.yaml}}
sinks: {out: {type: duckdb, path: out.duckdb}}
"""


class Place:
    """What ingest has between its source and the journal. Made anew after `close` it goes on where it was."""

    def __init__(self, folder: Path, order: str, *, contract: str | None = None, pipeline: str = PIPELINE, partitions: int = 0) -> None:
        self.folder = folder
        write_contract(folder, contract or positive_amounts("string", order))
        (folder / "pipeline.yaml").write_text(pipeline)
        self.pipeline = load_pipeline(folder / "pipeline.yaml")
        rules = contracts(self.pipeline)
        self._held = ExitStack()
        opened = JournalWriter.open(folder, "commerce", JournalConfig(1 << 40, 0.0), partitions=partitions)
        self.journal = self._held.enter_context(opened)
        stages = load_stages(self.pipeline, rules, self.journal)
        record = partial(judged_records, self.journal.id, lambda batch, row: "0/1", "orders@example.com")
        remembered: dict[str, Any] = {"versions": stages.versions, "earlier": stages.earlier}
        strict = strict_order(self.journal, rules)
        self.judge = Judge(self.journal.next_ordinal, partial(stages.gate, rules), record, order=strict, **remembered)
        ringer = Ringer(folder, [])
        self._held.callback(ringer.close)
        self.step = journal_step(SOURCE, self.journal, self.judge, ringer, **remembered)
        self.copying: set[tuple[str, str]] = set()
        self.replay = Replay(self.journal, rules, stages, lambda: self.copying, lambda: None)
        self._desk = Desk(self.journal, rules, stages.maps, lambda *_: None, self.replay, 0.0, folder)
        self.returns = Returns(folder)
        self._held.callback(self.returns.close)
        self.refused = RefusedSteps(self._desk, self.returns, stages, rules, lambda: None)

    def take(self, *batches: Sequence[Change] | ChangeBatch | CopyMarker) -> None:
        """One transaction of the source: its batches, all judged before the first of them is written."""
        entries = [one if isinstance(one, CopyMarker | ChangeBatch) else batch_of(one) for one in batches]
        self.step.write_batch([self.judge.segment(Segment(SOURCE, entries, "w"))])

    def ask(self, action: str, *records: QuarantineRecord, **content: Any) -> Answer:
        """What an owner asks for; of a replay what comes of it, too."""
        doing = self.begin(request(action, *records, **content))
        while True:
            try:
                next(doing)
            except StopIteration as ended:
                answer: Answer = ended.value
                break
        while self.replay.step(100):
            pass
        return answer

    def begin(self, asked: Request) -> Doing:
        """The work on a request, a piece with each `next`."""
        step = {"fix": fix, "approve": steps.approve, "discard": steps.discard, "replay": steps.replay}[asked.action]
        return step(self._desk, asked)

    def requests(self) -> Requests:
        """What takes requests, for the caller to close."""
        return Requests(self._desk, Inbox(self.folder), self.refused)

    def kept_head(self) -> tuple[int, str] | None:
        """How far the state knows the audit trail."""
        with closing(State.open(self.folder)) as state:
            return state.trail_head(self.journal.id)

    def mend(self, record: QuarantineRecord, amount: int) -> Answer:
        """Fixes, approves and replays a record."""
        self.ask("fix", record, set={"amount": str(amount)})
        self.ask("approve", record, by="bo@example.com")
        return self.ask("replay", record)

    def records(self, status: str | None = None) -> list[QuarantineRecord]:
        with JournalReader.open(self.folder, "commerce") as reader:
            return reader.quarantined(Wanted(status=status))

    def waits(self) -> dict[int, list[str]]:
        """Ordinal of each record -> its rules, and in place of `order` the record that it waits for."""
        return {
            one.ordinal: [reason.message.rpartition("-")[2] if reason.rule == "order" else reason.rule for reason in one.reasons]
            for one in self.records()
        }

    def entries(self) -> list[ChangeBatch | CopyMarker]:
        """What a sink gets that keeps up: commit by commit, as ingest wrote it."""
        with JournalReader.open(self.folder, "commerce") as reader:
            return everything(reader, max_bytes=1)

    def passed(self) -> list[int]:
        """The ordinals of what went on, in the order in which it did."""
        return ordinals(self.entries())

    def close(self) -> None:
        self._held.close()


def request(action: str, *records: QuarantineRecord, **content: Any) -> Request:
    told = {"action": action, "ids": [one.id for one in records], "by": "ann@example.com", **content}
    return Request(uuid.uuid4().hex, time.time(), told)


def marker(phase: str) -> CopyMarker:
    return CopyMarker(SCHEMA, SOURCE, TABLE, phase, 0)
