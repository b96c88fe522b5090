"""A contract on trial: asked of changes a second time, with what it would remember of them, on the side, where nothing is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.earlier_values import EarlierValues
from dataflows.judging import LATE
from dataflows.lookup_rows import LookupRows
from dataflows.lookups import Lookups
from dataflows.strict_order import StrictOrder
from dataflows.trial_walk import Kind, Turn
from dataflows.versions import Versions
from journal import sitting
from journal.batch import ChangeBatch, CopyMarker, Longs, Mask, Op
from journal.key_hash import NO_HASHES, HashedKeys, key_hashes
from journal.queueing import ORDER
from journal.reading import JournalReader
from journal.sitting import SittingKeys, touched_keys
from pipeline.errors import ConfigError
from pipeline.model import Pipeline
from quality.chains import Earlier, roots
from quality.contract import Contract
from quality.gate import Gate
from quality.judgement import Tried
from quality.rules import Action, Rule, Scope

WORST = (Action.WARN, Action.DROP, Action.QUARANTINE, Action.FAIL)
"""What becomes of a row that breaks several rules: the last of these that one of them asks for."""

_SET = "it is about many rows together, which the auditor judges"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a contract would make of the n rows of a batch.

    tried    which rows break which rule; those that wait for a record of their key, or are late, break `order` and `order_by`
    becomes  int8[n]: -1 for a row that breaks nothing, else the place in WORST of what becomes of it
    """

    tried: Tried
    becomes: npt.NDArray[np.int8]

    @property
    def passes(self) -> Mask:
        """bool[n]: the row goes on, if with a warning."""
        found: Mask = self.becomes <= WORST.index(Action.WARN)
        return found

    def rules(self, chosen: Mask) -> dict[int, list[str]]:
        """Row -> the rules that it breaks, of the rows that are chosen and break any."""
        found: dict[int, list[str]] = {}
        for rule, rows in self.tried.broken.items():
            for row in rows[chosen[rows]].tolist():
                found.setdefault(row, []).append(rule)
        return found


class Trial:
    """A contract's rules, whatever their actions; the breaker is left out, and a rule whose action is `fail` stops nothing. One thread.

    actions     of the rules that are judged, by id; `not_judged` has the others with the reason
    looks_in    rules that look in a lookup, with its name: they see what it holds now
    remembers   whether what becomes of a change depends on the changes before it
    """

    def __init__(self, contract: Contract, pipeline: Pipeline, dataset: str, reader: JournalReader) -> None:
        self.contract = contract
        self._dataset = dataset
        self._pipeline = pipeline
        lookups = _Present(pipeline, reader)
        why = {rule.id: _SET if rule.scope is Scope.SET else lookups.refuse(rule) for rule in contract.rules}
        self.not_judged = {rule: said for rule, said in why.items() if said is not None}
        judged = [rule for rule in contract.rules if why[rule.id] is None]
        self.actions = {rule.id: rule.action for rule in judged}
        self.looks_in = {rule.id: rule.lookup for rule in judged if rule.lookup is not None}
        self.remembers = contract.order == "strict" or any(rule.scope is Scope.KEY for rule in judged)
        self._lookups = lookups.rows
        self._trial = replace(contract, rules=judged, breaker=None)
        self._gates: dict[str, Gate] = {}
        self._memory: _Memory | None = None
        self._order: StrictOrder | None = None

    @property
    def columns(self) -> frozenset[str]:
        """Those that have to be there, beside the key, to judge and to remember."""
        dataset = self._pipeline.datasets.get(self._dataset)
        order_by = None if dataset is None else dataset.order_by
        return frozenset([*self.contract.columns, *([] if order_by is None else [order_by])])

    def begin(self, *, whole: bool) -> None:
        """Remembers from now on what would have passed; see `remembers`. `whole`: nothing has passed before."""
        versions = Versions(self._pipeline)
        self._gates.clear()  # none of them compares anything
        self._memory = _Memory(EarlierValues({self._dataset: self._trial}, versions), versions, whole=whole)
        if self.contract.order == "strict":
            self._order = StrictOrder("", _nobody_sits(), {self._dataset})

    def fits(self, batch: ChangeBatch) -> None:
        """Raises ConfigError where the contract does not fit the columns of a batch."""
        self._gate(batch)

    def _gate(self, batch: ChangeBatch) -> Gate:
        if batch.schema.encoded not in self._gates:
            self._gates[batch.schema.encoded] = Gate(self._trial, batch.schema, self._memory, self._lookups)
        return self._gates[batch.schema.encoded]

    def judge(self, batch: ChangeBatch) -> Outcome:
        """The verdict on changes, of which nothing is remembered. Raises ConfigError as `fits` does."""
        tried = self._gate(batch).tried(batch)
        return self._outcome(batch, tried.broken, tried.unknown)

    def take(self, turn: Turn) -> Outcome:
        """The verdict on the changes that come next, as ingest would come to it; what passes is remembered, if they are not `aside`."""
        memory = self._memory
        if memory is None:
            return self.judge(turn.batch)
        memory.created, memory.aside = turn.created, turn.how == "aside"
        outcome = self.judge(turn.batch)
        if memory.aside:
            return outcome
        tried = outcome.tried if self._order is None or turn.how == "released" else self._waiting(self._order, turn, outcome)
        outcome = self._outcome(turn.batch, tried.broken, tried.unknown)
        late = memory.take(turn.batch, outcome.passes)
        return self._outcome(turn.batch, {**tried.broken, LATE: late}, tried.unknown) if len(late) else outcome

    def _waiting(self, order: StrictOrder, turn: Turn, outcome: Outcome) -> Tried:
        """What rows break where some of them have to wait, of which rules over steps say nothing then: see StrictOrder.applied."""
        tried, steps = outcome.tried, self._gate(turn.batch).over_steps
        held = outcome.becomes >= WORST.index(Action.QUARANTINE)
        gone = held & (turn.kinds == Kind.SETTLED)  # for which no other waits
        for rule, rows in tried.broken.items():
            if self.action(rule) is Action.DROP and rule not in steps:
                gone[rows] |= ~held[rows]
        waits = np.array(sorted(order.waits(turn.batch, held & ~gone, gone, turn.apart)), np.int64)
        if not len(waits):
            return tried
        broken = {rule: rows[~np.isin(rows, waits)] if rule in steps else rows for rule, rows in tried.broken.items()}
        return Tried({**broken, ORDER: waits}, {rule: rows[~np.isin(rows, waits)] for rule, rows in tried.unknown.items()})

    def mark(self, marker: CopyMarker) -> None:
        """A copy of the dataset ends."""
        assert self._memory is not None  # noqa: S101  (`begin` made it)
        self._memory.values.mark(marker)

    def _outcome(self, batch: ChangeBatch, broken: Mapping[str, Longs], unknown: Mapping[str, Longs]) -> Outcome:
        becomes = np.full(len(batch), -1, np.int8)
        for rule, rows in broken.items():
            becomes[rows] = np.maximum(becomes[rows], WORST.index(self.action(rule)))
        return Outcome(Tried(broken, unknown), becomes)

    def action(self, rule: str) -> Action:
        """What becomes of a row that breaks the rule."""
        return Action.DROP if rule == LATE else self.actions.get(rule, Action.QUARANTINE)

    def named(self) -> dict[str, Any]:
        told = {name: getattr(self.contract, name) for name in ("id", "version", "fingerprint")}
        return {"file": str(self.contract.file), **told}


