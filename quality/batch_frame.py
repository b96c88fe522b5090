"""The columns of a batch of changes as rules read them: Postgres' text, cast column by column, and only those that rules ask for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journal.batch import ChangeBatch
from journal.decimals import exact_decimals
from journal.types import TypedColumn, parse_type, typed
from quality.contract import Contract
from quality.frame import Frame
from quality.moment_format import MomentFormat
from quality.reading import read_values
from quality.rules import Types

Mask = npt.NDArray[np.bool_]


class FrameOfBatch:
    """Makes frames of a dataset's batches. `types` says how each column is held, `columns` which are wanted."""

    def __init__(self, contract: Contract, types: Types, columns: Iterable[str]) -> None:
        self._columns = tuple(columns)
        self._types = types
        self._formats: dict[str, tuple[MomentFormat | None, str]] = {
            name: (contract.columns[name].format, contract.columns[name].zone) for name in self._columns if types[name].read
        }
        declared = {name: parse_type(types[name].postgres).args for name in self._columns}
        self._likely: dict[str, pa.DataType | None] = {name: types[name].arrow if declared[name] else None for name in self._columns}

    def frame(self, batch: ChangeBatch, undecodable: dict[str, Mask]) -> Frame:
        """`undecodable`: column -> bool[n] of the values that the batch could not hold as text."""
        values: dict[str, pa.Array] = {}
        malformed: dict[str, Mask] = {}
        absent: dict[str, Mask] = {}
        for name in self._columns:
            index = batch.schema.index(name)
            column = self.typed(name, batch.columns[index])
            values[name] = column.values
            bad = column.malformed | undecodable[name] if name in undecodable else column.malformed
            if bad.any():
                malformed[name] = bad
            if index in batch.presence:
                absent[name] = batch.absent(index)
        return Frame(values, len(batch), malformed, absent)

    def typed(self, name: str, text: pa.StringArray) -> TypedColumn:
        """Texts of one of the columns as values."""
        held = self._types[name]
        if held.read:
            by, zone = self._formats[name]
            return read_values(text, held, by=by, zone=zone)
        if not pa.types.is_decimal(held.arrow):
            return typed(text, held.postgres)
        exact = exact_decimals(text, self._likely[name])
        if not exact.malformed.any():
            self._likely[name] = exact.values.type
            return exact
        # NaN, infinities, very many digits: such a batch is judged in doubles
        return TypedColumn(text.cast(pa.float64()), np.zeros(len(text), np.bool_))
