"""What a dataset's columns are called in DuckDB, which takes names that differ only in case for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sinks.base import Target
from sinks.bookkeeping import bookkeeping
from sinks.duckdb_session import quoted


@dataclass(frozen=True, slots=True)
class Names:
    """Column of the dataset, or of Sluice -> its name in the table: its own, with _2, _3, … where an earlier one has taken that."""

    by_column: Mapping[str, str]

    @classmethod
    def of(cls, target: Target) -> Names:
        """Sluice's own columns keep their names; of the dataset's the first of several that differ in case does."""
        own = [column.name for column in bookkeeping(target)]
        exact = {name.lower() for name in target.schema.names}
        taken = {name.lower() for name in own}
        names = {}
        for name in target.schema.names:
            held, n = name, 1
            while held.lower() in taken or (n > 1 and held.lower() in exact):
                n += 1
                held = f"{name}_{n}"
            taken.add(held.lower())
            names[name] = held
        return cls({**names, **{name: name for name in own}})

    def held(self, column: str) -> str:
        return self.by_column[column]

    def column(self, column: str) -> str:
        """The column in SQL."""
        return quoted(self.by_column[column])

    def key(self, target: Target) -> str:
        """The key's columns in SQL."""
        return ", ".join(self.column(name) for name in target.schema.key)
