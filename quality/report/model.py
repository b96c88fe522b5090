"""The numbers of a report, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SinkLine:
    """Conservation in one sink: in = delivered + filtered + quarantined + dropped once it has caught up."""

    sink: str
    rows_in: int
    delivered: int
    filtered: int
    quarantined: int
    dropped: int
    caught_up: bool

    @property
    def settled(self) -> int:
        return self.delivered + self.filtered + self.quarantined + self.dropped

    @property
    def verdict(self) -> str:
        """`balanced`, `on its way` (the sink has not everything yet), or `unbalanced`."""
        if self.settled == self.rows_in:
            return "balanced"
        return "unbalanced" if self.caught_up else "on its way"


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule since the journal began: how many changes it was asked about, and how many broke it."""

    rule: str
    columns: str
    action: str
    engine: str
    evaluated: int
    failed: int

    @property
    def pass_rate(self) -> float | None:
        return None if not self.evaluated else 1 - self.failed / self.evaluated


@dataclass(frozen=True, slots=True)
class Cause:
    """Records in quarantine for one reason, with values as the contract lets them be shown, and the command that lists them."""

    group: str
    rule: str
    column: str | None
    message: str
    records: int
    since: datetime
    samples: Sequence[str]
    command: str


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """Everything on one page."""

    pipeline: str
    dataset: str
    owner: str | None
    contract: str | None
    written_at: datetime
    rows_in: int
    quarantined: int
    dropped: int
    open_quarantine: int
    first_position: str | None
    last_position: str | None
    first_time: datetime | None
    last_time: datetime | None
    sinks: Sequence[SinkLine] = ()
    rules: Sequence[RuleLine] = ()
    causes: Sequence[Cause] = field(default_factory=tuple)

    @property
    def verdict(self) -> str:
        """`good`: nothing waits for a person; `attention`: records are in quarantine; `bad`: counts don't add up."""
        if any(line.verdict == "unbalanced" for line in self.sinks):
            return "bad"
        return "attention" if self.open_quarantine else "good"

    @property
    def pass_rate(self) -> float | None:
        return None if not self.rows_in else 1 - (self.quarantined + self.dropped) / self.rows_in
