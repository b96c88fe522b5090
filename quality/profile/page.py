"""A profile as files: HTML that needs nothing but itself, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from quality.profile.model import Bar, Scalar

if TYPE_CHECKING:
    from quality.profile.profiling import Profiled

_WIDTH, _HEIGHT, _GAP = 240.0, 56.0, 1.0


def as_json(found: Profiled) -> dict[str, Any]:
    """The whole profile and its draft, as one document; numbers that JSON does not have are null."""
    told = asdict(found.profile)
    for column, profile in zip(told["columns"], found.profile.columns, strict=True):
        column |= {"filled": profile.filled, "unique": profile.unique, "repeated": profile.repeated}
    told["complete"] = found.profile.complete
    told["draft"] = found.draft
    plain: dict[str, Any] = json.loads(json.dumps(told, default=_plain), parse_constant=lambda _: None)
    return plain


def as_html(found: Profiled) -> str:
    """The profile as a page."""
    pages = Environment(
        loader=PackageLoader("quality.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters |= {"cell": cell, "bars": bars, "share": share}
    places = {column.name: place for place, column in enumerate(found.profile.columns)}
    return pages.get_template("profile.html").render(profile=found.profile, places=places, yaml=found.yaml)


def cell(value: Scalar | None) -> str:
    """A number, date or time in a table; nothing where there is none."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**18 else f"{Decimal(value):.6g}"
    return f"{value:,.6g}" if 1e-4 <= abs(value) < 1e15 or value == 0 else f"{value:.4g}"


def bars(histogram: Sequence[Bar]) -> list[dict[str, Any]]:
    """Where each bar of a histogram stands in a drawing of 240 by 56: x, y, width, height, and what it says."""
    if not histogram:
        return []
    width = _WIDTH / len(histogram)
    most = max(bar.rows for bar in histogram) or 1
    drawn = []
    for place, bar in enumerate(histogram):
        # a bar that is there is seen, however low it is
        height = 0.0 if not bar.rows else max(1.5, _HEIGHT * bar.rows / most)
        drawn.append(
            {
                "x": round(place * width, 2),
                "y": round(_HEIGHT - height, 2),
                "width": round(max(width - _GAP, 0.5), 2),
                "height": round(height, 2),
                "says": f"{cell(bar.low)} to {cell(bar.high)}: {bar.rows:,} rows",
            }
        )
    return drawn


def share(part: float | None) -> str:
    """A share in percent, never rounded to all or nothing."""
    if part is None or not math.isfinite(part):
        return "–"
    if part in (0, 1):
        return f"{part:.0%}".replace("%", " %")
    return f"{min(max(part * 100, 0.01), 99.99):.3g} %"


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} has no place in a profile")
