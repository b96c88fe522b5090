"""The customProperties that mean something to Sluice: their names, where they belong, and slips of the pen.

The standard leaves customProperties to everybody, so a name that is not ours is left alone. What is meant for Sluice and would be lost
without a word is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from quality.rules import OPERATIONS, Action, RuleError

OF_A_RULE = ("action", "on", "mostly")
OF_THE_OBJECT = ("breaker", "order", "approval", "compatibility", "audit")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "order": ("newest", "strict"),
    "approval": ("four-eyes", "self"),
    "compatibility": ("shape", "readers"),
}

Home = Literal["a rule", "the schema object"]
_HOMES: Mapping[str, Home] = {**dict.fromkeys(OF_A_RULE, "a rule"), **dict.fromkeys(OF_THE_OBJECT, "the schema object")}
_WHERE: Mapping[Home, str] = {
    "a rule": "put it under the customProperties of an entry of `quality`",
    "the schema object": "put it under the customProperties beside `properties`, of the entry of `schema`",
}
_MEANT: Mapping[str, Callable[[Any], bool]] = {
    "action": lambda value: value in list(Action),
    "on": lambda value: all(word in OPERATIONS for word in (value if isinstance(value, list) else [value])),
    "mostly": lambda value: isinstance(value, int | float) and 0 <= value <= 1,
    "breaker": lambda value: isinstance(value, Mapping) and "share" in value,
    "audit": lambda value: isinstance(value, Mapping) and bool({"every", "window", "sample"} & value.keys()),
    **{name: known.__contains__ for name, known in CHOICES.items()},
}
"""Whether a value is one that Sluice would take: the same name may be another tool's."""


def refuse_near_miss(entry: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """A customProperty may be anybody's. One that is a slip of the pen away from ours would be ours, silently lost. Raises RuleError."""
    name = str(entry["property"])
    if "vendor" not in entry and (meant := slipped(name, known)) is not None:
        raise RuleError(f"the customProperty {name!r} is not known", hint=f"did you mean {meant}?", part="customProperties")


def refuse_twice(name: str, found: Mapping[str, object]) -> None:
    """Raises RuleError for a setting that was found before."""
    if name in found:
        raise RuleError(f"{name} is there twice", hint="one of them is left out", part="customProperties")


def slipped(name: str, known: tuple[str, ...]) -> str | None:
    """Which of the known names was meant by one that is a slip of the pen away from it."""
    if name in known:
        return None
    return next((one for one in known if name.lower() == one or (len(one) > 3 and _one_slip(name.lower(), one))), None)


def misplaced(custom: object, here: Home | None) -> Iterator[tuple[int, str, str]]:
    """The settings of Sluice that stand where they are not looked for: which entry, message, hint."""
    for place, entry in enumerate(custom if isinstance(custom, list) else []):
        name = entry["property"]
        home = None if "vendor" in entry else _HOMES.get(name)
        if home not in (None, here) and _MEANT[name](entry["value"]):
            yield place, f"{name} is a setting of {home}: nothing comes of it here", _WHERE[home]


def _one_slip(a: str, b: str) -> bool:
    """Whether one letter more, less or other, or two exchanged, turns a into b."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    rest, other = a[start:], b[start:]
    return rest[1:] == other[1:] or rest[1:] == other or rest == other[1:] or (rest[1::-1] == other[:2] and rest[2:] == other[2:])
