"""What the catalogue says of one table: plain data, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from journal.schema import Column, TableSchema
from pipeline.names import join_name

DEFAULT, NOTHING, FULL, INDEX = "d", "n", "f", "i"  # pg_class.relreplident


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column, or the place of one that was dropped.

    type      resolved for readers that have only built-in types, see journal.schema.Column
    written   the type as this server reads it, for casts
    missing   text that rows from before the column hold (pg_attribute.attmissingval)
    computed  rows from before the column may hold what the catalogue does not tell
    """

    attnum: int
    name: str
    oid: int
    typmod: int
    type: str
    written: str
    nullable: bool
    dropped: bool
    generated: str  # "", "s" (stored) or "v" (virtual)
    missing: str | None
    computed: bool
    selectable: bool

    @property
    def column(self) -> Column:
        return Column(self.name, self.type, self.attnum, self.nullable, self.missing)


@dataclass(frozen=True, slots=True)
class Table:
    """A table or partitioned root, and how the publication has it.

    primary, indexed  columns of the primary key, and of the replica identity's index, in its order; a deferrable primary key is none: it
                      is no replica identity, and two rows can have the same key in the middle of a transaction
    partition         a part of another table, which is what the pipeline means
    published         names of the published columns; None where the publication does not have the table
    filter            the publication's row filter, as SQL
    storage           changes when the table is rewritten
    """

    oid: int
    schema: str
    name: str
    kind: str  # "r" table, "p" partitioned root, "f" foreign
    persistence: str  # "p" permanent, "u" unlogged
    identity: str
    owner: str
    owned: bool
    reachable: bool  # USAGE on its schema
    hides_rows: bool  # row-level security applies to us
    attributes: tuple[Attribute, ...]
    primary: tuple[str, ...]
    indexed: tuple[str, ...]
    storage: str
    partition: bool = False
    published: tuple[str, ...] | None = None
    filter: str | None = None

    @property
    def label(self) -> str:
        """The one name by which the source calls the table."""
        return join_name(self.schema, self.name)

    @property
    def sql(self) -> sql.Composable:
        return sql.Identifier(self.schema, self.name)

    @property
    def live(self) -> tuple[Attribute, ...]:
        return tuple(attribute for attribute in self.attributes if not attribute.dropped)

    def columns(self, generated: bool) -> tuple[Attribute, ...]:
        """What is copied and streamed: the published columns, or all of them while there is no publication.

        `generated`: the server publishes stored generated columns (from version 18 on). Before that, some versions list them as if.
        """
        kinds = ("", "s") if generated else ("",)
        chosen = self.published
        return tuple(a for a in self.live if a.generated in kinds and (chosen is None or a.name in chosen))

    @property
    def identifying(self) -> tuple[str, ...] | None:
        """Columns that old rows in the log carry; None where an UPDATE or DELETE would fail at the source."""
        if self.identity == FULL:
            return tuple(attribute.name for attribute in self.live)
        return (self.primary if self.identity == DEFAULT else self.indexed if self.identity == INDEX else ()) or None

    @property
    def key(self) -> tuple[str, ...]:
        """What identifies a row: the replica identity, or the primary key under REPLICA IDENTITY FULL; else nothing."""
        return self.primary if self.identity == FULL else self.identifying or ()

    def as_schema(self, dataset: str, key: tuple[str, ...], generated: bool) -> TableSchema:
        """The table as it is now. `key` is what the pipeline file says, if anything."""
        columns = tuple(attribute.column for attribute in self.columns(generated))
        names = {column.name for column in columns}
        chosen = key or self.key
        return TableSchema(dataset, columns, chosen if names.issuperset(chosen) else ())
