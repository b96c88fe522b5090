"""What the customProperties of a schema object say: the breaker, the order of changes, who approves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.names import nearest
from quality.check_reading import refuse_near_miss
from quality.contract import Breaker
from quality.rules import RuleError

_KNOWN = ("breaker", "order", "approval", "compatibility")
_CHOICES = {"order": ("newest", "strict"), "approval": ("four-eyes", "self"), "compatibility": ("shape", "readers")}


@dataclass(frozen=True, slots=True)
class ObjectSettings:
    """The settings of a dataset, or their defaults."""

    breaker: Breaker | None = None
    order: str = "newest"
    approval: str = "four-eyes"
    compatibility: str = "shape"


def read_object_settings(custom: object) -> ObjectSettings:
    """Raises RuleError for a value that Sluice does not know, and for near misses of the names."""
    found: dict[str, Any] = {}
    for entry in custom if isinstance(custom, list) else []:
        name, value = entry["property"], entry["value"]
        refuse_near_miss(entry, _KNOWN)
        if name == "breaker":
            found[name] = _breaker(value)
        elif name in _CHOICES:
            if value not in _CHOICES[name]:
                raise RuleError(f"{name} {value!r} is not one of {', '.join(_CHOICES[name])}", hint=nearest(str(value), _CHOICES[name]))
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
