"""Records whose values are all texts (csv, xml) to columns. Empty is null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from journal.batch import Defect
from journal.types import PgType
from sources.records.assembling import Careful, Rows, overruled
from sources.records.base import RecordSchema
from sources.records.columns import one_by_one, text_converter
from sources.records.connect import document, string
from sources.records.scalars import JSONS, TEXTS, Unfit, pg_type, scalar_reader


class TextColumns:
    """Reads columns of texts, one for each field of the schema; `width` is that of the rows it makes (one more where _extra is)."""

    def __init__(self, schema: RecordSchema, width: int) -> None:
        self._schema = schema
        self._width = width
        self._kinds = [pg_type(field.type) for field in schema.fields]
        self._readers = [text_reader(kind) for kind in self._kinds]

    def read(self, cells: Sequence[Sequence[str | None]], refused: Mapping[int, Careful], extra: Sequence[Mapping[str, str]] = ()) -> Rows:
        """m rows; `refused` are rows that could not be split into values. `extra` has, for each row, what the schema lacks, as JSON."""
        count = len(cells[0]) if cells else len(refused)
        columns: list[pa.StringArray] = []
        doubtful = np.zeros(count, np.bool_)
        for values, kind, field in zip(cells, self._kinds, self._schema.fields, strict=True):
            convert = one_by_one(document) if kind.base in JSONS and not kind.array else text_converter(kind)
            text, doubt = convert(pa.array([value or None for value in values], pa.string()))
            columns.append(text)
            if doubt is not None:
                doubtful |= doubt
            if field.required and text.null_count:
                doubtful |= np.asarray(text.is_null())
        names: Counter[str] = Counter()
        for row, found in enumerate(extra):
            if row not in refused:
                names.update(found.keys())
        if self._width > len(columns):
            columns.append(_kept(extra, count))
        looked = {row: self._careful([values[row] for values in cells], columns, row) for row in np.flatnonzero(doubtful).tolist()}
        return overruled(Rows(columns, extra=names), {**looked, **refused})

    def _careful(self, cells: Sequence[str | None], columns: Sequence[pa.StringArray], row: int) -> Careful:
        texts: list[str | None] = [None] * self._width
        defects: list[Defect] = []
        for place, (written, read, field) in enumerate(zip(cells, self._readers, self._schema.fields, strict=True)):
            try:
                if written:
                    texts[place] = read(written)
                elif field.required:
                    raise Unfit("is required, and the record has none")
            except Unfit as error:
                defects.append(Defect(row, field.name, str(error), (written or "").encode("utf-8", "surrogateescape")))
        if self._width > len(cells):
            texts[-1] = columns[-1][row].as_py()
        return Careful(texts, defects)


def text_reader(kind: PgType) -> Callable[[str], str]:
    """What reads one text of a type: space around it counts for texts alone."""
    if kind.array:
        return scalar_reader(kind)
    if kind.base in JSONS:
        return document
    read = scalar_reader(kind, loose=True)
    return read if kind.base in TEXTS else lambda written: read(written.strip())


def _kept(extra: Sequence[Mapping[str, str]], count: int) -> pa.StringArray:
    if not any(extra):
        return pa.nulls(count, pa.string())
    return pa.array([_object(found) if found else None for found in extra], pa.string())


def _object(tokens: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{string(name)}:{token}" for name, token in tokens.items()) + "}"
