"""What audits have to say in a report: incidents that are open, and how far the two engines agree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from journal import audits
from journal.audits import Audits
from quality.report.model import Agreement, Incident

_SAMPLES = 3
_LONGEST = 160
_RULES_OF_ROWS = ("agrees", "differs", "none")


def incidents_of(dataset: str, found: Audits) -> list[Incident]:
    """The open incidents of a dataset, the newest first."""
    return [_incident(one) for one in reversed(found.incidents(dataset))]


def agreement_of(dataset: str, found: Audits, since: float) -> Agreement | None:
    """How far Great Expectations and the gate agree since a time; None where nothing was compared."""
    lines = [one for one in found.windows(dataset, since) if one.rule and one.verdict in _RULES_OF_ROWS]
    compared = [one for one in lines if one.verdict != "none" and one.engine == "gx"]
    if not compared:
        return None
    return Agreement(
        windows=len(compared),
        rows=sum(one.rows for one in compared),
        differ=sum(one.verdict == "differs" for one in compared),
        unjudged=sum(one.verdict == "none" for one in lines),
        at=_time(max(one.at for one in compared)),
    )


def _incident(one: audits.Incident) -> Incident:
    said = str(one.detail.get("message") or one.kind)
    return Incident(one.kind, said[: 4 * _LONGEST], _time(one.since), _time(one.last), one.count, one.rule, _samples(one.detail))


def _samples(detail: dict[str, Any]) -> list[str]:
    """What was found, if the incident says so; masked where the contract says so, by whoever wrote it."""
    rows = detail.get("rows")
    return [str(row)[:_LONGEST] for row in rows[:_SAMPLES]] if isinstance(rows, list) else []


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
