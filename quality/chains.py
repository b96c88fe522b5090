"""Rules over steps, asked in the order of the changes of each row: a change that is held back does not count as passed.

Whole columns at a time. Only where a change is held back are the changes behind it, of the same row, looked at one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, Op
from journal.sitting import touched_keys
from quality.batch_frame import FrameOfBatch
from quality.column import Column
from quality.kernels.verdict import RowVerdict
from quality.rules import Action, Rule
from quality.sql_rules import ExplainedVerdict
from quality.step import Longs, Step, StepJudge

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """What n changes come after.

    parent  int64[n]: the change of the batch whose values the change continues; -1 where the batch has none
    fresh   bool[n]: there was no such row before the change, so there is nothing to compare it with
    values  column -> string[n]: what passed last of the row before the batch; null where nothing has
    old     column -> string[n]: what the log says that the row was before the change, which counts where no value has passed
    unknown bool[n]: nobody knows what there was before the batch, so that a null in `values` does not say that there was nothing;
            None where whoever remembers knows all that has passed
    """

    parent: Longs
    fresh: Mask
    values: Mapping[str, pa.StringArray]
    old: Mapping[str, pa.StringArray]
    unknown: Mask | None = None


class Stepped(NamedTuple):
    """What a batch says of one rule. `unknown`: bool[n], the changes that nobody can judge by it: see Earlier.unknown."""

    rule: Rule
    verdict: ExplainedVerdict
    unknown: Mask


class Memory(Protocol):
    """The values that passed last, by key."""

    def earlier(self, batch: ChangeBatch, columns: Sequence[str]) -> Earlier:
        """What the changes of a batch come after."""

    def late(self, batch: ChangeBatch, kept: Mask) -> Mask:
        """bool[n]: of the changes that are `kept` those that come behind a newer version of their row, and so are no steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One rule with the values of its columns. `meant`: bool[n], the changes that it judges; `holds`: what breaks it does not pass.

    `base` has for each step int64[n], the numbers of what is known from before the batch, and `old` those of what the log says.
    """

    steps: Sequence[Step]
    base: Sequence[Longs]
    old: Sequence[Longs]
    meant: Mask
    holds: bool


def judge_chains(asked: Sequence[Asked], parent: Longs, fresh: Mask, held: Mask) -> list[Mask]:
    """bool[n] for each rule: the changes that break it. `held`: changes that do not pass for other reasons."""
    broken = [_broken(one, parent, fresh, held) for one in asked]
    stopped = np.zeros(len(parent), np.bool_)
    for one, failed in zip(asked, broken, strict=True):
        if one.holds:
            stopped |= failed & ~held
    if (parent >= 0).any() and stopped.any():
        root = roots(parent)
        behind = np.isin(root, root[stopped]) & (parent >= 0)
        if behind.any():
            _one_by_one(asked, broken, root, fresh, held, np.flatnonzero(np.isin(root, root[behind])))
    return broken


def _broken(asked: Asked, parent: Longs, fresh: Mask, held: Mask) -> Mask:
    """As if every change that is not `held` passed."""
    failed = np.zeros(len(parent), np.bool_)
    for step, base, old in zip(asked.steps, asked.base, asked.old, strict=True):
        before = _before(step, base, old, parent, fresh, held)
        known = (before >= 0) & (step.now >= 0) & asked.meant
        failed |= known & step.breaks(before, step.now)
    return failed


def _before(step: Step, base: Longs, old: Longs, parent: Longs, fresh: Mask, held: Mask) -> Longs:
    known = np.where(fresh, -1, base)
    if (parent >= 0).any():
        lacking = held | (step.held < 0)
        source = holder(parent, lacking)[parent]  # nonsense where there is no parent
        known = np.where((parent >= 0) & ~lacking[source], step.held[source], known[roots(parent)])
    return np.where(known < 0, old, known)


def roots(parent: Longs) -> Longs:
    """int64[n]: the first change of the batch that each change continues, or itself."""
    return holder(parent, np.ones(len(parent), np.bool_))


def holder(parent: Longs, lacking: Mask) -> Longs:
    """int64[n]: for each change itself, or the nearest before it that is not `lacking`; where all are, the first of them."""
    at = np.where(lacking & (parent >= 0), parent, np.arange(len(parent)))
    while True:
        further = at[at]
        if (further == at).all():
            return at
        at = further


def _one_by_one(asked: Sequence[Asked], broken: Sequence[Mask], root: Longs, fresh: Mask, held: Mask, rows: Longs) -> None:
    """Puts into `broken` what is so for these changes, which are all changes of their rows."""
    last: dict[int, list[list[int]]] = {}
    for row in rows.tolist():
        first = int(root[row])
        known = last.get(first)
        if known is None:
            known = last[first] = [[-1 if fresh[first] else int(base[first]) for base in one.base] for one in asked]
        stays = not held[row]
        for one, failed, before in zip(asked, broken, known, strict=True):
            compared = zip(one.steps, before, one.old, strict=True)
            failed[row] = one.meant[row] and any(
                _breaks(step, int(old[row]) if was < 0 else was, int(step.now[row])) for step, was, old in compared
            )
            stays &= not (one.holds and failed[row])
        if stays:
            for one, before in zip(asked, known, strict=True):
                before[:] = [int(step.held[row]) if step.held[row] >= 0 else was for step, was in zip(one.steps, before, strict=True)]


def _breaks(step: Step, before: int, now: int) -> bool:
    return before >= 0 and now >= 0 and bool(step.breaks(before, now))


def _moved(batch: ChangeBatch) -> Mask:
    """bool[n]: changes that give their row another key."""
    moved = np.zeros(len(batch), np.bool_)
    moved[touched_keys(batch)[1][len(batch) :]] = True
    return moved


def _unmoved(batch: ChangeBatch, rows: Mask) -> ChangeBatch:
    """The batch with changes that leave their rows the key which they had."""
    if not rows.any():
        return batch
    chosen = pa.array(rows)
    columns = list(batch.columns)
    for index in batch.schema.key_indices:
        if index in batch.old:
            columns[index] = pc.if_else(chosen, pc.coalesce(batch.old[index], columns[index]), columns[index])
    return replace(batch, columns=tuple(columns))


def _unknown(asked: Asked, earlier: Earlier, held: Mask) -> Mask:
    """bool[n]: changes with a value to compare, of which nobody knows with what."""
    unknown = np.zeros(len(held), np.bool_)
    if earlier.unknown is None or not earlier.unknown.any():
        return unknown
    for step, base, old in zip(asked.steps, asked.base, asked.old, strict=True):
        unknown |= (step.now >= 0) & (_before(step, base, old, earlier.parent, earlier.fresh, held) < 0)
    return unknown & asked.meant & earlier.unknown[roots(earlier.parent)]


class ChainRules:
    """The rules of a gate that compare a change with the one before it."""

    def __init__(self, rules: Sequence[tuple[Rule, StepJudge]], frames: FrameOfBatch, memory: Memory) -> None:
        self._rules = rules
        self._frames = frames
        self._memory = memory
        self._columns = tuple(dict.fromkeys(name for _, judge in rules for name in judge.columns))

    def broken(self, batch: ChangeBatch, meant: Sequence[Mask], held: Mask) -> list[Stepped]:
        """What the batch breaks, and what the values were before. `meant`: for each rule bool[n], the changes that it is for; `held`:
        those that do not pass anyway.

        A copied row is what it is, however it came to be: it is compared with nothing. Nor is a row that is late. A row whose change of its
        key does not pass is what it was, under the key that it had.
        """
        meant = [mask & (batch.op != Op.READ) for mask in meant]
        moved = _moved(batch)
        unmoved = moved & held
        earlier = self._memory.earlier(_unmoved(batch, unmoved), self._columns)
        asked = self._asked(batch, earlier, meant)
        late = self._memory.late(batch, ~held)
        while True:
            now = [Asked(one.steps, one.base, one.old, one.meant & ~late, one.holds) for one in asked] if late.any() else asked
            broken = judge_chains(now, earlier.parent, earlier.fresh, held | late)
            stopped = np.zeros(len(batch), np.bool_)
            for one, failed in zip(now, broken, strict=True):
                if one.holds:
                    stopped |= failed
            again = self._memory.late(batch, ~(held | stopped)) if late.any() and stopped.any() else late
            stay = moved & (held | stopped | again)
            if (again == late).all() and (stay == unmoved).all():
                break
            if (stay != unmoved).any():
                unmoved = stay
                earlier = self._memory.earlier(_unmoved(batch, unmoved), self._columns)
                asked = self._asked(batch, earlier, meant)
            late = again
        found = []
        gone = held | late | stopped
        for (rule, judge), one, failed in zip(self._rules, now, broken, strict=True):
            verdict = RowVerdict.of(int(np.count_nonzero(one.meant)), failed, judge.mostly)
            said = self._said(judge, one, batch, earlier, np.flatnonzero(failed), gone) if failed.any() else {}
            explained = ExplainedVerdict(verdict.evaluated, verdict.failed, verdict.success, said)
            found.append(Stepped(rule, explained, _unknown(one, earlier, gone) & ~failed))
        return found

    def _said(self, judge: StepJudge, one: Asked, batch: ChangeBatch, earlier: Earlier, failed: Longs, held: Mask) -> dict[int, str]:
        """Of the changes that broke a rule what the first value was that may not become what it has become."""
        said: dict[int, str] = {}
        for name, step, base, old in zip(judge.columns, one.steps, one.base, one.old, strict=True):
            before = _before(step, base, old, earlier.parent, earlier.fresh, held)[failed]
            numbers, places = np.unique(np.r_[step.held, base, old], return_index=True)
            texts = pa.concat_arrays([batch.column(name), earlier.values[name], earlier.old[name]])
            known = np.flatnonzero((before >= 0) & (step.now[failed] >= 0) & step.breaks(before, step.now[failed]))
            was = texts.take(pa.array(places[np.searchsorted(numbers, before[known])])).to_pylist()
            for row, text in zip(failed[known].tolist(), was, strict=True):
                said.setdefault(row, f"it was {text}" if len(judge.columns) == 1 else f"{name} was {text}")
        return said

    def _asked(self, batch: ChangeBatch, earlier: Earlier, meant: Sequence[Mask]) -> list[Asked]:
        n = len(batch)
        values = {name: self._values(batch, name, earlier) for name in self._columns}
        found: list[Asked] = []
        for (rule, judge), mask in zip(self._rules, meant, strict=True):
            steps, base, old = [], [], []
            for name in judge.columns:
                column, unknown = values[name]
                step = judge.numbered(column)
                step = Step(np.where(unknown, -1, step.now), np.where(unknown, -1, step.held), step.breaks)
                base.append(step.held[n : 2 * n])
                old.append(step.held[2 * n :])
                steps.append(Step(step.now[:n], step.held[:n], step.breaks))
            found.append(Asked(steps, base, old, mask, rule.action is not Action.WARN))
        return found

    def _values(self, batch: ChangeBatch, name: str, earlier: Earlier) -> tuple[Column, Mask]:
        """The values of a column, and behind them what passed last, and what the log says; bool[3n]: those that say nothing."""
        index = batch.schema.index(name)
        typed = self._frames.typed(name, pa.concat_arrays([batch.columns[index], earlier.values[name], earlier.old[name]]))
        unknown = typed.malformed.copy()
        gone = (batch.op == Op.DELETE) | (batch.op == Op.TRUNCATE)
        unknown[: len(batch)] |= batch.absent(index) | gone
        for defect in batch.defects:
            if defect.column in (None, name):
                unknown[defect.row] = True
        return Column(typed.values), unknown
