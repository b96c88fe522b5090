"""How well quality is looked after: what passes, how soon trouble is seen and mended, and how much of the error budget is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from journal.lengths import Lengths
from quality.report.trend import Moment

WINDOW = 30 * 86_400
"""Seconds over which the error budget is counted."""


@dataclass(frozen=True, slots=True)
class Effectiveness:
    """Over one stretch of time, such as `30 days`.

    rows       changes read; bad: those that were quarantined, dropped or refused; released: those of them that reached the sinks after all
    refused    of those that are bad, changes that the contract let pass and single sinks refused
    detecting  from commit to quarantine, of the records of which that is known; resolving: from quarantine until they left it
    steps      what people did: fixes, approvals, replays, discards, …; None where nobody wrote that down
    """

    window: str
    seconds: int | None
    rows: int = 0
    bad: int = 0
    released: int = 0
    refused: int = 0
    detecting: Lengths = field(default_factory=Lengths)
    resolving: Lengths = field(default_factory=Lengths)
    steps: int | None = None

    @property
    def resolved(self) -> int:
        """Records that left quarantine."""
        return self.resolving.number

    @property
    def success(self) -> float | None:
        """The share of changes that passed at once."""
        return None if self.rows <= 0 else max(0.0, 1 - self.bad / self.rows)

    @property
    def complete(self) -> float | None:
        """The share of changes that sinks have, or may have once they catch up: with those that were mended and released since."""
        return None if self.rows <= 0 else min(1.0, max(0.0, 1 - (self.bad - self.released) / self.rows))


@dataclass(frozen=True, slots=True)
class Budget:
    """How many changes may be bad, and how many are: `target` is the share that has to be good, over the last `seconds`.

    agreed     whether the contract says the target, or it is the default
    allowed    changes that may be bad; spent: those that are, without what was released
    """

    target: float
    agreed: bool
    seconds: int
    rows: int
    allowed: float
    spent: int

    @property
    def remaining(self) -> float | None:
        """What is left of it, of 1; below 0 once it is overspent, None while there are no changes."""
        if self.rows <= 0:
            return None
        if self.allowed <= 0:
            return 1.0 if self.spent <= 0 else -float(self.spent)
        return 1 - self.spent / self.allowed


def budget(target: float, agreed: bool, rows: int, bad: int, released: int, seconds: int = WINDOW) -> Budget:
    """The budget of a stretch of time in which so many changes came, were bad, and were released."""
    return Budget(target, agreed, seconds, rows, (1 - target) * rows, max(bad - released, 0))


def burn_down(moments: Sequence[Moment], whole: Budget) -> list[Moment]:
    """The same moments with what was left of the budget at the end of each; it is counted over those within its window."""
    if not moments or whole.remaining is None:
        return list(moments)
    begin = moments[-1].start.timestamp() - whole.seconds
    spent = 0
    found = []
    for moment in moments:
        if moment.start.timestamp() <= begin:
            found.append(moment)
            continue
        spent += moment.bad - moment.released
        left = replace(whole, spent=max(spent, 0)).remaining
        found.append(replace(moment, budget=left))
    return found


def together(parts: Sequence[Effectiveness]) -> Effectiveness:
    """Several datasets as one, over the same stretch of time."""
    first = parts[0]
    counted = [part.steps for part in parts if part.steps is not None]
    return Effectiveness(
        window=first.window,
        seconds=first.seconds,
        rows=sum(part.rows for part in parts),
        bad=sum(part.bad for part in parts),
        released=sum(part.released for part in parts),
        refused=sum(part.refused for part in parts),
        detecting=Lengths.together(part.detecting for part in parts),
        resolving=Lengths.together(part.resolving for part in parts),
        steps=sum(counted) if counted else None,
    )


def budgets_together(parts: Sequence[Budget]) -> Budget:
    """The budgets of several datasets as one: what each may have bad and has."""
    rows = sum(part.rows for part in parts)
    allowed = sum(part.allowed for part in parts)
    target = 1 - allowed / rows if rows else parts[0].target
    return Budget(target, all(part.agreed for part in parts), parts[0].seconds, rows, allowed, sum(part.spent for part in parts))
