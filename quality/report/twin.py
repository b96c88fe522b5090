"""The numbers of the pages as JSON values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from quality.report.effectiveness import Effectiveness
from quality.report.model import DatasetReport
from quality.report.overview import Overview
from quality.report.words import headline, service


def as_json(report: DatasetReport) -> dict[str, Any]:
    """The numbers of a page, with its verdicts. Lengths of time are in seconds, shares of 1, times in UTC."""
    told = asdict(report)
    told |= {"verdict": report.verdict, "headline": headline(report), "pass_rate": report.pass_rate, "service_level": service(report)[0]}
    for line, sink in zip(told["sinks"], report.sinks, strict=True):
        line["verdict"] = sink.verdict
    for line, rule in zip(told["rules"], report.rules, strict=True):
        line["pass_rate"] = rule.pass_rate
    for line, moment in zip(told["trend"]["moments"], report.trend.moments, strict=True):
        line["success"] = moment.success
    told["effectiveness"] = [_effectiveness(over) for over in report.effectiveness]
    if report.budget is not None:
        told["budget"]["remaining"] = report.budget.remaining
    return _plain_values(told)


def overview_json(whole: Overview, file_of: Callable[[str], str]) -> dict[str, Any]:
    """The numbers of the index."""
    return _plain_values(
        {
            "pipeline": whole.pipeline,
            "written_at": whole.written_at,
            "verdict": whole.verdict,
            "datasets": [
                {
                    "dataset": report.dataset,
                    "file": f"{file_of(report.dataset)}.html",
                    "verdict": report.verdict,
                    "headline": headline(report),
                    "owner": report.owner,
                    "contract": report.contract,
                    "rows_in": report.rows_in,
                    "pass_rate": report.pass_rate,
                    "open_quarantine": report.open_quarantine,
                    "oldest": report.oldest,
                    "service_level": service(report)[0],
                    "missed": report.missed,
                    "budget_remaining": report.budget.remaining if report.budget else None,
                }
                for report in whole.reports
            ],
            "owners": [
                {
                    "owner": one.owner,
                    "datasets": one.datasets,
                    "open_quarantine": one.open_quarantine,
                    "budget": None if one.budget is None else asdict(one.budget) | {"remaining": one.budget.remaining},
                    "effectiveness": [_effectiveness(over) for over in one.effectiveness],
                    "trend": one.trend,
                }
                for one in whole.owners
            ],
        }
    )


def _effectiveness(over: Effectiveness) -> dict[str, Any]:
    """`detect` and `resolve` are medians."""
    detecting, resolving = over.detecting, over.resolving
    return {
        **{name: getattr(over, name) for name in ("window", "seconds", "rows", "bad", "released", "refused")},
        "detected": detecting.number,
        "detect": detecting.median,
        "detect_p95": detecting.p95,
        "detect_worst": detecting.worst,
        "resolved": over.resolved,
        "resolve": resolving.median,
        "resolve_p95": resolving.p95,
        "resolve_worst": resolving.worst,
        "steps": over.steps,
        "success": over.success,
        "complete": over.complete,
    }


def _plain_values(told: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(_finite(told), default=_plain))
    return plain


def _finite(value: Any) -> Any:
    """JSON has no word for what is not a number."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no place in a report")
