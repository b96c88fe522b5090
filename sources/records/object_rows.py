"""Records that are mappings of Python objects (avro) to columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from journal.batch import Defect
from sources.records.assembling import Careful, Rows, overruled
from sources.records.base import DecodeOptions, RecordSchema
from sources.records.columns import Converted, Mask
from sources.records.connect import string
from sources.records.objects import json_token, object_converter, object_text
from sources.records.scalars import Unfit, pg_type

Record = Mapping[str, Any]
Reader = Callable[[Any], str | None]
Readers = tuple[Callable[[Sequence[Any]], Converted], Reader]  # of a column, and of one value where the first is not sure


class ObjectColumns:
    """Reads records of one kind: `readers` are for fields whose values mean something else than what they are."""

    def __init__(
        self, schema: RecordSchema, options: DecodeOptions, *, readers: Mapping[int, Readers] | None = None, required: bool = True
    ) -> None:
        self._schema = schema
        self._kinds = [pg_type(field.type) for field in schema.fields]
        self._paths = [tuple(options.paths.get(field.name, field.name).split(".")) for field in schema.fields]
        self._known = {path[0] for path in self._paths}
        self._readers = readers or {}
        self._options = options
        self._required = required
        self._width = len(schema.fields) + (options.extra == "keep")

    def read(self, records: Sequence[Record], names: Sequence[str], raw: Sequence[bytes]) -> Rows:
        """A row for each record; `names` are those which all of them have, `raw` the messages that they come from."""
        columns: list[pa.StringArray] = []
        doubtful = np.zeros(len(records), np.bool_)
        for place, (kind, path, field) in enumerate(zip(self._kinds, self._paths, self._schema.fields, strict=True)):
            values = [record.get(path[0]) for record in records] if len(path) == 1 else [_along(record, path) for record in records]
            read = self._readers.get(place)
            text, doubt = (object_converter(kind) if read is None else read[0])(values)
            columns.append(text)
            if doubt is not None:
                doubtful |= doubt
            if self._required and field.required and text.null_count:
                doubtful |= np.asarray(text.is_null())
        lacking = [name for name in names if name not in self._known]
        looked: dict[int, Careful] = {}
        if self._options.extra == "quarantine" and lacking:
            doubtful[:] = True
        if self._options.extra == "keep":
            columns.append(_kept(records, lacking, doubtful))
        for row in np.flatnonzero(doubtful).tolist():
            looked[row] = self.careful(records[row], lacking, row, raw[row])
        extra = Counter({name: len(records) for name in lacking} if len(records) else {})
        return overruled(Rows(columns, extra=extra), looked)

    def careful(self, record: Record, lacking: Sequence[str], row: int, raw: bytes) -> Careful:
        """One record, value by value; `lacking` are its names that the schema lacks."""
        texts: list[str | None] = [None] * self._width
        defects: list[Defect] = []
        for place, (kind, path, field) in enumerate(zip(self._kinds, self._paths, self._schema.fields, strict=True)):
            value = _along(record, path)
            try:
                read = self._readers.get(place)
                texts[place] = None if value is None else object_text(value, kind) if read is None else read[1](value)
                if value is None and self._required and field.required:
                    raise Unfit("is required, and the message has none")
            except Unfit as error:
                defects.append(Defect(row, field.name, str(error), shown_bytes(value)))
        if lacking and self._options.extra == "quarantine":
            defects.append(Defect(row, None, "has fields that the schema lacks: " + ", ".join(sorted(lacking)), raw))
        if self._options.extra == "keep":
            try:
                texts[-1] = _object(record, lacking) if lacking else None
            except Unfit as error:
                defects.append(Defect(row, None, f"a field that the schema lacks {error}", raw))
        return Careful(texts, defects)


def shown_bytes(value: object) -> bytes:
    """A value for a person who looks at a defect."""
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode("utf-8", "surrogatepass")


def _along(record: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        record = record.get(name) if isinstance(record, Mapping) else None
    return record


def _kept(records: Sequence[Record], lacking: Sequence[str], doubtful: Mask) -> pa.StringArray:
    if not lacking:
        return pa.nulls(len(records), pa.string())
    found: list[str | None] = []
    for row, record in enumerate(records):
        try:
            found.append(_object(record, lacking))
        except Unfit:
            doubtful[row] = True
            found.append(None)
    return pa.array(found, pa.string())


def _object(record: Record, names: Sequence[str]) -> str:
    return "{" + ",".join(f"{string(name)}:{json_token(record.get(name))}" for name in names) + "}"
