"""Rules over steps, over the rows of a file: those of one key follow each other in the order of the file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from quality.chains import Asked, judge_chains
from quality.contract import Contract
from quality.frame import Frame
from quality.kernels.verdict import RowVerdict
from quality.latest import equal_codes
from quality.rules import Action, Rule
from quality.step import Longs, Step, StepJudge

Mask = npt.NDArray[np.bool_]


class Changes:
    """The rows of a file as changes: those of one key follow each other. The contract has a key."""

    def __init__(self, contract: Contract, frame: Frame) -> None:
        self._frame = frame
        self._parent = _parent([frame.column(name).array for name in contract.key], frame.skipped(contract.key))

    @property
    def latest(self) -> Mask:
        """bool[n]: rows that stand at the end of the file, of several with one key the last."""
        latest = np.ones(self._frame.rows, np.bool_)
        latest[self._parent[self._parent >= 0]] = False
        return latest

    def judge(self, rules: Sequence[tuple[Rule, StepJudge]], held: Mask) -> list[RowVerdict]:
        """The verdict of each rule. A row that breaks a rule which would hold it back (`held`, or one of these) is no step."""
        asked = []
        frame = self._frame
        for rule, judge in rules:
            steps = []
            for name in judge.columns:
                step, skipped = judge.numbered(frame.column(name)), frame.skipped((name,))
                if skipped is not None:
                    step = Step(np.where(skipped, -1, step.now), np.where(skipped, -1, step.held), step.breaks)
                steps.append(step)
            nothing = [np.full(frame.rows, -1, np.int64)] * len(steps)
            asked.append(Asked(steps, nothing, nothing, np.ones(frame.rows, np.bool_), rule.action is not Action.WARN))
        broken = judge_chains(asked, self._parent, self._parent < 0, held)
        return [
            RowVerdict.of(int(np.count_nonzero(np.any([step.now >= 0 for step in one.steps], axis=0))), failed, judge.mostly)
            for (_, judge), one, failed in zip(rules, asked, broken, strict=True)
        ]


def _parent(keys: Sequence[pa.Array], skipped: Mask | None) -> Longs:
    """int64[n]: the row before of the same key; -1 where there is none. A row whose key lacks a part is no other's."""
    codes, whole = equal_codes(keys)
    if skipped is not None:
        whole = whole & ~skipped
    parent = np.full(len(codes), -1, np.int64)
    rows = np.flatnonzero(whole)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    same = codes[rows[1:]] == codes[rows[:-1]]
    parent[rows[1:][same]] = rows[:-1][same]
    return parent
