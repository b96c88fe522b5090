"""The numbers of a report, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from quality.report.effectiveness import Budget, Effectiveness
from quality.report.levels import LevelLine
from quality.report.trend import Trend


@dataclass(frozen=True, slots=True)
class SinkLine:
    """Conservation in one sink: in = delivered + filtered + quarantined + dropped once it has caught up.

    refused    of those in quarantine, changes that the contract let pass and this sink did not take
    """

    sink: str
    rows_in: int
    delivered: int
    filtered: int
    quarantined: int
    dropped: int
    caught_up: bool
    refused: int = 0

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
    """One rule since the journal began: how many changes it was asked about, and how many broke it; `trend`: the share that passed it."""

    rule: str
    columns: str
    action: str
    engine: str
    evaluated: int
    failed: int
    kind: str = ""
    says: str = ""
    severity: str | None = None
    trend: Sequence[float | None] = ()

    @property
    def pass_rate(self) -> float | None:
        return None if not self.evaluated else max(0.0, 1 - self.failed / self.evaluated)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the owner can do: what it is for, and the command, ready for a shell."""

    says: str
    command: str


@dataclass(frozen=True, slots=True)
class Cause:
    """Records in quarantine for one reason, with values as the contract lets them be shown, and the command that lists them.

    sink       the only one that refused them; None: the contract held them back from all
    statuses   how many of them are open, patched, approved, …; steps: what can be done with them next
    """

    group: str
    rule: str
    column: str | None
    message: str
    records: int
    since: datetime
    samples: Sequence[str]
    command: str
    sink: str | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    steps: Sequence[Step] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """Where it hurts: how often rules of a kind were broken on a column, of how many changes, lately."""

    kind: str
    column: str
    failed: int
    evaluated: int


@dataclass(frozen=True, slots=True)
class Contact:
    """How to reach the owner."""

    channel: str
    tool: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the contract or of the columns, and the first change that came under it."""

    kind: str  # contract | schema
    says: str
    at: datetime | None = None
    position: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """Somebody is waited for: a contract that breaks consumers, or a fix that needs a second pair of eyes."""

    says: str
    since: datetime | None
    steps: Sequence[Step] = ()
    details: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """Something is not as it should be with the whole: the two engines disagree, or a rule over the set does not hold. `count`: seen so
    often, `since` first and `at` last; `samples` are what was found, masked where the contract says so."""

    kind: str
    says: str
    since: datetime
    at: datetime
    count: int = 1
    rule: str = ""
    samples: Sequence[str] = ()
    steps: Sequence[Step] = ()

    @property
    def grave(self) -> bool:
        """Whether something is wrong with what judges and counts, and not with the data alone."""
        return self.kind in ("disagreement", "gate", "counts")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often Great Expectations came to the verdict of the gate: `windows` of rules that both judged on so many `rows`, those in which
    they differ, and those that only one could judge."""

    windows: int
    rows: int
    differ: int
    unjudged: int = 0
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """Everything on one page. `refused`: changes that single sinks refused, and still lack."""

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
    gone: bool = False
    contract_file: str | None = None
    contract_written: str | None = None
    contacts: Sequence[Contact] = ()
    statuses: Mapping[str, int] = field(default_factory=dict)
    causes_left: int = 0
    list_command: str | None = None
    oldest: datetime | None = None
    levels: Sequence[LevelLine] = ()
    freshness_level: float | None = None
    trend: Trend = field(default_factory=Trend)
    heat: Sequence[Cell] = ()
    effectiveness: Sequence[Effectiveness] = ()
    budget: Budget | None = None
    pending: Sequence[Pending] = ()
    incidents: Sequence[Incident] = ()
    agreement: Agreement | None = None
    changes: Sequence[Change] = ()
    refused: int = 0

    @property
    def bad(self) -> int:
        """Changes that some sink or all of them lack."""
        return self.quarantined + self.dropped + self.refused

    @property
    def unbalanced(self) -> list[str]:
        """Sinks whose counts do not add up."""
        return [line.sink for line in self.sinks if line.verdict == "unbalanced"]

    @property
    def missed(self) -> list[str]:
        """Promises of the service level that are not kept."""
        return [line.property for line in self.levels if line.state == "missed"]

    @property
    def verdict(self) -> str:
        """`good`: nothing waits for a person; `attention`: something does; `bad`: counts don't add up, or two engines disagree."""
        if self.unbalanced or any(incident.grave for incident in self.incidents):
            return "bad"
        return "attention" if self.open_quarantine or self.missed or self.pending or self.incidents else "good"

    @property
    def pass_rate(self) -> float | None:
        return None if not self.rows_in else max(0.0, 1 - self.bad / self.rows_in)
