"""A journal with partitions that a test writes itself, everything that can happen to a table in it, and what has to come of that."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from journal.batch import ChangeBatch, CopyMarker, Op
from journal.bell import Ringer
from journal.local import JournalWriter
from journal.schema import Column, TableSchema
from pipeline.model import JournalConfig
from tests.fix_pipeline import PipelineUnderTest

PARTITIONS = 8
FILE = """
pipeline: shop
state: .sluice
journal: {{type: kafka, bootstrap_servers: "127.0.0.1:1", partitions: 8, retention: 0s}}
sources:
  portal: {{type: postgres, dsn: "host=nowhere.invalid", tables: [public.orders, public.moves]}}
sinks:
  eu:
    type: postgres
    dsn: "{sink}"
    datasets:
      orders: {{{route}}}
      moves: {{mode: history}}
"""
"""No broker answers: the copy in the state folder is the journal, which the test writes."""

Row = tuple[str | None, ...]


def schema_of(dataset: str, *more: str) -> TableSchema:
    columns = (Column("id", "bigint", 1, nullable=False), Column("region", "text", 2), Column("amount", "integer", 3))
    return TableSchema(dataset, (*columns, *(Column(name, "text", 4 + i) for i, name in enumerate(more))), ("id",))


@dataclass
class Change:
    """`old` is the id that the row had before, where it is another one."""

    op: Op
    row: Row
    old: str | None = None


@dataclass
class Shop:
    """Ingest's end, and the truth. `told` are all changes by ordinal: op and id."""

    pipeline: PipelineUnderTest
    name: str = "shop"
    seed: int = 1
    rows: dict[str, Row] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    told: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    refused: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.journal = JournalWriter.open(self.pipeline.state, self.name, JournalConfig(1 << 30), partitions=PARTITIONS)
        self.bell = Ringer(self.pipeline.state, ["eu"])
        self.next = 1
        self.lsn = 100

    def _row(self, key: str) -> Row:
        chance = self.random
        return (key, chance.choice(["EU", "US", None]), str(chance.randrange(1000)), *(str(chance.random()) for _ in self.more))

    def _change(self) -> Change:
        kind = self.random.random()
        if kind < 0.4 or len(self.rows) < 10:
            self.next += 1
            row = self._row(str(self.next))
            self.rows[str(self.next)] = row
            return Change(Op.INSERT, row)
        key = self.random.choice(list(self.rows))
        if kind < 0.8:
            self.rows[key] = self._row(key)
            return Change(Op.UPDATE, self.rows[key])
        if kind < 0.98:
            return Change(Op.DELETE, self.rows.pop(key))
        self.next += 1
        new = str(self.next)
        self.rows.pop(key)
        self.rows[new] = self._row(new)
        return Change(Op.UPDATE, self.rows[new], old=key)

    def work(self, rows: int) -> None:
        """One transaction."""
        self.put([self._change() for _ in range(rows)])

    def truncate(self) -> None:
        self.rows.clear()
        self.put([Change(Op.TRUNCATE, (None,) * (3 + len(self.more)))])

    def alter(self) -> None:
        """The tables get another column."""
        self.more = (*self.more, f"extra{len(self.more)}")
        self.rows = {key: (*row, None) for key, row in self.rows.items()}

    def put(self, changes: Sequence[Change], *, sink: str | None = None, datasets: Sequence[str] = ("orders", "moves")) -> None:
        self.lsn += 1
        for dataset in datasets:
            batch = self._batch(dataset, changes)
            self.journal.append(batch if sink is None else replace(batch, sink=sink))
            first, last = int(batch.ordinal[0]), int(batch.ordinal[-1])
            if sink is None:
                self.journal.count(dataset, source="portal", rows=len(batch), first_ordinal=first, last_ordinal=last)
            if dataset == "moves" and sink is None:
                self.told.update({n: (change.op.word, change.row[0]) for n, change in zip(batch.ordinal.tolist(), changes, strict=True)})
        self.commit()

    def commit(self) -> None:
        self.journal.commit("portal", f'{{"lsn": {self.lsn}}}')
        self.bell.ring()

    def _batch(self, dataset: str, changes: Sequence[Change]) -> ChangeBatch:
        schema = schema_of(dataset, *self.more)
        n = len(changes)
        first = self.journal.next_ordinal
        old = [change.old for change in changes]
        return ChangeBatch(
            schema=schema,
            source="portal",
            table=f"public.{dataset}",
            op=np.array([change.op for change in changes], np.uint8),
            lsn=np.full(n, self.lsn, np.int64),
            nth=np.arange(n, dtype=np.int64),
            time=np.zeros(n, np.int64),
            ordinal=np.arange(first, first + n, dtype=np.int64),
            columns=tuple(pa.array([change.row[c] for change in changes], pa.string()) for c in range(len(schema.columns))),
            old={0: pa.array(old, pa.string())} if any(old) else {},
            has_old=np.array([key is not None for key in old]) if any(old) else None,
        )

    def copy(self, dataset: str, sink: str) -> None:
        """A copy of a table, for one sink."""
        start = CopyMarker(schema_of(dataset, *self.more), "portal", f"public.{dataset}", "start", self.journal.next_ordinal, sink=sink)
        self.journal.mark(start)
        self.commit()
        self.put([Change(Op.READ, row) for row in self.rows.values()], sink=sink, datasets=[dataset])
        self.journal.mark(replace(start, phase="end"))
        self.commit()

    def wanted(self) -> list[tuple[object, ...]]:
        """What is in the mirror in the end."""
        return sorted((int(row[0] or 0), row[1], int(row[2] or 0), *row[3:]) for row in self.rows.values())

    def close(self) -> None:
        self.journal.close()
        self.bell.close()
