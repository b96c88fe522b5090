"""What all formats have in common: columns put together from rows that were read fast and rows that were looked at one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Defect, Op, Presence
from sources.records.base import Decoded, Payload, RecordSchema
from sources.records.keys import KeyReader
from sources.records.scalars import Unfit

Texts = Sequence[str | None]
_FEW = 32  # rows
Longs = npt.NDArray[np.int64]


@dataclass
class Rows:
    """m rows that were read from m values: their columns, what is wrong with them, and names that the schema lacks."""

    columns: list[pa.StringArray]
    defects: list[Defect] = field(default_factory=list)
    extra: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Careful:
    """One row that was looked at value by value: null where a value is defective. `extra` is what the schema lacks, as JSON."""

    texts: Texts
    defects: Sequence[Defect] = ()
    extra: Mapping[str, str] = field(default_factory=dict)


def unreadable(width: int, row: int, message: str, raw: bytes) -> Careful:
    """A row of nulls: the whole message cannot be read."""
    return Careful((None,) * width, (Defect(row, None, message, raw),))


def patched(columns: Sequence[pa.StringArray], rows: Mapping[int, Texts]) -> list[pa.StringArray]:
    """The columns with the given rows' texts in place of what was there."""
    if not rows:
        return list(columns)
    places = sorted(rows)
    texts = [pa.array([rows[row][place] for row in places], pa.string()) for place in range(len(columns))]
    if len(places) <= _FEW:
        return [_spliced(column, places, text) for column, text in zip(columns, texts, strict=True)]
    mask = np.zeros(len(columns[0]) if columns else 0, np.bool_)
    mask[places] = True
    where = pa.array(mask)
    return [pc.replace_with_mask(column, where, text) for column, text in zip(columns, texts, strict=True)]


def _spliced(column: pa.StringArray, places: Sequence[int], texts: pa.StringArray) -> pa.StringArray:
    """The same for a few rows: pieces put together are copied ten times as fast as values are chosen."""
    pieces: list[pa.StringArray] = []
    start = 0
    for place, row in enumerate(places):
        pieces += (column.slice(start, row - start), texts.slice(place, 1))
        start = row + 1
    return pa.concat_arrays([*pieces, column.slice(start)])


def overruled(rows: Rows, found: Mapping[int, Careful]) -> Rows:
    """The rows with others in place of some, whose defects are gone with them."""
    if not found:
        return rows
    defects = [defect for defect in rows.defects if defect.row not in found]
    defects += [defect for careful in found.values() for defect in careful.defects]
    return Rows(patched(rows.columns, {row: careful.texts for row, careful in found.items()}), defects, rows.extra)


def merged(parts: Sequence[tuple[Sequence[int] | Longs, Rows]], count: int, width: int) -> Rows:
    """One of several, each of which has the rows at its places among `count`; nulls where none has."""
    if len(parts) == 1 and len(parts[0][0]) == count:
        return parts[0][1]
    if not parts:
        return Rows([pa.nulls(count, pa.string())] * width)
    origin = np.full(count, -1, np.int64)
    places = np.concatenate([np.asarray(rows, np.int64) for rows, _ in parts])
    origin[places] = np.arange(len(places))
    chosen = pa.array(origin, mask=origin < 0)
    columns = [pa.concat_arrays(pieces).take(chosen) for pieces in zip(*(rows.columns for _, rows in parts), strict=True)]
    defects = [replace(defect, row=int(places_of[defect.row])) for places_of, rows in parts for defect in rows.defects]
    extra: Counter[str] = Counter()
    for _, rows in parts:
        extra.update(rows.extra)
    return Rows(columns, defects, extra)


def assembled(schema: RecordSchema, keys: KeyReader, payloads: Sequence[Payload], read: Callable[[Sequence[bytes]], Rows]) -> Decoded:
    """Messages with a value through `read`, those without as deletes of what their key names."""
    values = [payload.value for payload in payloads if payload.value is not None]
    count = len(payloads)
    op = np.full(count, Op.INSERT, np.uint8)
    if len(values) == count:
        rows = read(values)
        return Decoded(tuple(rows.columns), op, tuple(rows.defects), extra=rows.extra)
    gone = [row for row, payload in enumerate(payloads) if payload.value is None]
    op[gone] = Op.DELETE
    rows = merged([(np.flatnonzero(op != Op.DELETE), read(values))], count, len(schema.fields))
    deletes = {row: key_row(schema, keys, row, payloads[row].key) for row in gone}
    columns = patched(rows.columns, {row: delete.texts for row, delete in deletes.items()})
    defects = [*rows.defects, *(defect for delete in deletes.values() for defect in delete.defects)]
    return Decoded(tuple(columns), op, tuple(defects), presence=only_key(schema, op), extra=rows.extra)


def key_row(schema: RecordSchema, keys: KeyReader, row: int, key: bytes | None) -> Careful:
    """The row of a message that has a key alone: the key's columns, null elsewhere."""
    try:
        found = keys.read(key)
    except Unfit as error:
        return unreadable(len(schema.fields), row, str(error), key or b"")
    return Careful([found.get(name) for name in schema.names])


def only_key(schema: RecordSchema, op: npt.NDArray[np.uint8]) -> dict[int, npt.NDArray[np.uint8]]:
    """Presence in which deletes carry the key's columns and nothing else."""
    deleted = op == Op.DELETE
    if not deleted.any():
        return {}
    absent = np.where(deleted, Presence.ABSENT, Presence.PRESENT).astype(np.uint8)
    return {place: absent for place, name in enumerate(schema.names) if name not in schema.key}
