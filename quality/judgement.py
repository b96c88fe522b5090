"""What the gate says of one batch: which rows go on, and what became of the others and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from journal.batch import ChangeBatch
from journal.quarantine import Reason

Mask = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]

MASKED = "***"
UNDECODABLE = "undecodable"
"""The rule that a value breaks which cannot be held as text (bytes that are not UTF-8, a NUL)."""

BREAKER = "breaker"
"""What stands for a rule where the breaker has tripped."""


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A row that is held back: its index in the batch, and every reason."""

    row: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """The table stops. A rule whose action is `fail` was broken: `row` is the first row that broke it, `count` how many did.

    Or a rule cannot be judged on this batch (`count` is 0), or the breaker has tripped (`rule` is `breaker`).
    """

    rule: str
    row: int
    count: int
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """The verdict on one batch of n rows.

    passed       bool[n]: rows that go on, those with warnings, deletes and truncates among them
    quarantined  in the order of the rows
    dropped      rule id -> indices; a row that broke several is listed under the first of them
    warnings     rule id -> number of rows that broke it and go on all the same
    failure      the table stops; nothing of the batch is to be delivered
    judged       number of rows that rules were asked about
    alert        the breaker has tripped: why rows that break rules are delivered all the same
    """

    passed: Mask
    quarantined: Sequence[QuarantinedRow] = ()
    dropped: Mapping[str, Longs] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    failure: Failure | None = None
    judged: int = 0
    alert: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """What rules say of the rows of a batch, whatever that would make of them.

    broken   rule id -> indices of the rows that break it, ascending
    unknown  rule id -> those that nobody can judge by it, as it compares them with what is not known any more
    """

    broken: Mapping[str, Longs]
    unknown: Mapping[str, Longs]


def undecodable(batch: ChangeBatch) -> Judgement:
    """The verdict where no contract is: only what cannot be held as text is held back."""
    passed = np.ones(len(batch), np.bool_)
    reasons: dict[int, list[Reason]] = {}
    for defect in batch.defects:
        reasons.setdefault(defect.row, []).append(Reason(UNDECODABLE, defect.column, defect.message, defect.shown))
    passed[list(reasons)] = False
    return Judgement(passed, [QuarantinedRow(row, tuple(reasons[row])) for row in sorted(reasons)])
