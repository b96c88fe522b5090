"""The SQL that writes into one table: from the parameters of a statement, a row each, or from a temporary table, all at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sinks.base import Target
from sinks.bookkeeping import DELETED_AT, POSITION, bookkeeping
from sinks.postgres_errors import MOST_COLUMNS
from sinks.postgres_schema import TargetSchema
from sinks.postgres_session import quoted


@dataclass(frozen=True)
class TableSql:
    """Statements for the table of a mirror with a key. `t` is the table, `s` what comes in.

    Only older rows are written over: a change that comes twice, or late, does nothing.
    """

    target: Target
    table: str
    types: tuple[str, ...]  # of the columns of the dataset, in the server's SQL
    number: int  # tells the temporary tables of a session apart

    @classmethod
    def of(cls, target: Target, schema: TargetSchema, number: int) -> TableSql:
        return cls(target, schema.qualified(target.table), tuple(schema.type(column.type) for column in target.schema.columns), number)

    @cached_property
    def soft(self) -> bool:
        return self.target.mode == "mirror" and self.target.on_delete == "soft"

    @cached_property
    def own(self) -> tuple[str, ...]:
        """Names of the columns that rows are written with, those of Sluice last."""
        return (*self.target.schema.names, *(column.name for column in bookkeeping(self.target)))

    @cached_property
    def own_types(self) -> tuple[str, ...]:
        return (*self.types, *(column.type for column in bookkeeping(self.target)))

    @cached_property
    def columns(self) -> str:
        return ", ".join(map(quoted, self.own))

    @cached_property
    def key(self) -> str:
        return ", ".join(map(quoted, self.target.schema.key))

    def keyed(self, left: str, right: str) -> str:
        """That two rows have the same key."""
        return " AND ".join(f"{left}.{quoted(name)} = {right}.{quoted(name)}" for name in self.target.schema.key)

    @cached_property
    def _older(self) -> str:
        return f"t.{quoted(POSITION)} < excluded.{quoted(POSITION)}"

    @cached_property
    def _over(self) -> str:
        """Puts a row over an older one, its key too: equal keys can be spelt differently."""
        sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in self.own)
        return f"ON CONFLICT ({self.key}) DO UPDATE SET {sets} WHERE {self._older}"

    # A row each, from parameters.

    @cached_property
    def upsert(self) -> str:
        """Parameters: the row."""
        return f"INSERT INTO {self.table} AS t ({self.columns}) VALUES ({_places(len(self.own))}) {self._over}"

    @cached_property
    def insert(self) -> str:
        """Parameters: the row. One that is there already is left alone."""
        return f"INSERT INTO {self.table} ({self.columns}) VALUES ({_places(len(self.own))}) ON CONFLICT DO NOTHING"

    def upsert_part(self, missing: Sequence[int]) -> str:
        """Parameters: the row. Where there is one its columns `missing` stay, unless it is softly deleted."""
        lost = {self.target.schema.names[c] for c in missing}
        sets = []
        for name in self.own:
            value = f"excluded.{quoted(name)}"
            if name in lost:
                if not self.soft:
                    continue
                value = f"CASE WHEN t.{quoted(DELETED_AT)} IS NULL THEN t.{quoted(name)} ELSE {value} END"
            sets.append(f"{quoted(name)} = {value}")
        conflict = f"ON CONFLICT ({self.key}) DO UPDATE SET {', '.join(sets)} WHERE {self._older}"
        return f"INSERT INTO {self.table} AS t ({self.columns}) VALUES ({_places(len(self.own))}) {conflict}"

    def update_part(self, missing: Sequence[int]) -> str:
        """Parameters: the row without its columns `missing`. Nothing happens where there is no such row."""
        lost = {self.target.schema.names[c] for c in missing}
        written = [name for name in self.own if name not in lost]
        sets = ", ".join(f"{quoted(name)} = ${written.index(name) + 1}" for name in written if name not in self.target.schema.key)
        found = " AND ".join(f"{quoted(name)} = ${written.index(name) + 1}" for name in self.target.schema.key)
        older = f"{quoted(POSITION)} < ${written.index(POSITION) + 1}"
        return f"UPDATE {self.table} SET {sets} WHERE {found} AND {older}{self._alive}"

    @cached_property
    def _alive(self) -> str:
        return f" AND {quoted(DELETED_AT)} IS NULL" if self.soft else ""

    @cached_property
    def _found(self) -> str:
        return " AND ".join(f"{quoted(name)} = ${i + 1}" for i, name in enumerate(self.target.schema.key))

    @cached_property
    def exists(self) -> str:
        """Parameters: the key."""
        return f"SELECT 1 FROM {self.table} WHERE {self._found}{self._alive}"

    @cached_property
    def delete(self) -> str:
        """Parameters: the key, the position."""
        return f"DELETE FROM {self.table} WHERE {self._found} AND {quoted(POSITION)} < ${len(self.target.schema.key) + 1}"

    @cached_property
    def mark(self) -> str:
        """Parameters: the key, the position, the time. What is softly deleted already keeps its time."""
        k = len(self.target.schema.key)
        sets = f"{quoted(DELETED_AT)} = coalesce({quoted(DELETED_AT)}, ${k + 2}), {quoted(POSITION)} = ${k + 1}"
        return f"UPDATE {self.table} SET {sets} WHERE {self._found} AND {quoted(POSITION)} < ${k + 1}"

    # All at once, from temporary tables. `_m` tells which of the missing columns a row misses, one bit each.

    @cached_property
    def rows_table(self) -> str:
        return f"pg_temp._sluice_rows_{self.number}"

    @cached_property
    def keys_table(self) -> str:
        return f"pg_temp._sluice_keys_{self.number}"

    @property
    def stages_parts(self) -> bool:
        """Whether a temporary table can hold a row and what it misses."""
        return len(self.own) < MOST_COLUMNS

    @cached_property
    def rows_columns(self) -> str:
        parts = ["_m bit varying"] if self.stages_parts else []
        return ", ".join([*(f"{quoted(n)} {kind}" for n, kind in zip(self.own, self.own_types, strict=True)), *parts])

    @cached_property
    def keys_columns(self) -> str:
        types = dict(zip(self.target.schema.names, self.types, strict=True))
        key = [f"{quoted(name)} {types[name]}" for name in self.target.schema.key]
        return ", ".join([*key, f"{quoted(POSITION)} bigint", f"{quoted(DELETED_AT)} timestamptz"])

    @cached_property
    def keys_names(self) -> str:
        return ", ".join(map(quoted, (*self.target.schema.key, POSITION, DELETED_AT)))

    def _between(self, alias: str) -> str:
        return f"{alias}.{quoted(POSITION)} BETWEEN $1 AND $2"

    @cached_property
    def upsert_staged(self) -> str:
        """Parameters, here and below: the lowest and the highest position that are meant."""
        whole = " AND s._m IS NULL" if self.stages_parts else ""
        chosen = f"SELECT {self.columns} FROM {self.rows_table} s WHERE {self._between('s')}{whole}"
        return f"INSERT INTO {self.table} AS t ({self.columns}) {chosen} {self._over}"

    @cached_property
    def insert_staged(self) -> str:
        chosen = f"SELECT {self.columns} FROM {self.rows_table} s WHERE {self._between('s')}"
        return f"INSERT INTO {self.table} ({self.columns}) {chosen} ON CONFLICT DO NOTHING"

    def update_staged(self, missing: Sequence[int]) -> str:
        """Bit i of `_m` stands for the column missing[i]."""
        bit = {self.target.schema.names[c]: i for i, c in enumerate(missing)}
        sets = []
        for name in self.own:
            if name in self.target.schema.key:
                continue
            value = f"s.{quoted(name)}"
            if name in bit:
                value = f"CASE WHEN get_bit(s._m, {bit[name]}) = 1 THEN t.{quoted(name)} ELSE {value} END"
            sets.append(f"{quoted(name)} = {value}")
        alive = f" AND t.{quoted(DELETED_AT)} IS NULL" if self.soft else ""
        older = f"t.{quoted(POSITION)} < s.{quoted(POSITION)}"
        return (
            f"UPDATE {self.table} t SET {', '.join(sets)} FROM {self.rows_table} s"
            f" WHERE {self.keyed('t', 's')} AND {older} AND s._m IS NOT NULL AND {self._between('s')}{alive}"
        )

    @cached_property
    def lacking_staged(self) -> str:
        """The positions of staged rows with something missing of which the table has no row to continue. No parameters."""
        alive = f" AND t.{quoted(DELETED_AT)} IS NULL" if self.soft else ""
        lacks = f"NOT EXISTS (SELECT 1 FROM {self.table} t WHERE {self.keyed('t', 's')}{alive})"
        return f"SELECT s.{quoted(POSITION)} FROM {self.rows_table} s WHERE s._m IS NOT NULL AND {lacks}"

    @cached_property
    def delete_staged(self) -> str:
        older = f"t.{quoted(POSITION)} < s.{quoted(POSITION)}"
        return f"DELETE FROM {self.table} t USING {self.keys_table} s WHERE {self.keyed('t', 's')} AND {older} AND {self._between('s')}"

    @cached_property
    def mark_staged(self) -> str:
        sets = f"{quoted(DELETED_AT)} = coalesce(t.{quoted(DELETED_AT)}, s.{quoted(DELETED_AT)}), {quoted(POSITION)} = s.{quoted(POSITION)}"
        older = f"t.{quoted(POSITION)} < s.{quoted(POSITION)}"
        return (
            f"UPDATE {self.table} t SET {sets} FROM {self.keys_table} s WHERE {self.keyed('t', 's')} AND {older} AND {self._between('s')}"
        )

    # What the table holds.

    def given(self, names: Sequence[str], first: int = 1, more: str = "") -> str:
        """FROM item `k`: keys given as arrays of text, from parameter `first` on, each with its place `n`, from 1."""
        places = ", ".join(f"${first + i}::text[]" for i in range(len(names))) + (f", {more}" if more else "")
        listed = ", ".join(f"k{i}" for i in range(len(names))) + (", p" if more else "")
        return f"unnest({places}) WITH ORDINALITY AS k ({listed}, n)"

    def same(self, alias: str, names: Sequence[str]) -> str:
        """That the row `alias` has the key that is given in `k`."""
        types = dict(zip(self.target.schema.names, self.types, strict=True))
        return " AND ".join(f"{alias}.{quoted(name)} = k.k{i}::{_comparable(types[name])}" for i, name in enumerate(names))

    def lookup(self, columns: Sequence[int]) -> str:
        """Parameters: an array of text for each key column. Gives the place of each key that is there, from 1, and the columns."""
        listed = "".join(f", t.{quoted(self.target.schema.names[c])}" for c in columns)
        key = self.target.schema.key
        alive = f" AND t.{quoted(DELETED_AT)} IS NULL" if self.soft else ""
        return f"SELECT k.n{listed} FROM {self.given(key)} JOIN {self.table} t ON {self.same('t', key)}{alive}"


def _comparable(kind: str) -> str:
    """The type without its length, to which a text is cast without being cut."""
    bare = re.sub(r"\([^)]*\)", "", kind)
    return {"character": "bpchar", "character[]": "bpchar[]", "bit": "varbit", "bit[]": "varbit[]"}.get(bare, bare)


def _places(n: int) -> str:
    return ", ".join(f"${i + 1}" for i in range(n))
