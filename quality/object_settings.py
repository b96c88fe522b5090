"""What the customProperties of a schema object say: the breaker, the order of changes, who approves, how it is audited."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.names import nearest
from quality.contract import AuditSettings, Breaker
from quality.custom_properties import CHOICES, OF_THE_OBJECT, refuse_near_miss, refuse_twice
from quality.rules import RuleError


@dataclass(frozen=True, slots=True)
class ObjectSettings:
    """The settings of a dataset, or their defaults."""

    breaker: Breaker | None = None
    order: str = "newest"
    approval: str = "four-eyes"
    compatibility: str = "shape"
    audit: AuditSettings = field(default_factory=AuditSettings)


def read_object_settings(custom: object) -> ObjectSettings:
    """Raises RuleError for a value that Sluice does not know, and for near misses of the names."""
    found: dict[str, Any] = {}
    for entry in custom if isinstance(custom, list) else []:
        name, value = entry["property"], entry["value"]
        refuse_near_miss(entry, OF_THE_OBJECT)
        refuse_twice(name, found)
        if name == "breaker":
            found[name] = _breaker(value)
        elif name == "audit":
            found[name] = _audit(value)
        elif name in CHOICES:
            if value not in CHOICES[name]:
                raise RuleError(f"{name} {value!r} is not one of {', '.join(CHOICES[name])}", hint=nearest(str(value), CHOICES[name]))
            found[name] = value
    return ObjectSettings(**found)


def _breaker(value: object) -> Breaker:
    if not isinstance(value, Mapping):
        raise RuleError("breaker is a mapping", hint="{share: 0.05, window: 10000, action: pause}")
    unknown = [key for key in value if key not in ("share", "window", "action")]
    if unknown:
        raise RuleError(f"breaker has no key {unknown[0]!r}", hint=nearest(str(unknown[0]), ("share", "window", "action")))
    share, window, action = value.get("share"), value.get("window", 10_000), value.get("action", "pause")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise RuleError(f"the share of a breaker is above 0 and at most 1, not {share!r}")
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise RuleError(f"the window of a breaker is a number of rows, not {window!r}")
    if action not in ("pause", "warn"):
        raise RuleError(f"the action of a breaker is pause or warn, not {action!r}")
    return Breaker(float(share), window, action)


_EVERY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(|s|m|h|d)\s*")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_MOST_ROWS = 1_000_000


def _audit(value: object) -> AuditSettings:
    if not isinstance(value, Mapping):
        raise RuleError("audit is a mapping", hint="{every: 60s, window: 10000, sample: 500}")
    known = ("every", "window", "sample")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise RuleError(f"audit has no key {unknown[0]!r}", hint=nearest(str(unknown[0]), known))
    found: dict[str, Any] = {}
    if "every" in value:
        read = None if isinstance(value["every"], bool) else _EVERY.fullmatch(str(value["every"]))
        found["every"] = 0.0 if read is None else float(read[1]) * _SECONDS[read[2]]
        if found["every"] < 1:
            raise RuleError(f"audit: every {value['every']!r} is no time of a second or more", hint="such as 60s, 10m or 1h")
    for name, least in (("window", 1), ("sample", 0)):
        if name in value:
            rows = value[name]
            if isinstance(rows, bool) or not isinstance(rows, int) or not least <= rows <= _MOST_ROWS:
                raise RuleError(f"audit: {name} is a number of rows, from {least} to {_MOST_ROWS}, not {rows!r}")
            found[name] = rows
    return AuditSettings(**found)
