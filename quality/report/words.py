"""What a report says first: its verdict in a sentence, and the reasons for it."""

from __future__ import annotations

from quality.report.model import DatasetReport
from quality.report.plot import duration, percent

STATUS_WORDS = {
    "open": "open",
    "patched": "fixed, to be approved",
    "rule-changed": "the rule has changed",
    "approved": "approved, to be replayed",
    "replaying": "being replayed",
    "failed-again": "failed again",
    "resolved": "resolved",
    "superseded": "superseded",
    "discarded": "discarded",
}
"""Status of a record -> what it is called on a page."""


def headline(report: DatasetReport) -> str:
    """The verdict."""
    if report.unbalanced:
        return "The counts do not add up"
    grave = next((incident for incident in report.incidents if incident.grave), None)
    if grave is not None:
        return "Two engines do not agree" if grave.kind == "disagreement" else grave.says
    if report.open_quarantine:
        return f"{_records(report.open_quarantine)} {'is' if report.open_quarantine == 1 else 'are'} held back"
    if report.incidents:
        return report.incidents[0].says
    if report.missed:
        return f"The service level is missed: {', '.join(report.missed)}"
    if report.pending:
        return "Somebody waits for your approval"
    return "Nothing has been read yet" if not report.rows_in else "Good: nothing waits for you"


def reasons(report: DatasetReport) -> list[str]:
    """What else is to be known at once."""
    found = []
    if report.gone:
        found.append("This dataset is no longer in the pipeline; what is in quarantine is still here.")
    if report.unbalanced:
        found.append(f"What was read is more, or less, than what became of it in {', '.join(report.unbalanced)}: run `sluice verify`.")
    if report.incidents:
        found.append(f"{len(report.incidents)} {'incident is' if len(report.incidents) == 1 else 'incidents are'} open.")
    if report.open_quarantine and report.verdict == "bad":
        found.append(f"{_records(report.open_quarantine)} {'waits' if report.open_quarantine == 1 else 'wait'} in quarantine.")
    if report.open_quarantine and report.oldest is not None:
        age = (report.written_at - report.oldest).total_seconds()
        found.append(f"The oldest has waited for {duration(max(age, 0.0))}.")
    if report.missed and report.open_quarantine:
        found.append(f"The service level is missed: {', '.join(report.missed)}.")
    left = report.budget.remaining if report.budget else None
    if left is not None and left < 0:
        found.append("The error budget of the last 30 days is overspent.")
    behind = [line.sink for line in report.sinks if line.verdict == "on its way"]
    if behind:
        found.append(f"{', '.join(behind)} {'has' if len(behind) == 1 else 'have'} not caught up yet.")
    if not found and report.rows_in:
        found.append(
            f"{report.rows_in:,} {'change was' if report.rows_in == 1 else 'changes were'} read, {percent(report.pass_rate)} passed."
        )
    return found


def budget_left(remaining: float | None) -> str:
    """What is left of an error budget, for people."""
    if remaining is None:
        return "–"
    if remaining < 0:
        return "overspent"
    return percent(remaining)


def service(report: DatasetReport) -> tuple[str, str]:
    """Whether the service level is met, as a state and in words."""
    judged = [line for line in report.levels if line.state in ("met", "missed")]
    if report.missed:
        return "missed", f"missed: {', '.join(report.missed)}"
    if judged:
        return "met", "met"
    return "unknown", "nothing measured yet" if report.levels else "none agreed"


def _records(number: int) -> str:
    return f"{number:,} record{'' if number == 1 else 's'}"
