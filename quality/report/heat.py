"""Where it hurts: kinds of rules against columns, as a table whose cells are shaded by how often a rule was broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quality.report.model import Cell

_SHARES = (0.01, 0.1, 0.5)


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A kind of rule; by column the cell, or None where no such rule looks at it."""

    kind: str
    cells: Sequence[Cell | None]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Columns in the order of the contract, kinds in the order in which rules of them come."""

    columns: Sequence[str]
    rows: Sequence[HeatRow]
    most: int

    def level(self, cell: Cell) -> int:
        """How dark a cell is, from 0 (nothing was broken) to 4: by its share of the cell that is broken most."""
        if cell.failed <= 0:
            return 0
        share = cell.failed / max(self.most, 1)
        return 1 + sum(share > limit for limit in _SHARES)


def heat_map(cells: Sequence[Cell]) -> HeatMap:
    """The table of these cells."""
    columns = list(dict.fromkeys(cell.column for cell in cells))
    kinds = list(dict.fromkeys(cell.kind for cell in cells))
    at = {(cell.kind, cell.column): cell for cell in cells}
    rows = [HeatRow(kind, [at.get((kind, column)) for column in columns]) for kind in kinds]
    return HeatMap(columns, rows, max((cell.failed for cell in cells), default=0))
