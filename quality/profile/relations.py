"""What columns have to do with each other: which of them identify a row, and which never is greater than which. With bounded effort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from quality.profile.model import ColumnProfile, Condition, Key
from quality.profile.stage import Stage

ENOUGH = 10
"""Rows from which on something that holds for all of them is worth saying."""
_PART_OF_KEY = 12
_PAIRS = 20
_SAMPLE = 100_000
_MOST_KEYS = 5
_COMPARED = 40
_CONDITIONS = 10
_KEYLIKE = ("integer", "string", "date", "timestamp")


@dataclass(frozen=True, slots=True)
class Asked:
    """A column of the profile, and what the stage calls it."""

    profile: ColumnProfile
    name: str
    family: str


def candidate_keys(stage: Stage, columns: Sequence[Asked], declared: Sequence[str] = ()) -> list[Key]:
    """Columns that could be the key, the likeliest first: what the database declares, single ones, or pairs where there is no such."""
    found = [Key(tuple(declared), declared=True)] if _kept(stage, columns, declared) else []
    if stage.rows >= ENOUGH:
        single = [one for one in columns if _may_identify(one) and one.profile.unique and not one.profile.nulls]
        found += [Key((one.profile.name,)) for one in sorted(single, key=_likelihood)]
        if not single:
            found += _pairs(stage, columns)
    first = {key.columns: key for key in reversed(found)}
    return [key for key in found if first[key.columns] is key][:_MOST_KEYS]


def conditions(stage: Stage, columns: Sequence[Asked]) -> list[Condition]:
    """Pairs of numbers, and of dates, of which one is never greater than the other, though their ranges overlap.

    What follows from two others (a <= b, b <= c) is left out.
    """
    groups = (("integer", "number"), ("date", "timestamp"), ("time",))
    found: list[Condition] = []
    for families in groups:
        chosen = [one for one in columns if one.family in families and not one.profile.sensitive and _varies(one.profile)][:_COMPARED]
        found += _ordered(stage, chosen)
    return _essential(found)[:_CONDITIONS]


def _kept(stage: Stage, columns: Sequence[Asked], declared: Sequence[str]) -> bool:
    """Whether rows keep a key that somebody declares: those of several tables that become one dataset may not."""
    parts = [next(one for one in columns if one.profile.name == name) for name in declared]
    if not parts or any(one.profile.nulls for one in parts):
        return False
    return not stage.rows or not _repeats(stage, stage.relation(*(one.name for one in parts)), *(one.name for one in parts))


def _may_identify(one: Asked) -> bool:
    longest = one.profile.longest or 0
    return one.profile.logical in _KEYLIKE and one.family not in ("binary", "json", "array") and longest <= 100


def _likelihood(one: Asked) -> tuple[int, int, int]:
    name = one.profile.name.lower()
    called = name in ("id", "key", "uuid", "guid", "pk") or name.endswith(("_id", "_key", "_no", "id", "number", "code", "uuid"))
    kinds = {"integer": 0, "string": 1}
    return (0 if name in ("id", "key") else 1 if called else 2, kinds.get(one.profile.logical or "", 2), int(one.name[1:]))


def _pairs(stage: Stage, columns: Sequence[Asked]) -> list[Key]:
    parts = [one for one in columns if _may_identify(one) and not one.profile.nulls and one.profile.distinct > 1]
    parts = sorted(parts, key=lambda one: -one.profile.distinct)[:_PART_OF_KEY]
    wide = [(a, b) for a, b in combinations(parts, 2) if a.profile.distinct * b.profile.distinct * 1.2 >= stage.rows]
    keys = []
    for a, b in sorted(wide, key=lambda pair: _likelihood(pair[0])[0] + _likelihood(pair[1])[0])[:_PAIRS]:
        source = stage.relation(a.name, b.name)
        if stage.rows > _SAMPLE:
            sampled = f"(SELECT {a.name}, {b.name} FROM {source} LIMIT {_SAMPLE})"
            if _repeats(stage, sampled, a.name, b.name):
                continue
        if not _repeats(stage, source, a.name, b.name):
            ordered = sorted((a, b), key=lambda one: int(one.name[1:]))
            keys.append(Key(tuple(one.profile.name for one in ordered)))
    return keys


def _repeats(stage: Stage, source: str, *names: str) -> bool:
    return bool(stage.ask(f"SELECT 1 FROM {source} GROUP BY {', '.join(names)} HAVING count(*) > 1 LIMIT 1"))


def _varies(profile: ColumnProfile) -> bool:
    return profile.distinct > 1 and profile.filled >= ENOUGH and not profile.wide


def _ordered(stage: Stage, columns: Sequence[Asked]) -> list[Condition]:
    pairs = [(a, b) for a, b in combinations(columns, 2) if _overlap(a.profile, b.profile)]
    if not pairs:
        return []
    names = dict.fromkeys(one.name for pair in pairs for one in pair)
    found = []
    for start in range(0, len(pairs), 200):
        part = pairs[start : start + 200]
        counts = []
        for a, b in part:
            x, y = _comparable(a), _comparable(b)
            counts += [f"count(*) FILTER ({x} < {y})", f"count(*) FILTER ({x} = {y})", f"count(*) FILTER ({x} > {y})"]
        (answer,) = stage.ask(f"SELECT {', '.join(counts)} FROM {stage.relation(*names)}")
        for place, (a, b) in enumerate(part):
            less, equal, greater = answer[3 * place : 3 * place + 3]
            rows = less + equal + greater
            if rows < ENOUGH or (not less and not greater) or (less and greater):
                continue
            left, right = (a, b) if less else (b, a)
            found.append(Condition(left.profile.name, right.profile.name, rows, equal))
    return found


def _comparable(one: Asked) -> str:
    if one.family in ("integer", "number"):
        return f"CAST({one.name} AS DOUBLE)"
    return f"CAST({one.name} AS TIMESTAMP)" if one.family in ("date", "timestamp") else one.name


def _overlap(a: ColumnProfile, b: ColumnProfile) -> bool:
    """Whether the ranges meet: where one column ends before the other begins, that it is smaller says nothing."""
    if a.least is None or a.most is None or b.least is None or b.most is None:
        return False
    if isinstance(a.least, str):
        return max(str(a.least), str(b.least)) < min(str(a.most), str(b.most))
    low, high = max(float(a.least), float(b.least)), min(float(a.most), float(b.most))
    return math.isfinite(low) and math.isfinite(high) and low < high


def _essential(found: Sequence[Condition]) -> list[Condition]:
    known = {(one.left, one.right) for one in found}
    return [one for one in found if not any((one.left, b) in known and (b, one.right) in known for (_, b) in known if b != one.right)]
