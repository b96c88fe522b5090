"""What has changed between two versions of a contract, and whether others can go on as they are.

Breaking is what changes the shape that others read, or the protection that they rely on. What rules ask may change without ceremony, so
that an owner can mend a contract and let records go: it is said of each change whether it holds back more, or lets through more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from quality.change import Change, Effect
from quality.contract import SECRECY, Contract, Property
from quality.rule_diff import rule_changes
from quality.type_widening import WrittenType, type_of, widens

_LETS_MORE = (Effect.LOOSENS, Effect.ALTERS)
_SEMANTIC = re.compile(r"v?(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(?:[-+].*)?")
_PARTS = ("major", "minor", "patch")
_ADDITIONS = ("column-added", "part-added", "type-widened")


@dataclass(frozen=True)
class ContractDiff:
    """The changes from one contract to another, and what comes of them."""

    before: Contract
    after: Contract
    changes: tuple[Change, ...]

    @cached_property
    def breaking(self) -> tuple[Change, ...]:
        """What needs approval. Where the older contract promises it to its readers, also what lets more through."""
        kept = self.before.compatibility == "readers"
        return tuple(one for one in self.changes if one.effect is Effect.BREAKING or (kept and one.effect in _LETS_MORE))

    @property
    def verdict(self) -> str:
        return "breaking" if self.breaking else "compatible"

    def answer(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "verdict": self.verdict,
            "from": _named(self.before),
            "to": _named(self.after),
            "changes": [{**asdict(one), "effect": one.effect.value, "breaks": one in self.breaking} for one in self.changes],
            "version": {"from": self.before.version, "to": self.after.version, "wanted": self.wanted, "problem": self.version_problem},
        }

    @property
    def wanted(self) -> str | None:
        """Which part of the version should have grown: major, minor or patch; None where nothing has changed."""
        if self.breaking:
            return "major"
        if not self.changes:
            return None
        return "patch" if all(one.effect is Effect.NONE and one.kind not in _ADDITIONS for one in self.changes) else "minor"

    @property
    def version_problem(self) -> str | None:
        """What is wrong with the version number, by semantic versioning; None where it is as it should be."""
        before, after, wanted = self.before.version, self.after.version, self.wanted
        if wanted is None:
            return None
        old, new = _SEMANTIC.fullmatch(before), _SEMANTIC.fullmatch(after)
        if before == after:
            return f"the version is {after} in both: a change like this needs a new {wanted} version"
        if old is None or new is None:
            odd = before if old is None else after
            return f"the version {odd} is not like 1.2.3, so it does not say how much has changed"
        was, now = (tuple(map(int, found.groups()[:3])) for found in (old, new))
        if now < was:
            return f"the version goes back from {before} to {after}"
        grown = next((part for part, a, b in zip(_PARTS, was, now, strict=True) if b > a), "patch")
        if _PARTS.index(grown) > _PARTS.index(wanted) and not (was[0] == 0 and grown == "minor"):
            return f"the version goes from {before} to {after}: a change like this needs a new {wanted} version"
        return None


def compare(before: Contract, after: Contract) -> ContractDiff:
    """Every change from one contract to the other, those that break something first."""
    order = list(Effect)
    found = [*_settings(before, after), *_columns(before, after), *rule_changes(before, after)]
    return ContractDiff(before, after, tuple(sorted(found, key=lambda one: (order.index(one.effect), one.line or 0))))


def _changed(kind: str, subject: str, effect: str, says: str, before: object, after: object, line: int | None = None) -> Change:
    return Change(kind, subject, Effect(effect), says, before, after, line)


def _settings(before: Contract, after: Contract) -> Iterator[Change]:
    """What is said of the dataset as a whole."""
    if before.dataset != after.dataset:
        yield _changed("dataset-renamed", "dataset", "breaking", "readers look for the old name", before.dataset, after.dataset)
    if before.id != after.id:
        yield _changed("id-changed", "id", "none", "the contract has another id", before.id, after.id)
    if before.table != after.table:
        yield _changed("table-renamed", "physicalName", "none", "the table is called otherwise", before.table, after.table)
    if set(before.key) != set(after.key):
        said = "what tells rows apart is something else"
        yield _changed("key-changed", "primary key", "breaking", said, list(before.key), list(after.key))
    elif before.key != after.key:
        yield _changed("key-order", "primary key", "none", "the same columns in another order", list(before.key), list(after.key))
    if before.approval != after.approval:
        loses = after.approval == "self"
        said = "who mends a record may release it alone" if loses else "somebody else has to release what was mended"
        yield _changed("approval-changed", "approval", "breaking" if loses else "none", said, before.approval, after.approval)
    if before.compatibility != after.compatibility:
        loses = before.compatibility == "readers"
        said = (
            "readers are not asked any more before more is let through" if loses else "from then on more is let through by approval alone"
        )
        yield _changed(
            "compatibility-changed", "compatibility", "breaking" if loses else "none", said, before.compatibility, after.compatibility
        )
    if before.order != after.order:
        said = "later changes of a key in quarantine wait" if after.order == "strict" else "later changes of a key in quarantine pass"
        yield _changed("order-changed", "order", "none", said, before.order, after.order)
    if before.breaker != after.breaker:
        warns = after.breaker is not None and after.breaker.action == "warn" and (before.breaker is None or before.breaker.action != "warn")
        said = "many bad rows are delivered with a warning" if warns else "many bad rows stop the table at another point, or not"
        yield _changed("breaker-changed", "breaker", "loosens" if warns else "none", said, _plain(before.breaker), _plain(after.breaker))
    yield from _service(before, after)
    for kind, was, now in (("owner", before.owner, after.owner), ("status", before.status, after.status)):
        if was != now:
            yield _changed(f"{kind}-changed", kind, "none", f"the {kind} is another", was, now)
    if before.contacts != after.contacts:
        yield _changed("contacts-changed", "support", "none", "the owner is reached otherwise", _contacts(before), _contacts(after))


def _service(before: Contract, after: Contract) -> Iterator[Change]:
    kept, keeps = before.within("retention"), after.within("retention")
    if keeps is not None and (kept is None or keeps < kept):
        said = "data is erased sooner" if kept is not None else "data is erased that was kept"
        yield _changed("retention-shortened", "retention", "breaking", said, kept, keeps)
    elif kept != keeps:
        yield _changed("retention-extended", "retention", "none", "data is kept for longer", kept, keeps)
    was, now = ({(one.property, one.element): (one.value, one.unit) for one in of.service_levels} for of in (before, after))
    for name, element in dict.fromkeys([*was, *now]):
        old, new = was.get((name, element)), now.get((name, element))
        if old != new and name.lower() != "retention":
            subject = name if element in (None, "", after.dataset) else f"{name} of {element}"
            yield _changed("service-level-changed", subject, "none", "another service level is promised", old, new)


def _columns(before: Contract, after: Contract) -> Iterator[Change]:
    was, now = before.columns, after.columns
    named = {prop.name: prop for prop in after.properties}
    for column, old in was.items():
        new = now.get(column)
        if new is not None:
            yield from _column(old, new)
        elif (moved := named.get(old.name)) is not None and moved.column not in was:
            said = f"the column is now called {moved.column}"
            yield _changed("column-renamed", column, "breaking", said, column, moved.column, moved.line)
            yield from _column(old, moved)
        else:
            yield _changed("column-removed", column, "breaking", "nobody promises the column any more", _type(old), None, old.line)
    renamed = {named[old.name].column for column, old in was.items() if column not in now and old.name in named}
    for column, new in now.items():
        if column not in was and column not in renamed:
            yield _changed("column-added", column, "none", "a column more is promised", None, _type(new), new.line)


def _column(old: Property, new: Property) -> Iterator[Change]:
    column = new.column
    if old.name != new.name:
        yield _changed("property-renamed", column, "none", "the contract calls it otherwise", old.name, new.name, new.line)
    if (was := type_of(old)) != (now := type_of(new)):
        fits = widens(was, now)
        said = "every old value fits the new type" if fits else "there are old values that the new type does not hold"
        yield _changed(
            "type-widened" if fits else "type-changed", column, "none" if fits else "breaking", said, str(was), str(now), new.line
        )
        if fits:
            yield from _inside(column, old, new)
    else:
        yield from _inside(column, old, new)
    secret, open_ = ((prop.classification or "").lower() for prop in (old, new))
    if secret != open_:
        lower = SECRECY.get(open_, 0) < SECRECY.get(secret, 0)
        said = "its values are less protected" if lower else "its values are protected otherwise"
        if old.sensitive != new.sensitive:
            said = "its values are shown where they were masked" if old.sensitive else "its values are masked from now on"
        kind = "classification-lowered" if lower else "classification-changed"
        yield _changed(kind, column, "breaking" if lower else "none", said, old.classification, new.classification, new.line)


def _inside(column: str, old: Property, new: Property) -> Iterator[Change]:
    """What has become of the parts of an object, array or map. Of what is gone or another all that is in there is not told besides."""
    told: list[str] = []
    for path, was in old.inside.items():
        if any(path.startswith((f"{outer}.", f"{outer}[", f"{outer}{{")) for outer in told):
            continue
        before = WrittenType(*was)
        if path not in new.inside:
            told.append(path)
            yield _changed("part-removed", column + path, "breaking", "nobody promises this part any more", str(before), None, new.line)
        elif (after := WrittenType(*new.inside[path])) != before:
            fits = widens(before, after)
            told += [] if fits else [path]
            said = "every old value fits the new type" if fits else "there are old values that the new type does not hold"
            kind, effect = ("type-widened", "none") if fits else ("type-changed", "breaking")
            yield _changed(kind, column + path, effect, said, str(before), str(after), new.line)
    for path, now in new.inside.items():
        if path not in old.inside and not any(path.startswith(outer) for outer in told):
            yield _changed("part-added", column + path, "none", "a part more is promised", None, str(WrittenType(*now)), new.line)


def _type(prop: Property) -> str:
    return str(type_of(prop))


def _plain(breaker: object) -> object:
    return None if breaker is None else {name: getattr(breaker, name) for name in ("share", "window", "action")}


def _contacts(contract: Contract) -> list[str]:
    return [" ".join(filter(None, (one.tool, one.channel))) for one in contract.contacts]


def _named(contract: Contract) -> dict[str, Any]:
    told = {name: getattr(contract, name) for name in ("id", "version", "dataset", "fingerprint")}
    return {"file": str(contract.file), **told}
