"""Typed columns of one batch, as rules read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from quality.column import Column

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Frame:
    """Typed columns of one batch, each of `rows` values.

    `malformed` holds, per column, bool[rows]: the value is not of the column's type (it is null in `columns`, though not null in
    truth). `absent` holds the same for values that the change does not carry (unchanged TOAST). A rule does not run for a row
    in which a column that it reads is malformed or absent.
    """

    columns: Mapping[str, pa.Array | pa.ChunkedArray]
    rows: int
    malformed: Mapping[str, Rows] = field(default_factory=dict)
    absent: Mapping[str, Rows] = field(default_factory=dict)
    _views: dict[str, Column] = field(default_factory=dict, init=False, repr=False, compare=False)

    def column(self, name: str) -> Column:
        """A column with what was already found out about it. Raises KeyError for a column that is not there."""
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = Column(self.columns[name])
        return view

    def skipped(self, names: Iterable[str]) -> Rows | None:
        """bool[rows] of the rows for which a rule over these columns does not run; None when it runs for all."""
        found: Rows | None = None
        for name in names:
            for marks in (self.malformed.get(name), self.absent.get(name)):
                if marks is not None and marks.any():
                    found = marks if found is None else found | marks
        return found

    def where(self, kept: Rows) -> Frame:
        """The rows that `kept` marks, in their order."""
        mask = pa.array(kept)
        return Frame(
            {name: array.filter(mask) for name, array in self.columns.items()},
            int(np.count_nonzero(kept)),
            {name: marks[kept] for name, marks in self.malformed.items()},
            {name: marks[kept] for name, marks in self.absent.items()},
        )
