"""All datasets of a pipeline at one look, and how each owner does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from quality.report.effectiveness import Budget, Effectiveness, budgets_together, together
from quality.report.model import DatasetReport

NOBODY = "nobody is named"
_ORDER = ("bad", "attention", "good")


@dataclass(frozen=True, slots=True)
class OwnerLine:
    """One owner's datasets as one. `trend`: the share of changes that passed at once, by the stretches of the charts."""

    owner: str
    datasets: Sequence[str]
    open_quarantine: int
    effectiveness: Sequence[Effectiveness]
    budget: Budget | None
    trend: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Overview:
    """The index. Reports stand in the order in which they want to be read."""

    pipeline: str
    written_at: datetime
    reports: Sequence[DatasetReport]
    owners: Sequence[OwnerLine]

    @property
    def verdict(self) -> str:
        """The worst there is."""
        found = {report.verdict for report in self.reports}
        return next((one for one in _ORDER if one in found), "good")

    @property
    def open_quarantine(self) -> int:
        return sum(report.open_quarantine for report in self.reports)

    @property
    def rows_in(self) -> int:
        return sum(report.rows_in for report in self.reports)

    @property
    def pass_rate(self) -> float | None:
        bad = sum(report.bad for report in self.reports)
        return max(0.0, 1 - bad / self.rows_in) if self.rows_in else None

    @property
    def waiting(self) -> list[DatasetReport]:
        """Those that want somebody."""
        return [report for report in self.reports if report.verdict != "good"]


def overview(pipeline: str, reports: Sequence[DatasetReport]) -> Overview:
    """The index of these reports."""
    ordered = sorted(reports, key=lambda one: (_ORDER.index(one.verdict), -one.open_quarantine, one.dataset))
    names = sorted({report.owner or NOBODY for report in reports}, key=lambda name: (name == NOBODY, name))
    written = max((report.written_at for report in reports), default=datetime.now(UTC))
    return Overview(pipeline, written, ordered, [_owner(name, [one for one in ordered if (one.owner or NOBODY) == name]) for name in names])


def _owner(name: str, reports: Sequence[DatasetReport]) -> OwnerLine:
    read = [report for report in reports if report.effectiveness]
    return OwnerLine(
        owner=name,
        datasets=[report.dataset for report in reports],
        open_quarantine=sum(report.open_quarantine for report in reports),
        effectiveness=[together(parts) for parts in zip(*(report.effectiveness for report in read), strict=True)],
        budget=budgets_together(budgets) if (budgets := [one.budget for one in read if one.budget is not None]) else None,
        trend=_success(read),
    )


def _success(reports: Sequence[DatasetReport]) -> list[float | None]:
    found: list[float | None] = []
    for moments in zip(*(report.trend.moments for report in reports), strict=False):
        rows = sum(moment.rows for moment in moments)
        bad = sum(moment.bad for moment in moments)
        found.append(max(0.0, 1 - bad / rows) if rows else None)
    return found
