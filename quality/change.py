"""One change between two versions of a contract, and what it does to others."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Effect(StrEnum):
    """What a change does to those who rely on the dataset."""

    BREAKING = "breaking"
    TIGHTENS = "tightens"  # more is held back
    LOOSENS = "loosens"  # readers can meet values that were promised never to come
    ALTERS = "alters"  # the one or the other, or both: nobody can tell from the text
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Change:
    """One change: what kind it is, of which column, rule or setting, and what it says.

    `line` is in the newer contract; of what is not there any more, in the older one.
    """

    kind: str
    subject: str
    effect: Effect
    says: str
    before: Any = None
    after: Any = None
    line: int | None = None
