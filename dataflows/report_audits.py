"""What audits have to say in a report: incidents that are open, and how far the two engines agree."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from journal import audits
from journal.audits import Audits
from pipeline.model import Pipeline
from quality.judgement import MASKED
from quality.report.model import Agreement, Incident, Step

_SAMPLES = 3
_AUDITED = ("rule", "disagreement", "gate", "no-verdict")
_ENGINES = {"gate": "the gate", "ours": "judged again", "reference": "Great Expectations"}
_LONGEST = 160
_COMPARED = ("agrees", "differs")


def incidents_of(pipeline: Pipeline, dataset: str, found: Audits, hidden: Collection[str] | None) -> list[Incident]:
    """The open incidents of a dataset, the gravest first, then the newest. No values of `hidden` columns; None hides all."""
    made = [_incident(pipeline, one, hidden) for one in reversed(found.incidents(dataset))]
    return sorted(made, key=lambda one: not one.grave)


def agreement_of(dataset: str, found: Audits, since: float) -> Agreement | None:
    """How far Great Expectations and the gate agree since a time; None where nothing was compared."""
    verdicts = found.verdicts(dataset, since)
    nothing = (0, 0, 0.0)
    compared = [verdicts[one] for one in _COMPARED if one in verdicts]
    if not compared:
        return None
    return Agreement(
        windows=sum(windows for windows, _, _ in compared),
        rows=sum(rows for _, rows, _ in compared),
        differ=verdicts.get("differs", nothing)[0],
        unjudged=verdicts.get("none", nothing)[0],
        at=_time(max(at for _, _, at in compared)),
    )


def _incident(pipeline: Pipeline, one: audits.Incident, hidden: Collection[str] | None) -> Incident:
    said = str(one.detail.get("message") or one.kind)
    samples = [] if hidden is None else _samples(one.detail, hidden)
    return Incident(one.kind, said[: 4 * _LONGEST], _time(one.since), _time(one.last), one.count, one.rule, samples, [_look(pipeline, one)])


def _look(pipeline: Pipeline, one: audits.Incident) -> Step:
    """What shows more of it, or that it is over."""
    file = shlex.quote(str(pipeline.file))
    if one.kind in _AUDITED:
        return Step("Audit it again", f"sluice audit run {file} --dataset {shlex.quote(one.dataset)}")
    return Step("See how the pipeline does", f"sluice status {file}")


def _samples(detail: dict[str, Any], hidden: Collection[str]) -> list[str]:
    """Rows that show it, with what each engine says of them. Whoever wrote them has masked them; what is confidential since, is here."""
    rows = detail.get("rows")
    found = [_row(row, hidden) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return list(dict.fromkeys(found))[:_SAMPLES]


def _row(row: dict[str, Any], hidden: Collection[str]) -> str:
    found = {**_dict(row.get("key")), **_dict(row.get("values"))}
    shown = {name: "null" if value is None else MASKED if name in hidden else value for name, value in found.items()}
    values = ", ".join(f"{name}={value}" for name, value in shown.items())
    said = [f"{who}: {row[name]}" for name, who in _ENGINES.items() if row.get(name) is not None]
    return "; ".join([values[:_LONGEST], *said])


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
