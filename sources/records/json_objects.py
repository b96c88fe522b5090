"""Many JSON objects to columns: the fast way for all of them, and a careful look at those which it refuses.

What is asked for is a list of slots, so that each format can say how it reads a column: plain JSON by the column's Postgres type,
Debezium by what Kafka Connect says of the field.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Defect
from sources.records.assembling import Careful, Rows, patched, unreadable
from sources.records.base import DecodeOptions, RecordSchema
from sources.records.columns import Mask
from sources.records.json_level import BAD, MISSING, Buffer, Level, Slot, can_be_member
from sources.records.json_types import json_type, tokens
from sources.records.json_values import compact, described
from sources.records.scalars import Unfit, pg_type

LEARNED = 64  # names that the schema lacks and which are read fast; messages with others are looked at one by one

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def slots(schema: RecordSchema, options: DecodeOptions) -> list[Slot]:
    """How plain JSON is read: each field by its type, under its path."""
    return [
        Slot(place, tuple(options.paths.get(field.name, field.name).split(".")), json_type(pg_type(field.type)), field.required)
        for place, field in enumerate(schema.fields)
    ]


class JsonObjects:
    """Reads values that are JSON objects. Names that the schema lacks are learned from the first message that has them."""

    def __init__(self, slots: Sequence[Slot], names: Sequence[str], options: DecodeOptions) -> None:
        self._slots = slots
        self._names = names
        self._options = options
        self._keep = options.extra == "keep"
        self._width = len(names) + self._keep
        self._known = {slot.path[0] for slot in slots}
        self._extras: list[str] = []
        self._level = self._made()

    def _made(self) -> Level:
        return Level(self._slots, self._extras, closed=True)

    def read(self, values: Sequence[Buffer]) -> Rows:
        """m rows for m values."""
        objects, refused = self._level.objects(values)
        while refused and self._learn(values, refused):
            objects, refused = self._level.objects(values)
        doubtful = not_utf8(values)
        doubtful[refused] = True
        found: dict[int, pa.StringArray] = {}
        self._level.columns(objects, found, doubtful)
        extra: Counter[str] = Counter()
        columns = [found[place] for place in range(len(self._names))]
        kept = self._kept(objects, extra, doubtful)
        if self._keep:
            columns.append(kept)
        if self._options.strict:
            doubtful |= np.fromiter((_twice(value) is not None for value in values), np.bool_, len(values))
        looked = {row: self.careful(bytes(values[row]), row) for row in np.flatnonzero(doubtful).tolist()}
        for careful in looked.values():
            extra.update(careful.extra.keys())
        defects = [defect for careful in looked.values() for defect in careful.defects]
        return Rows(patched(columns, {row: careful.texts for row, careful in looked.items()}), defects, extra)

    def _learn(self, values: Sequence[Buffer], refused: Sequence[int]) -> bool:
        """Whether one of these messages taught a name that the level does not have yet; it has it then."""
        if self._options.extra == "quarantine" or len(self._extras) >= LEARNED:
            return False
        for row in refused[:LEARNED]:
            try:
                names = _OBJECT.decode(values[row]).keys() - self._known - set(self._extras)
            except BAD:
                continue
            fresh = [name for name in names if len(name) <= 200 and can_be_member(name)][: LEARNED - len(self._extras)]
            if fresh:
                self._extras += sorted(fresh)
                self._level = self._made()
                return True
        return False

    def _kept(self, objects: Sequence[object], extra: Counter[str], doubtful: Mask) -> pa.StringArray:
        """The column _extra, where it is kept; counts what each name occurs in."""
        pieces: list[pa.StringArray] = []
        sure = ~doubtful  # those which are looked at are counted there
        for name, found in self._level.extras(objects):
            if not self._keep:
                count = sum(token is not MISSING for token in found) if sure.all() else _there(found, sure)
            else:
                text, nul = tokens(found)
                there = pc.not_equal(text, "")
                count = int(np.count_nonzero(np.asarray(there) & sure))
                if nul is not None:
                    doubtful |= nul
                    count -= int(np.count_nonzero(nul & sure))
                    sure = ~doubtful
                head = json.dumps(name, ensure_ascii=False) + ":"
                pieces.append(pc.if_else(there, pc.binary_join_element_wise(head, text, ",", ""), ""))
            if count:
                extra[name] += count
        if not pieces:
            return pa.nulls(len(objects), pa.string())
        joined = pc.ascii_rtrim(pc.binary_join_element_wise(*pieces, ""), ",")  # no token ends with a comma
        return pc.if_else(pc.equal(joined, ""), None, pc.binary_join_element_wise("{", joined, "}", ""))

    def careful(self, value: bytes, row: int) -> Careful:
        """One message, value by value: what it holds, or every reason why it cannot be taken."""
        reason = unsound(value)
        if reason is None and self._options.strict and (name := _twice(value)) is not None:
            reason = f"the name {name!r} is there twice in one object"
        if reason is not None:
            return unreadable(self._width, row, reason, value)
        members = _OBJECT.decode(value)
        unknown = {name: bytes(token) for name, token in members.items() if name not in self._known}
        texts: list[str | None] = [None] * self._width
        defects: list[Defect] = []
        for slot in self._slots:
            token = b""
            try:
                token = _found(members, slot.path)
                text = texts[slot.place] = slot.type.read(token) if token else None
                if text is None and slot.required:
                    raise Unfit("is required, and the message has " + ("null" if token == b"null" else "none"))
            except Unfit as error:
                defects.append(Defect(row, self._names[slot.place], str(error), token))
        if unknown and self._options.extra == "quarantine":
            defects.append(Defect(row, None, "has fields that the schema lacks: " + ", ".join(sorted(unknown)), value))
        kept: dict[str, str] = {}
        for name, token in unknown.items():
            try:
                kept[name] = compact(token)
            except Unfit as error:
                kept[name] = "null"
                if self._keep:
                    defects.append(Defect(row, None, f"{name} {error}", token))
        if self._keep and kept:
            texts[-1] = "{" + ",".join(json.dumps(name, ensure_ascii=False) + ":" + token for name, token in kept.items()) + "}"
        return Careful(texts, defects, kept)


def not_utf8(values: Sequence[Buffer]) -> Mask:
    """msgspec does not look into what it skips, so this looks at all of it; in one go, as nearly every batch is sound."""
    found = np.zeros(len(values), np.bool_)
    joined = b"\n".join(values)
    if not joined.isascii() and not _is_utf8(joined):
        found[:] = [not _is_utf8(bytes(value)) for value in values]
    return found


def _there(found: Sequence[msgspec.Raw], sure: Mask) -> int:
    return int(np.count_nonzero(np.fromiter((token is not MISSING for token in found), np.bool_, len(found)) & sure))


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def unsound(value: bytes) -> str | None:
    """Why a message is no JSON object."""
    if not value.strip():
        return "the message is empty"
    try:
        value.decode()
        _OBJECT.decode(value)
    except UnicodeDecodeError as error:
        return f"is not UTF-8 ({error.reason} at byte {error.start})"
    except msgspec.ValidationError:
        return f"expected a JSON object, got {described(value.strip())}"
    except msgspec.DecodeError as error:
        return "holds half a surrogate pair" if _half_pair(value) else f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}"
    except RecursionError:
        return "is nested too deeply"
    return None


def _half_pair(value: bytes) -> bool:
    """Whether what is wrong with a message is a surrogate without the other, which msgspec calls truncated."""
    if b"\\u" not in value:
        return False
    try:
        json.dumps(json.loads(value, parse_int=str), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


def _found(members: dict[str, msgspec.Raw], path: tuple[str, ...]) -> bytes:
    """The token that a path leads to; empty where it is missing."""
    token = bytes(members.get(path[0], b""))
    for depth, name in enumerate(path[1:], 1):
        if token in (b"", b"null"):
            return b""
        if token[:1] != b"{":
            raise Unfit(f"{'.'.join(path[:depth])} is {described(token)}, not an object")
        token = bytes(_OBJECT.decode(token).get(name, b""))
    return token


def _twice(value: Buffer) -> str | None:
    """A name that is twice in one object of a message; None too for what is no JSON."""
    repeated: list[str] = []

    def seen(pairs: list[tuple[str, object]]) -> None:
        names = [name for name, _ in pairs]
        if len(names) != len(set(names)):
            repeated.append(next(name for place, name in enumerate(names) if name in names[:place]))

    try:
        json.loads(bytes(value), object_pairs_hook=seen, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    return repeated[0] if repeated else None
