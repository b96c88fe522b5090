"""What kinds of sources and sinks there are: whatever an installed package registers as an entry point."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any


@cache
def kinds(group: str) -> dict[str, Any]:
    """Names -> entry points of the group `sluice.sources` or `sluice.sinks`; `.load()` gives the class."""
    return {point.name: point for point in entry_points(group=group)}
