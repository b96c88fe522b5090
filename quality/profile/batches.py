"""What is profiled, as it comes: batches of columns, each with what is known of it beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

UNFIT = "unfit"
"""Among the kinds of a column: values that its type cannot hold, which came as null."""

Origin = Literal["text", "json", "arrow", "postgres"]


@dataclass(frozen=True, slots=True)
class Field:
    """One column before anybody has looked at its values.

    origin    text: free text, as in CSV; json: the text of JSON scalars; arrow: typed values; postgres: typed from Postgres' text
    given     its type in the words of where it comes from
    postgres  the type of a column of Postgres
    """

    name: str
    origin: Origin
    given: str
    postgres: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some rows. Of JSON, `kinds` tells which kinds of values a column has in them (text, integer, number, boolean, object, array)."""

    fields: Sequence[Field]
    columns: Sequence[pa.Array]
    rows: int
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def head(self, rows: int) -> Batch:
        """The first rows."""
        return Batch(self.fields, [column.slice(0, rows) for column in self.columns], min(rows, self.rows), self.kinds)