class _Memory:
    """What would have passed, by key; and of which keys nobody knows what has, as it did before anybody looked."""

    def __init__(self, values: EarlierValues, versions: Versions, *, whole: bool) -> None:
        self.values = values
        self._versions = versions
        self._whole = whole
        self._known = HashedKeys()
        self._news = NO_HASHES
        self.created = np.zeros(0, np.bool_)
        self.aside = False

    def earlier(self, batch: ChangeBatch, columns: Sequence[str]) -> Earlier:
        """As EarlierValues, with what is `unknown`. What comes `aside` comes behind nothing that is remembered."""
        if self.aside:
            n, nothing = len(batch), pa.nulls(len(batch), pa.string())
            old = {name: batch.old.get(batch.schema.index(name), nothing) for name in columns}
            return Earlier(np.full(n, -1, np.int64), np.zeros(n, np.bool_), dict.fromkeys(columns, nothing), old, ~self.created)
        found = self.values.earlier(batch, columns)
        return found if self._whole else replace(found, unknown=self._unknown(batch, found))

    def _unknown(self, batch: ChangeBatch, found: Earlier) -> Mask:
        """Where a row begins, or ends, within what is looked at, all is known of it from then on."""
        n = len(batch)
        keys, rows = touched_keys(batch)
        hashes = key_hashes(keys)
        before = hashes[:n].copy()
        before[rows[n:]] = hashes[n:]
        unknown: Mask = ~found.fresh & ~self.created & ~self._known.has(before)
        ends = batch.op == Op.DELETE
        self._news = np.unique(np.concatenate([hashes[:n][~unknown[roots(found.parent)] | ends], hashes[n:]]))
        return unknown

    def late(self, batch: ChangeBatch, kept: Mask) -> Mask:
        return self.values.late(batch, kept)

    def take(self, batch: ChangeBatch, passes: Mask) -> Longs:
        """Remembers what has passed. Returns the rows that were late, and so have not."""
        self._whole |= bool((batch.op == Op.TRUNCATE).any())
        self._known.add(self._news[~self._known.has(self._news)])
        self._news = NO_HASHES
        passed = batch if passes.all() else batch.take(passes)
        self._versions.check(passed.schema)
        gone = self._versions.sift(passed).gone
        late = np.isin(batch.ordinal, gone) & passes
        self.values.take(batch.take(passes & ~late) if late.any() else passed)
        return np.flatnonzero(late)


class _Present:
    """The lookups of a pipeline as they are now; one is read when a rule looks in it."""

    def __init__(self, pipeline: Pipeline, reader: JournalReader) -> None:
        self._lookups = Lookups(pipeline)
        self._reader = reader
        self._read: dict[str, str | None] = {}
        self.rows: dict[str, LookupRows] = {}

    def refuse(self, rule: Rule) -> str | None:
        """Why a rule cannot be judged; None for one that can."""
        name = rule.lookup
        if name is None:
            return None
        if name not in self._read:
            self._read[name] = self._why_not(name)
            if self._read[name] is None:
                self.rows[name] = LookupRows(name, self._lookups)
        return self._read[name]

    def _why_not(self, name: str) -> str | None:
        lookup = self._lookups.lookups.get(name)
        if lookup is None:
            return f"the pipeline has no lookup {name}"
        try:
            for entry in self._reader.lookup(name):
                if (entry.source, entry.table) != (lookup.source, lookup.table):
                    return f"the lookup {name} is another table now, of which nothing has been read yet"
                self._lookups.take_one(name, entry)
        except ConfigError as error:
            return error.message
        return None if self._lookups.tables[name].schema is not None else f"nothing of the lookup {name} has been read yet"


def _nobody_sits() -> SittingKeys:
    """Keys of quarantine, of which there are none."""
    db = sqlite3.connect(":memory:")
    for table in sitting.TABLES:
        db.execute(table)
    return SittingKeys(db, nullcontext)
