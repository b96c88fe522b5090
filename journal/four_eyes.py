"""Who has set the columns of a record, one after the other: none of them may approve it."""

from __future__ import annotations

_BETWEEN = ", "


def fixers(before: str | None, by: str) -> str:
    """The names of those who have set columns of a record, with one more."""
    return by if before is None else before if has_fixed(before, by) else f"{before}{_BETWEEN}{by}"


def has_fixed(names: str, by: str) -> bool:
    """Whether somebody is among them, in whatever case the name is written."""
    return f"{_BETWEEN}{by.strip()}{_BETWEEN}".casefold() in f"{_BETWEEN}{names.strip()}{_BETWEEN}".casefold()


def refusal(patched_by: str | None, by: str, approval: str) -> str | None:
    """Why somebody may not approve a record; None where they may. `approval` is the contract's."""
    if patched_by is None or approval == "self" or not has_fixed(patched_by, by):
        return None
    return f"{patched_by} {'have' if _BETWEEN in patched_by else 'has'} fixed it, so somebody else has to approve it"
