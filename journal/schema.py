"""What a table looks like at one point of the stream."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    `type` is a Postgres type in the words of format_type(), resolved for a reader that has only built-in types: domains are
    their base type; enums, composites and ranges of one's own are `text`; types of extensions keep their bare name (`hstore`).
    `attnum` is the column's identity at its source, which survives a rename (0 where the source has none).
    `default` is the text that rows written before the column existed hold for it (pg_attribute.attmissingval); None is null.
    """

    name: str
    type: str
    attnum: int = 0
    nullable: bool = True
    default: str | None = None


@dataclass(frozen=True)
class TableSchema:
    """The columns of a dataset and which of them are its key.

    `key` names the columns that identify a row, in order: the replica identity, or the primary key under REPLICA IDENTITY FULL,
    or what the dataset says. Empty: rows have no identity, duplicates exist, and changes carry whole old rows.
    """

    dataset: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def types(self) -> dict[str, str]:
        return {column.name: column.type for column in self.columns}

    @cached_property
    def key_indices(self) -> tuple[int, ...]:
        return tuple(self.names.index(name) for name in self.key)

    def index(self, name: str) -> int:
        """The place of a column. Raises ValueError where there is none."""
        return self.names.index(name)

    def rename(self, dataset: str) -> TableSchema:
        return replace(self, dataset=dataset)

    @cached_property
    def encoded(self) -> str:
        """One line of JSON; equal schemas have equal text."""
        return json.dumps({"dataset": self.dataset, "key": self.key, "columns": [asdict(column) for column in self.columns]})

    @classmethod
    def decode(cls, text: str) -> TableSchema:
        found = json.loads(text)
        return cls(found["dataset"], tuple(Column(**column) for column in found["columns"]), tuple(found["key"]))
