"""One table of a DuckDB sink: what can be done to its rows, all at once, from Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, Longs, Mask, Op
from journal.types import duckdb_type
from sinks.base import RefusedRow, Target
from sinks.bookkeeping import POSITION
from sinks.duckdb_ddl import has_key
from sinks.duckdb_names import Names
from sinks.duckdb_session import Session, quoted
from sinks.duckdb_values import incoming, refusal, taken

_CASTS = ("UUID", "JSON", "TIME")


class Table:
    """A table within the open transaction.

    keyless  it has no primary key (yet), so nothing but looking prevents that a key is there twice
    filling  a first copy fills it: what is copied cannot be there
    """

    def __init__(self, session: Session, target: Target, keyless: bool = False, filling: bool = False) -> None:
        self.session = session
        self.target = target
        self.names = Names.of(target)
        self.name = quoted(target.table)
        self.keyless = keyless
        self.filling = filling
        self.kinds = tuple(column.type for column in target.schema.columns)
        self.key_kinds = tuple(self.kinds[k] for k in target.schema.key_indices)
        self._newest: int | None = None

    @property
    def newest(self) -> int:
        """No row has a higher position; -1 for an empty table."""
        if self._newest is None:
            found = self.session.rows(f"SELECT max({quoted(POSITION)}) FROM {self.name}")[0][0]
            self._newest = -1 if found is None else int(found)
        return self._newest

    def seen(self, position: int) -> None:
        """A row of this position was written."""
        if self._newest is not None:
            self._newest = max(self._newest, position)

    def same(self, left: str, right: str) -> str:
        """That the row `left` of the table has the key that came in as the columns k0, k1, … of `right`."""
        return " AND ".join(
            f"{left}.{self.names.column(name)} = {taken(kind, f'{right}.k{i}')}"
            for i, (name, kind) in enumerate(zip(self.target.schema.key, self.key_kinds, strict=True))
        )

    def insert(self, columns: Sequence[pa.Array], position: Longs, own: Mapping[str, pa.Array], look: bool = False) -> None:
        """Adds rows: `columns` as they come in (see duckdb_values), `own` Sluice's other columns.

        With `look` only those that are not there: by their key in a mirror, else by their position.
        """
        rows = {f"c{c}": array for c, array in enumerate(columns)}
        rows |= {f"o{i}": array for i, array in enumerate(own.values())}
        rows["p"] = pa.array(position)
        into = [self.names.column(name) for name in self.target.schema.names] + [quoted(name) for name in own] + [quoted(POSITION)]
        values = [taken(kind, f"i.c{c}") for c, kind in enumerate(self.kinds)] + [f"i.o{i}" for i in range(len(own))] + ["i.p"]
        where = f" WHERE NOT EXISTS (SELECT 1 FROM {self.name} t WHERE {self._there()})" if look else ""
        self.session.execute(
            f"INSERT INTO {self.name} ({', '.join(into)}) SELECT {', '.join(values)} FROM rows_in i{where}", rows_in=pa.table(rows)
        )
        if len(position):
            self.seen(int(position.max()))

    def _there(self) -> str:
        if not has_key(self.target):
            return f"t.{quoted(POSITION)} = i.p"
        names = self.target.schema.names
        return " AND ".join(f"t.{self.names.column(names[k])} = {taken(self.kinds[k], f'i.c{k}')}" for k in self.target.schema.key_indices)

    def late(self, position: Longs) -> bool:
        """Whether any of the positions may be in the table already, or be older than what is."""
        return len(position) > 0 and int(position.min()) <= self.newest

    def remove(self, keys: Sequence[pa.Array], position: Longs) -> None:
        """Deletes the rows with these keys that are older than the positions."""
        rows = {f"k{i}": array for i, array in enumerate(keys)} | {"p": pa.array(position)}
        older = f"t.{quoted(POSITION)} < g.p" if self.late(position) else "true"
        self.session.execute(
            f"DELETE FROM {self.name} AS t USING keys_in AS g WHERE {self.same('t', 'g')} AND {older}", keys_in=pa.table(rows)
        )

    def truncate(self, position: int) -> None:
        """Deletes all rows that are older than `position`."""
        where = "" if self.newest < position else f" WHERE {quoted(POSITION)} < {position}"
        self.session.execute(f"DELETE FROM {self.name}{where}")

    def look_up(self, keys: Sequence[pa.Array], columns: Sequence[int], where: str) -> tuple[Mask, dict[int, pa.Array]]:
        """What the table holds under keys: bool[n], those that are there, and the given columns as `insert` takes them, null elsewhere."""
        n = len(keys[0])
        rows = {f"k{i}": array for i, array in enumerate(keys)} | {"n": pa.array(np.arange(n))}
        listed = "".join(f", {self.given_back(c, 't')} AS c{c}" for c in columns)
        found = self.session.table(
            f"SELECT g.n{listed} FROM keys_in g JOIN {self.name} t ON {self.same('t', 'g')}{where}", keys_in=pa.table(rows)
        )
        return spread(found, n, columns)

    def given_back(self, column: int, alias: str) -> str:
        """SQL for a column of the table as it would come in again."""
        expression = f"{alias}.{self.names.column(self.target.schema.names[column])}"
        return f"CAST({expression} AS VARCHAR)" if duckdb_type(self.kinds[column]) in _CASTS else expression

    def typed_key(self, keys: Sequence[pa.StringArray]) -> list[pa.Array]:
        """Keys as they come in. One that DuckDB cannot hold is null: no row of the table has it."""
        return incoming(self.key_kinds, keys)[0]

    def sound(self, batch: ChangeBatch, leaving: Longs) -> tuple[ChangeBatch, Longs, Longs, list[pa.Array] | None, list[RefusedRow]]:
        """The batch without rows that the table cannot hold: (batch, leaving, places of its rows, its columns as they come in, refused).

        The columns are None where rows were taken out. What is deleted or leaves needs to fit nowhere.
        """
        columns, bad = incoming(self.kinds, batch.columns)
        written = np.isin(batch.op, (Op.INSERT, Op.UPDATE, Op.READ))
        written[leaving] = False
        wrong: dict[int, RefusedRow] = {}
        for c, mask in bad.items():
            for row in np.flatnonzero(mask & written):
                wrong.setdefault(int(row), RefusedRow(int(row), self.target.schema.names[c], refusal(self.kinds[c])))
        if not wrong:
            return batch, leaving, np.arange(len(batch)), columns, []
        good = np.ones(len(batch), np.bool_)
        good[list(wrong)] = False
        away = np.zeros(len(batch), np.bool_)
        away[leaving] = True
        return batch.take(good), np.flatnonzero(away[good]), np.flatnonzero(good), None, [wrong[row] for row in sorted(wrong)]


def spread(found: pa.Table, n: int, columns: Sequence[int]) -> tuple[Mask, dict[int, pa.Array]]:
    """A relation with the places `n` and the columns c… of those rows that were found, as masks and columns of n rows."""
    places = found["n"].to_numpy()
    held = np.zeros(n, np.bool_)
    held[places] = True
    at = np.full(n, -1, np.int64)
    at[places] = np.arange(len(places))
    index = pa.array(at, mask=~held)
    return held, {c: whole_array(found[f"c{c}"]).take(index) for c in columns}


def whole_array(column: pa.ChunkedArray) -> pa.Array:
    """A column of a table as one array."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def chosen(mask: Mask, values: pa.Array, others: pa.Array) -> pa.Array:
    """`values` where the mask is set, else `others`; of the type of the latter."""
    return pc.if_else(pa.array(mask), values.cast(others.type), others)


def placed(refused: Sequence[RefusedRow], index: Longs) -> list[RefusedRow]:
    """Refusals of rows that stand for the rows `index` of a batch."""
    return [replace(one, row=int(index[one.row])) for one in refused]
