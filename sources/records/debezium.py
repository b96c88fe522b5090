"""Debezium's change events: a row before and after, as JSON (with or without its schema) or in avro.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Op, Presence
from sources.records.assembling import Careful, key_row, merged, overruled, unreadable
from sources.records.base import Decoded, DecodeOptions, Decoder, Payload, RecordSchema
from sources.records.debezium_json import UNAVAILABLE, JsonEvents
from sources.records.debezium_rows import Event, RowReader
from sources.records.keys import KeyReader
from sources.records.scalars import shown

_OPS = {"c": Op.INSERT, "u": Op.UPDATE, "d": Op.DELETE, "r": Op.READ, "t": Op.TRUNCATE}
_MARKS = (
    UNAVAILABLE, f'"{UNAVAILABLE}"', f"{{{UNAVAILABLE}}}", f'["{UNAVAILABLE}"]', f'{{"{UNAVAILABLE}":"{UNAVAILABLE}"}}',
    "\\x" + UNAVAILABLE.encode().hex(),
)  # fmt: skip


class DebeziumDecoder(Decoder):
    """op c, u, d, r and t are inserts, updates, deletes, copied rows and truncates. What Debezium calls unavailable is absent."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions) -> None:
        super().__init__(schema, options)
        self._json = JsonEvents(schema, options)
        self._avro = None
        self._keys = KeyReader(schema, options.paths)
        if options.registry is not None:
            from sources.records.debezium_avro import AvroEvents  # brings libraries that JSON does not need

            self._avro = AvroEvents(schema, options)
            self._keys = self._avro.keys

    def close(self) -> None:
        if self._avro is not None:
            self._avro.close()

    def decode(self, payloads: Sequence[Payload]) -> Decoded:
        made = _Made(len(payloads), len(self.schema.fields))
        for row, event in self._events(payloads):
            value = payloads[row].value or b""
            if isinstance(event, str):
                made.refused[row] = unreadable(made.width, row, event, value)
            else:
                self._place(made, row, event, payloads[row].key, value)
        for row, payload in enumerate(payloads):
            if payload.value is None:
                made.op[row] = Op.DELETE
                made.refused[row] = key_row(self.schema, self._keys, row, payload.key)
        return self._decoded(made)

    def _events(self, payloads: Sequence[Payload]) -> list[tuple[int, Event | str]]:
        plain = [row for row, payload in enumerate(payloads) if payload.value is not None and not self._is_avro(payload.value)]
        wired = [row for row, payload in enumerate(payloads) if payload.value is not None and self._is_avro(payload.value)]
        found = list(zip(plain, self._json.read([payloads[row].value or b"" for row in plain]), strict=True))
        if self._avro is not None and wired:
            found += zip(wired, self._avro.read([payloads[row].value or b"" for row in wired]), strict=True)
        return found

    def _is_avro(self, value: bytes) -> bool:
        return self._avro is not None and value[:1] == b"\0"  # which no JSON begins with

    def _place(self, made: _Made, row: int, event: Event, key: bytes | None, value: bytes) -> None:
        """Says which part of an event is read how."""
        op = _OPS.get(event.op)
        if op is None:
            made.refused[row] = unreadable(made.width, row, f"{shown(event.op)} is no op of a row: c, u, d, r or t", value)
            return
        made.op[row] = op
        if op == Op.TRUNCATE:
            made.refused[row] = Careful((None,) * made.width)
        elif op == Op.DELETE:
            if event.before is not None:
                made.add(made.before, event, row, event.before, value)
            else:
                made.refused[row] = key_row(self.schema, self._keys, row, key)
        elif event.after is None:
            made.refused[row] = unreadable(made.width, row, f"the op is {event.op}, and there is no `after`", value)
        else:
            made.add(made.after, event, row, event.after, value)
            if op == Op.UPDATE and event.before is not None:
                made.add(made.old, event, row, event.before, value)

    def _decoded(self, made: _Made) -> Decoded:
        parts = [(part.rows, part.reader.new(part.items, part.raw)) for part in made.after.values()]
        parts += [(part.rows, part.reader.old(part.items, part.raw)) for part in made.before.values()]
        rows = overruled(merged(parts, len(made.op), made.width), made.refused)
        presence: dict[int, npt.NDArray[np.uint8]] = {}
        columns = [self._present(place, column, made.op, presence) for place, column in enumerate(rows.columns)]
        olds = [(part.rows, part.reader.old(part.items, part.raw)) for part in made.old.values()]
        if not olds:
            return Decoded(tuple(columns), made.op, tuple(rows.defects), presence=presence, extra=rows.extra)
        before = merged(olds, len(made.op), made.width)
        has_old = np.zeros(len(made.op), np.bool_)
        has_old[[row for part in made.old.values() for row in part.rows]] = True
        old = {place: _known(column)[0] for place, column in enumerate(before.columns)}
        defects = (*rows.defects, *(replace(defect, message=f"before: {defect.message}") for defect in before.defects))
        return Decoded(tuple(columns), made.op, defects, old, has_old, presence, rows.extra)

    def _present(
        self, place: int, column: pa.StringArray, op: npt.NDArray[np.uint8], presence: dict[int, npt.NDArray[np.uint8]]
    ) -> pa.StringArray:
        """The column without what is unavailable. A delete's null says nothing: before may hold the key alone."""
        column, absent = _known(column)
        if self.schema.names[place] not in self.schema.key:
            absent |= (op == Op.DELETE) & np.asarray(column.is_null())
        if absent.any():
            presence[place] = np.where(absent, Presence.ABSENT, Presence.PRESENT).astype(np.uint8)
        return column


@dataclass(slots=True)
class _Part:
    """Rows that one reader reads."""

    reader: RowReader
    rows: list[int]
    items: list[Any]
    raw: list[bytes]


class _Made:
    """What is known of n messages before their rows are read."""

    def __init__(self, count: int, width: int) -> None:
        self.width = width
        self.op = np.full(count, Op.INSERT, np.uint8)
        self.refused: dict[int, Careful] = {}
        self.after: dict[Hashable, _Part] = {}
        self.before: dict[Hashable, _Part] = {}
        self.old: dict[Hashable, _Part] = {}

    def add(self, parts: dict[Hashable, _Part], event: Event, row: int, item: Any, raw: bytes) -> None:
        """Puts one row among those that are read alike."""
        part = parts.get(event.group)
        if part is None:
            part = parts[event.group] = _Part(event.reader(), [], [], [])
        part.rows.append(row)
        part.items.append(item)
        part.raw.append(raw)


def _known(column: pa.StringArray) -> tuple[pa.StringArray, npt.NDArray[np.bool_]]:
    """The column with null for values that Debezium did not have, and which those are."""
    marks = pc.is_in(column, pa.array(_MARKS))
    if not marks.true_count:
        return column, np.zeros(len(column), np.bool_)
    return pc.if_else(marks, None, column), np.asarray(marks)
