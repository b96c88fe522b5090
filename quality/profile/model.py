"""What was found in a table or a file, as plain data: nothing here holds a value that a person must not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

Scalar = int | float | str
"""A number, or a date or time as text."""


@dataclass(frozen=True, slots=True)
class Common:
    """A value that occurs often: as text (masked where the column is sensitive), and in how many rows."""

    value: str
    rows: int
    share: float


@dataclass(frozen=True, slots=True)
class ShapeCount:
    """Texts of one shape (see journal.quarantine.shape_of): how many rows, and their share of the texts that were looked at."""

    shape: str
    rows: int
    share: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram: rows with low <= value < high (the last one: <= high)."""

    low: Scalar
    high: Scalar
    rows: int


@dataclass(frozen=True, slots=True)
class Outliers:
    """Values outside of fences that a few extremes cannot move. `method` says how far from the middle they stand."""

    rows: int
    low: float | None
    high: float | None
    method: str
    examples: Sequence[str]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a column, or in the table (`column` is None), that a person should look at. `rows` is None where it was not counted."""

    kind: str
    column: str | None
    message: str
    rows: int | None = None
    examples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """Columns that together identify a row: no null, no two rows alike. `declared`: the database says so."""

    columns: tuple[str, ...]
    declared: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """`left` <= `right` in every row that has both. `rows`: how many have; `equal`: in how many both are the same."""

    left: str
    right: str
    rows: int
    equal: int

    @property
    def strict(self) -> bool:
        return self.equal == 0


@dataclass(frozen=True)
class ColumnProfile:
    """What one column holds.

    given        its type where it comes from, in that system's words
    logical      the standard's type that all values are of, physical a narrower one; None where they are of no one type
    better       whether its values are text, and all of a narrower type
    format       how dates and times are written, in the letters of Java's DateTimeFormatter, where they are not ISO 8601
    distinct     different values, to within `distinct_error` (0: exact)
    repeated     values beyond the first of each; None where distinct is not exact
    least, most  smallest and largest value of numbers, dates and times; `wide`: numbers of more digits than are told exactly
    quantiles    share below -> value; `mean` of numbers
    shortest, longest  characters of the texts
    shapes       the most frequent first; `shapes_whole`: counted over all rows, else over a sample
    pattern      a regular expression that every text matches, where they have few shapes
    sensitive    why its values are masked in all that people see
    """

    name: str
    given: str
    logical: str | None
    physical: str | None
    better: bool
    format: str | None
    rows: int
    nulls: int
    nan: int = 0
    infinite: int = 0
    empty: int = 0
    blank: int = 0
    padded: int = 0
    distinct: int = 0
    distinct_error: float = 0.0
    least: Scalar | None = None
    most: Scalar | None = None
    wide: bool = False
    mean: float | None = None
    quantiles: Mapping[str, Scalar] = field(default_factory=dict)
    shortest: int | None = None
    longest: int | None = None
    top: Sequence[Common] = ()
    words: Sequence[str] | None = None
    shapes: Sequence[ShapeCount] = ()
    shapes_whole: bool = True
    pattern: str | None = None
    text_format: str | None = None
    histogram: Sequence[Bar] = ()
    outliers: Outliers | None = None
    sensitive: str | None = None
    findings: Sequence[Finding] = ()

    @property
    def filled(self) -> int:
        """Rows that have a value (NaN is one)."""
        return self.rows - self.nulls

    @property
    def unique(self) -> bool:
        """Whether no two rows have the same value; rows without one are left alone."""
        return self.distinct_error == 0 and self.filled > 0 and self.distinct == self.filled - self.nan

    @property
    def repeated(self) -> int | None:
        return None if self.distinct_error else self.filled - self.nan - self.distinct


@dataclass(frozen=True)
class TableProfile:
    """Everything that was found. `dataset` is what a contract would call it, `place` where it was read, `sampled` the limit on rows."""

    dataset: str
    place: str
    rows: int
    sampled: int | None
    written_at: datetime
    columns: Sequence[ColumnProfile]
    keys: Sequence[Key] = ()
    conditions: Sequence[Condition] = ()
    duplicates: int | None = None
    findings: Sequence[Finding] = ()

    @property
    def all_findings(self) -> Sequence[Finding]:
        """Those of the table, then those of its columns."""
        return [*self.findings, *(finding for column in self.columns for finding in column.findings)]

    @property
    def complete(self) -> float | None:
        """The share of cells that have a value; None where there is no cell."""
        cells = self.rows * len(self.columns)
        return None if not cells else 1 - sum(column.nulls for column in self.columns) / cells
