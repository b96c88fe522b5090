"""Objects of one level of a JSON message, read by a msgspec Struct that is made from the fields which are asked for.

An object of Python for each message is made here and nowhere else: msgspec makes it as fast as columnar readers read whole files,
and unlike these a bad message costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from pipeline.errors import ConfigError
from sources.records.columns import Mask
from sources.records.json_types import NULL, JsonType

MISSING = msgspec.Raw(b"")
BAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
Buffer = bytes | msgspec.Raw


@dataclass(frozen=True, slots=True)
class Slot:
    """One column: its place among the columns, the names that lead to it, how it is read."""

    place: int
    path: tuple[str, ...]
    type: JsonType
    required: bool = False


class Level:
    """Reads objects at one depth, and those inside of them that slots lead into.

    `extras` are names that the slots lack and whose tokens are wanted nevertheless; where `closed`, other names make an object one
    that is not read here.
    """

    def __init__(self, slots: Sequence[Slot], extras: Sequence[str] = (), *, closed: bool = False) -> None:
        groups: dict[str, list[Slot]] = {}
        for slot in slots:
            groups.setdefault(slot.path[0], []).append(slot)
        self._direct: list[tuple[Slot, Callable[[Sequence[Any]], list[Any]]]] = []
        self._inner: list[tuple[Level, Callable[[Sequence[Any]], list[Any]]]] = []
        self._extras = [(name, _getter(f"e{place}")) for place, name in enumerate(extras)]
        members: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        names: dict[str, str] = {}
        for place, (name, group) in enumerate(groups.items()):
            if not can_be_member(name):
                raise ConfigError(f"{name!r} cannot be the name of a field", hint="names have no quotes, backslashes or control characters")
            attribute = f"c{place}"
            names[attribute] = name
            direct = [slot for slot in group if len(slot.path) == 1]
            inner = [Slot(slot.place, slot.path[1:], slot.type, slot.required) for slot in group if len(slot.path) > 1]
            if len(direct) > 1 or (direct and inner and not direct[0].type.raw):
                raise ConfigError(f"more than one field is read from {name!r}", hint="give each field a path of its own")
            self._direct += [(slot, _getter(attribute)) for slot in direct]
            if inner:
                self._inner.append((Level(inner), _getter(attribute)))
            if inner or direct[0].type.raw:
                members.append((attribute, msgspec.Raw, NULL))
            elif direct[0].required:
                members.append((attribute, direct[0].type.annotation))
            else:
                members.append((attribute, direct[0].type.annotation | None, None))
        members.sort(key=lambda member: len(member) > 2)  # those without a default come first
        for place, name in enumerate(extras):
            names[f"e{place}"] = name
            members.append((f"e{place}", msgspec.Raw, MISSING))
        made = msgspec.defstruct("Message", members, rename=names, forbid_unknown_fields=closed, gc=False)
        self._blank = made(*(member[2] if len(member) > 2 else None for member in members))
        self._one = msgspec.json.Decoder(made, float_hook=str).decode
        self._maybe = msgspec.json.Decoder(made | None, float_hook=str).decode

    def objects(self, values: Sequence[Buffer]) -> tuple[list[Any], list[int]]:
        """A Struct for each value, and the places of values that are none; these have a blank one."""
        return self._read(values, self._one)

    def _read(self, values: Sequence[Buffer], decode: Callable[[Buffer], Any]) -> tuple[list[Any], list[int]]:
        found: list[Any] = []
        refused: list[int] = []
        rest = iter(values)
        while True:
            try:
                found.extend(map(decode, rest))  # what came before a value that fails is kept
                return found, refused
            except BAD:
                refused.append(len(found))
                found.append(self._blank)

    def columns(self, objects: Sequence[Any], columns: dict[int, pa.StringArray], doubtful: Mask) -> None:
        """Puts the columns of the slots into `columns`, and marks rows that must be looked at one by one."""
        for slot, get in self._direct:
            text, doubt = slot.type.convert(get(objects))
            columns[slot.place] = text
            if doubt is not None:
                doubtful |= doubt
            if slot.required and text.null_count:
                doubtful |= np.asarray(text.is_null())
        for level, get in self._inner:
            inner, refused = level._read(get(objects), level._maybe)
            doubtful[refused] = True
            level.columns([level._blank if item is None else item for item in inner], columns, doubtful)

    def extras(self, objects: Sequence[Any]) -> Iterator[tuple[str, list[msgspec.Raw]]]:
        """Each name of `extras`, and its tokens: MISSING where an object does not have it."""
        for name, get in self._extras:
            yield name, get(objects)


def can_be_member(name: str) -> bool:
    """Whether msgspec can look for a member of this name."""
    return bool(name) and name.isprintable() and '"' not in name and "\\" not in name


def _getter(attribute: str) -> Callable[[Sequence[Any]], list[Any]]:
    """One attribute of many objects. The name is one of ours; written out it takes two thirds of the time of attrgetter."""
    found: Callable[[Sequence[Any]], list[Any]] = eval(f"lambda rows: [row.{attribute} for row in rows]")  # noqa: S307
    return found
