"""Reads the rules of `engine: sluice`, which are about changes: transition, immutable, monotonic, references.

{type: transition, column: status, allowed: [{from: paid, to: [shipped, refunded]}, …]}
{type: immutable, column: customer_id}
{type: monotonic, column: version, strict: true, direction: increasing}
{type: references, column: customer_id, lookup: customers}
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.names import nearest
from quality.references import References
from quality.rules import Found, Judge, Place, RuleError, Scope, Types
from quality.steps import immutable, monotonic, transition

_KEYS: Mapping[str, tuple[str, ...]] = {
    "transition": ("column", "allowed", "pairs", "transitions", "from", "to"),
    "immutable": ("column", "columns"),
    "monotonic": ("column", "strict", "direction"),
    "references": ("column", "columns", "lookup"),
}
_LISTS = ("allowed", "pairs", "transitions")
_MOST_STATES = 500
_ALLOWED = "allowed: [{from: paid, to: [shipped, refunded]}]"


def read_own(body: Mapping[str, Any], place: Place, mostly: float) -> Found:
    """What an implementation asks. Raises RuleError for a rule, a key or a value that there is not."""
    kind = body.get("type")
    if not isinstance(kind, str) or kind not in _KEYS:
        said = "the implementation needs a `type`" if kind is None else f"engine sluice has no rule {kind!r}"
        hint = nearest(str(kind), _KEYS) or f"{', '.join(_KEYS)}; other rules are library metrics, SQL or greatExpectations"
        raise RuleError(said, hint=hint, part="implementation")
    for key in body:
        if key != "type" and key not in _KEYS[kind]:
            hint = nearest(str(key), _KEYS[kind]) or f"it has {', '.join(_KEYS[kind])}"
            raise RuleError(f"{kind} has no key {key!r}", hint=hint, part="implementation")
    columns = _columns(kind, body, place)
    if kind == "references":
        return _references(columns, body, place, mostly)
    says, build = _step(kind, columns, body, mostly)
    about = columns[0] if len(columns) == 1 else place.column
    return Found(kind, about, Scope.KEY, columns, says, build)


def _step(kind: str, columns: tuple[str, ...], body: Mapping[str, Any], mostly: float) -> tuple[str, Callable[[Types], Judge]]:
    if kind == "immutable":
        return "a value that has been set stays", lambda _types: immutable(columns, mostly)
    if kind == "transition":
        allowed = _pairs(body)
        ways = ", ".join(f"{start} → {end}" for start, end in allowed)
        return f"the value stays, or goes {ways}", lambda types: transition(columns[0], allowed, types, mostly)
    strict, direction = body.get("strict", False), body.get("direction", "increasing")
    if not isinstance(strict, bool):
        raise RuleError(f"strict is true or false, not {strict!r}", part="implementation")
    if direction not in ("increasing", "decreasing"):
        hint = nearest(str(direction), ("increasing", "decreasing"))
        raise RuleError(f"direction is increasing or decreasing, not {direction!r}", hint=hint, part="implementation")
    down = direction == "decreasing"
    says = f"the value {'falls' if down else 'rises'} with every change" if strict else f"the value never {'rises' if down else 'falls'}"
    return says, lambda types: monotonic(columns[0], types, mostly, strict=strict, decreasing=down)


def _references(columns: tuple[str, ...], body: Mapping[str, Any], place: Place, mostly: float) -> Found:
    lookup = body.get("lookup")
    if not isinstance(lookup, str) or not lookup:
        hint = "lookup: NAME, as under `lookups` in the pipeline file"
        raise RuleError("references needs the name of a lookup", hint=hint, part="implementation")
    about = columns[0] if len(columns) == 1 else place.column
    says = f"the value is in the lookup {lookup}"
    return Found("references", about, Scope.ROW, columns, says, lambda types: References(columns, lookup, types, mostly), lookup)


def _columns(kind: str, body: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    if "column" in body and "columns" in body:
        raise RuleError(f"{kind} has `column` or `columns`, not both", part="implementation")
    given = body.get("columns", body.get("column"))
    if given is None:
        if place.column is None:
            raise RuleError(f"{kind} needs a column", hint="column: NAME", part="implementation")
        return (place.column,)
    names = [given] if isinstance(given, str) and "columns" not in body else given
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        hint = "columns: [NAME, …]" if "columns" in _KEYS[kind] else "column: NAME"
        raise RuleError(f"{kind} wants the names of columns, not {given!r}", hint=hint, part="implementation")
    if len(names) > 1 and "columns" not in _KEYS[kind]:
        raise RuleError(f"{kind} is about one column", hint="write a rule for each", part="implementation")
    found = tuple(place.resolve(name) for name in names)
    if len(set(found)) < len(found):
        raise RuleError(f"{kind} names a column twice", part="implementation")
    return found


def _pairs(body: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """The steps that are allowed, in all the ways in which they may be written."""
    given = [key for key in _LISTS if key in body]
    if "from" in body or "to" in body:
        given.append("from")
    if len(given) != 1:
        said = "transition says its steps in one place" if given else "transition needs the steps that are allowed"
        raise RuleError(said, hint=_ALLOWED, part="implementation")
    entries = [{key: body[key] for key in ("from", "to") if key in body}] if given == ["from"] else body[given[0]]
    if isinstance(entries, Mapping):  # {paid: [shipped, refunded]}
        entries = [{"from": start, "to": ends} for start, ends in entries.items()]
    if not isinstance(entries, list) or not entries:
        raise RuleError("the steps of a transition are a list", hint=_ALLOWED, part="implementation")
    found: list[tuple[Any, Any]] = []
    states: set[tuple[bool, Any]] = set()
    for entry in entries:
        if isinstance(entry, list) and len(entry) == 2:  # [paid, shipped]
            entry = dict(zip(("from", "to"), entry, strict=True))
        if not isinstance(entry, Mapping) or set(entry) != {"from", "to"}:
            raise RuleError(f"a step has `from` and `to`, and is not {entry!r}", hint=_ALLOWED, part="implementation")
        starts, ends = _states(entry["from"]), _states(entry["to"])
        states.update((isinstance(state, bool), state) for state in (*starts, *ends))
        if len(states) > _MOST_STATES or len(found) + len(starts) * len(ends) > _MOST_STATES**2:
            raise RuleError(f"a transition with more than {_MOST_STATES} states", hint="is it one?", part="implementation")
        found += [(start, end) for start in starts for end in ends]
    if not found:
        raise RuleError("no step is allowed at all", hint="immutable says that a value never changes", part="implementation")
    return list(dict.fromkeys(found))


def _states(given: object) -> list[Any]:
    states = given if isinstance(given, list) else [given]
    for state in states:
        if state is None:
            hint = "required: true, if there must be a value"
            raise RuleError("null is no state of a transition: it is left alone", hint=hint, part="implementation")
        if not isinstance(state, str | int | float | bool | dt.date):
            raise RuleError(f"a state is a value, not {state!r}", hint=_ALLOWED, part="implementation")
    return [state.isoformat() if isinstance(state, dt.date) else state for state in states]
