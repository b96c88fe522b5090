"""What has changed in the rules between two versions of a contract, and whether more or less is held back for it.

A rule is the same as long as it asks the same of the same columns, whatever it is called; else one with the same id is what became of it.
What cannot be told from the text (another condition in SQL, another pattern) may do both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quality.change import Change, Effect
from quality.contract import Contract
from quality.rules import Action, Rule, Scope

_LOWER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_UPPER = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_LIMIT_ARGUMENTS = {"min_value": "tightens", "max_value": "loosens"}
"""What a greater value does."""
_SAME = "none"


def rule_changes(before: Contract, after: Contract) -> Iterator[Change]:
    """A Change for every rule that came, went or asks something else.

    Rules that a column's type states come and go with it, and are not told apart from it.
    """
    pairs, gone, new = _matched(before.rules, after.rules)
    lost, come = before.columns.keys() - after.columns.keys(), after.columns.keys() - before.columns.keys()
    for rule in gone:
        if rule.generated and (rule.kind == "type" or set(rule.columns) & lost):
            continue
        yield _told("rule-removed", rule, _effect(rule, "loosens"), f"no longer: {rule.says}", rule.says, None)
    for rule in new:
        if rule.generated and (rule.kind == "type" or set(rule.columns) & come):
            continue
        if rule.action is Action.DROP:
            yield _told("rule-added", rule, "breaking", f"{rule.says}; rows that break it are lost", None, rule.says)
        else:
            yield _told("rule-added", rule, _effect(rule, "tightens"), rule.says, None, rule.says)
    for old, rule in pairs:
        yield from _changes(old, rule)


def _matched(before: Sequence[Rule], after: Sequence[Rule]) -> tuple[list[tuple[Rule, Rule]], list[Rule], list[Rule]]:
    """Rules that are the same or became the other, those that are gone, and those that are new."""
    pairs: list[tuple[Rule, Rule]] = []
    old, new = list(before), list(after)
    for key in (
        lambda rule: (rule.id, *_identity(rule)),
        _identity,
        lambda rule: (rule.id,) if not rule.generated else (rule.kind, rule.columns, rule.generated),
    ):
        waiting: dict[Any, list[Rule]] = {}
        for rule in new:
            waiting.setdefault(key(rule), []).append(rule)
        rest: list[Rule] = []
        for rule in old:
            found = waiting.get(key(rule))
            if found:
                pairs.append((rule, found.pop(0)))
            else:
                rest.append(rule)
        old, new = rest, [rule for left in waiting.values() for rule in left]
    return pairs, old, new


def _identity(rule: Rule) -> tuple[object, ...]:
    return rule.kind, rule.columns, rule.generated, repr(rule.asks)


def _changes(old: Rule, new: Rule) -> Iterator[Change]:
    """How one rule became the other."""
    if old.id != new.id and not (old.generated and new.generated):
        yield _told("rule-renamed", new, _SAME, "reports and quarantine call it otherwise", old.id, new.id)
    if old.action is not new.action:
        yield _told("action-changed", new, *_action(old.action, new.action), old.action.value, new.action.value)
    if old.on != new.on:
        effect = "tightens" if old.on < new.on else "loosens" if new.on < old.on else "alters"
        yield _told("on-changed", new, _effect(new, effect), "it is asked of other operations", sorted(old.on), sorted(new.on))
    if old.mostly != new.mostly:
        yield _told("mostly-changed", new, _SAME, "the verdict of reports: rows are held back all the same", old.mostly, new.mostly)
    if _identity(old) != _identity(new) and old.kind + new.kind != "typetype":
        effect = _direction(old, new)
        yield _told("rule-changed", new, _effect(new, effect), f"asks something else: {new.says}", old.says, new.says)
    elif old.says != new.says or old.severity != new.severity:
        yield _told("wording-changed", new, _SAME, "described otherwise", old.says, new.says)


def _told(kind: str, rule: Rule, effect: str, says: str, before: object, after: object) -> Change:
    return Change(kind, rule.id, Effect(effect), says, before, after, rule.line)


def _effect(rule: Rule, effect: str) -> str:
    """What only warns, or looks at the whole set, holds no row back."""
    return _SAME if rule.action is Action.WARN or rule.scope is Scope.SET else effect


def _action(old: Action, new: Action) -> tuple[str, str]:
    if new is Action.DROP:
        return "breaking", "rows that break it are lost"
    if new is Action.WARN:
        return "loosens", "rows that break it are delivered"
    if old is Action.WARN:
        return "tightens", "rows that break it are delivered no more"
    return _SAME, "rows that break it stop the table" if new is Action.FAIL else "rows that break it are held back"


def _direction(old: Rule, new: Rule) -> str:
    if old.kind != new.kind or old.columns != new.columns:
        return "alters"
    was, now = old.asks, new.asks
    if new.generated:
        if new.kind in _LOWER | _UPPER:
            return _limit(was, now, "tightens" if new.kind in _LOWER else "loosens")
        return _set(_values(was), _values(now)) if new.kind == "enum" else "alters"
    if new.kind == "invalidValues":
        return _arguments(was.get("arguments") or {}, now.get("arguments") or {}, {}, ("validValues",), ())
    if new.kind == "missingValues":
        return _arguments(was.get("arguments") or {}, now.get("arguments") or {}, {}, (), ("missingValues",))
    kwargs = [asks["implementation"].get("kwargs") if isinstance(asks.get("implementation"), Mapping) else None for asks in (was, now)]
    if new.kind in ("expect_column_values_to_be_between", "expect_column_value_lengths_to_be_between") and all(kwargs):
        return _arguments(kwargs[0] or {}, kwargs[1] or {}, _LIMIT_ARGUMENTS, (), ())
    if new.kind in ("expect_column_values_to_be_in_set", "expect_column_values_to_not_be_in_set") and all(kwargs):
        allowed = new.kind == "expect_column_values_to_be_in_set"
        return _arguments(kwargs[0] or {}, kwargs[1] or {}, {}, ("value_set",) * allowed, ("value_set",) * (not allowed))
    return "alters"


def _arguments(
    was: Mapping[str, Any], now: Mapping[str, Any], limits: Mapping[str, str], allowed: Sequence[str], refused: Sequence[str]
) -> str:
    """What comes of arguments: `limits`, sets of what is allowed, and sets of what is refused. Any other that changed may do both."""
    effects = set()
    for name in was.keys() | now.keys():
        old, new = was.get(name), now.get(name)
        if old == new or name == "mostly":
            continue
        if name in limits:
            effects.add(_bound(old, new, limits[name]))
        elif name in allowed and isinstance(old, list) and isinstance(new, list):
            effects.add(_set(old, new))
        elif name in refused and isinstance(old, list) and isinstance(new, list):
            effects.add(_set(new, old))
        else:
            return "alters"
    return effects.pop() if len(effects) == 1 else "alters" if effects else _SAME


def _bound(old: object, new: object, greater: str) -> str:
    """A limit that may be missing; `greater` says what a greater one does."""
    if old is None or new is None:
        return "tightens" if old is None else "loosens"
    return _limit(old, new, greater)


def _limit(old: Any, new: Any, greater: str) -> str:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (old, new))
    dates = isinstance(old, str) and isinstance(new, str) and len(old) == len(new)
    if not numbers and not dates:
        return "alters"
    return greater if new > old else "loosens" if greater == "tightens" else "tightens"


def _set(old: Sequence[Any], new: Sequence[Any]) -> str:
    was, now = ({repr(value) for value in values} for values in (old, new))
    return _SAME if was == now else "tightens" if now < was else "loosens" if was < now else "alters"


def _values(entries: Sequence[Any]) -> list[Any]:
    return [entry.get("value") if isinstance(entry, Mapping) else entry for entry in entries]
