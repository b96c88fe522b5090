"""What a route does with a column: `drop`, `mask(hash)`, `mask(redact)`, `mask(partial)`, `cast(TYPE)`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from journal.types import PgType, parse_type
from pipeline.names import nearest

MaskKind = Literal["hash", "redact", "partial"]
MASKS: tuple[MaskKind, ...] = ("hash", "redact", "partial")
_KNOWN = ("drop", *(f"mask({kind})" for kind in MASKS), "cast(TYPE)")

CASTABLE = (
    "boolean", "smallint", "integer", "bigint", "real", "double precision", "text", "date", "timestamp without time zone",
    "timestamp with time zone", "time without time zone", "uuid", "json", "jsonb",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drop:
    """The column does not go there."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The column goes there as text that hides its value."""

    kind: MaskKind


@dataclass(frozen=True, slots=True)
class Cast:
    """The column goes there as another type."""

    type: PgType


Action = Drop | Mask | Cast


class ActionError(ValueError):
    """An action that is not one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def parse_action(text: str) -> Action:
    """Reads one value of `columns`. Raises ActionError."""
    found = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*(.*?)\s*\))?\s*", text, re.DOTALL)
    verb, argument = (found[1].lower(), found[2]) if found else ("", None)
    if verb == "drop" and argument is None:
        return Drop()
    if verb == "mask" and argument is not None:
        return _mask(argument.lower())
    if verb == "cast" and argument:
        return _cast(argument)
    raise ActionError(f"{text!r} is nothing that can be done with a column", nearest(text, _KNOWN) or f"known: {', '.join(_KNOWN)}")


def _mask(kind: str) -> Mask:
    if kind in MASKS:
        return Mask(kind)
    if kind == "tokenize":
        raise ActionError(
            "mask(tokenize) is not offered: there is no vault to take a value back from",
            "mask(hash) gives equal values equal texts, so they can still be joined and counted",
        )
    raise ActionError(f"there is no mask {kind!r}", nearest(kind, MASKS))


def _cast(written: str) -> Cast:
    try:
        kind = parse_type(written)
    except ValueError as error:
        raise ActionError(str(error)) from error
    if kind.base == "numeric" and not kind.array:
        precision, scale = (*kind.args, 0, 0)[:2]
        if 0 < precision <= 38 and 0 <= scale <= precision:
            return Cast(PgType("numeric", (precision, scale)))
        raise ActionError(
            f"cast({written}) does not say how many digits", "write the digits in all and those behind the point: cast(numeric(18,4))"
        )
    if kind.array or kind.args or kind.base not in CASTABLE:
        raise ActionError(f"cast({written}) is not offered", nearest(written, CASTABLE) or f"known: {', '.join(CASTABLE)}, numeric(p,s)")
    return Cast(kind)
