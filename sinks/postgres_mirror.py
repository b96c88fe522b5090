"""Writing into a mirror table with a key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, Longs, Op
from sinks.base import RefusedRow, Target
from sinks.mirror import Net, lacking, settle
from sinks.postgres_copy import moments, params
from sinks.postgres_errors import UNIQUE_VIOLATION, RowRefused
from sinks.postgres_session import Command, Session
from sinks.postgres_sql import TableSql
from sinks.postgres_stage import Staging, copy_all, copy_rows, run_each, run_staged
from sinks.postgres_table import looked_up, refused_rows, truncate
from sinks.rows import Keys, Rows, joined

FEW = 128  # changes up to which a statement each, all in one round trip, is quicker than a temporary table
_COOL = 32  # batches for which COPY straight into the table is not tried after it met a row that was there


class MirrorWriter:
    """One table with a key, in one session."""

    def __init__(self, session: Session, staging: Staging, sql: TableSql) -> None:
        self._session = session
        self._staging = staging
        self._sql = sql
        self._target: Target = sql.target
        self._cooling = 0
        self._savepoint = False
        self._staged = False
        self.copying_again = False

    def write(self, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        """Writes a batch; see Sink.write."""
        if self._copied_straight(batch, leaving):
            return []
        self._staged = len(batch) > FEW
        if self._staged:
            self._staging.empty(self._sql.rows_table, self._sql.rows_columns)
            self._staging.empty(self._sql.keys_table, self._sql.keys_columns)
        refused = settle(self._target, batch, leaving, self._apply, self._undo)
        if self._savepoint:
            self._session.execute("RELEASE sluice_batch")
            self._savepoint = False
        return refused

    def _copied_straight(self, batch: ChangeBatch, leaving: Longs) -> bool:
        """COPY of rows that are all new, straight into the table; False, and nothing done, where they aren't or where one is refused."""
        fresh = (batch.op == Op.INSERT) | (batch.op == Op.READ)
        if len(batch) <= FEW or batch.presence or len(leaving) or not fresh.all() or self.copying_again:
            return False
        if self._cooling:
            self._cooling -= 1
            return False
        try:
            copy_all(self._session, self._sql.table, self._sql.columns, self._cells(batch.columns, batch.ordinal, None))
        except RowRefused as error:
            if error.sqlstate == UNIQUE_VIOLATION:
                self._cooling = _COOL
            return False
        return True

    def _cells(self, columns: Sequence[pa.Array], position: Longs, deleted: Longs | None) -> list[pa.Array]:
        """The columns of `TableSql.own`."""
        cells = [*columns, pa.array(position)]
        if self._sql.soft:
            cells.append(pa.nulls(len(position), pa.string()) if deleted is None else moments(deleted))
        return cells

    def _undo(self) -> None:
        self._session.execute("ROLLBACK TO sluice_batch")

    def _apply(self, net: Net) -> Sequence[RefusedRow]:
        if net.squashed and not self._savepoint:
            self._session.execute("SAVEPOINT sluice_batch")
            self._savepoint = True
        if net.truncate is not None:
            truncate(self._session, self._sql.table, net.truncate)
        moved, refused = self._filled(net.moved)
        whole = joined([net.whole, moved]) if len(moved) else net.whole
        if not self._staged:
            return refused + self._each(net.deletes, net.marked, whole, net.partial)
        refused += self._by_key(net.deletes, self._sql.delete_staged) if len(net.deletes) else []
        if len(net.marked):
            if len(net.deletes):
                self._staging.empty(self._sql.keys_table, self._sql.keys_columns)
            refused += self._by_key(net.marked, self._sql.mark_staged)
        refused += self._upserted(whole) if len(whole) else []
        if self._sql.stages_parts:
            return refused + (self._partly(net.partial) if len(net.partial) else [])
        nothing = Keys(np.empty(0, np.int64), (), np.empty(0, np.int64), np.empty(0, np.int64))
        return refused + self._each(nothing, nothing, whole.take(np.empty(0, np.int64)), net.partial)

    def _filled(self, rows: Rows) -> tuple[Rows, list[RefusedRow]]:
        """Rows that took another key, with what the table holds for them under the old one."""
        if not len(rows):
            return rows, []
        columns = sorted(rows.missing)
        found, values = looked_up(self._session, self._sql.lookup(columns), rows.base or (), columns)
        whole, lost = rows.filled(found, values)
        return whole, lacking(self._target, rows, lost)

    def _each(self, deletes: Keys, marked: Keys, whole: Rows, partial: Rows) -> list[RefusedRow]:
        """A statement for each row, all in one round trip."""
        commands = self._key_commands(self._sql.delete, deletes, timed=False)
        commands += self._key_commands(self._sql.mark, marked, timed=True)
        keys = len(commands)
        commands += self._row_commands(self._sql.upsert, whole, ())
        updates: dict[int, int] = {}  # place of the command -> row of `partial`
        again = partial.recallable
        for missing, at in partial.groups() if len(partial) else ():
            commands += self._row_commands(self._sql.upsert_part(missing), partial.take(at[again[at]]), ())
            only = at[~again[at]]
            updates |= {len(commands) + i: int(row) for i, row in enumerate(only)}
            commands += self._row_commands(self._sql.update_part(missing), partial.take(only), missing)
        counts, refusals = run_each(self._session, commands)
        # a key that the server cannot even read was never there
        refusals = [(at, error) for at, error in refusals if at >= keys or not error.sqlstate.startswith("22")]
        untouched = [row for place, row in updates.items() if counts[place] == 0]
        return refused_rows(refusals, [command.row for command in commands]) + self._check_lacking(partial, untouched)

    def _key_commands(self, statement: str, keys: Keys, timed: bool) -> list[Command]:
        if not len(keys):
            return []
        cells = [*keys.columns, pa.array(keys.position), *([moments(keys.time)] if timed else [])]
        return [Command(statement, values, int(row)) for values, row in zip(params(cells), keys.rows, strict=True)]

    def _row_commands(self, statement: str, rows: Rows, without: Sequence[int]) -> list[Command]:
        if not len(rows):
            return []
        cells = self._cells(rows.columns, rows.position, rows.deleted)
        cells = [cell for c, cell in enumerate(cells) if c not in without]
        return [Command(statement, values, int(row)) for values, row in zip(params(cells), rows.rows, strict=True)]

    def _check_lacking(self, rows: Rows, at: Sequence[int]) -> list[RefusedRow]:
        """Of rows that no update touched: those that the table lacks. It has newer ones of the others."""
        if not at:
            return []
        some = rows.take(np.array(at, np.int64))
        keys = [some.columns[k] for k in self._target.schema.key_indices]
        found, _ = looked_up(self._session, self._sql.lookup(()), keys, ())
        return lacking(self._target, some, np.flatnonzero(~found))

    def _by_key(self, keys: Keys, statement: str) -> list[RefusedRow]:
        """Deletes, or soft deletes, by way of a temporary table."""
        cells = [*keys.columns, pa.array(keys.position), moments(keys.time)]
        copy_rows(self._session, self._sql.keys_table, self._sql.keys_names, cells)  # a key that is refused is not in the table
        _, refusals = run_staged(self._session, statement, np.sort(keys.position))
        return refused_rows(refusals, keys.rows[np.argsort(keys.position)])

    def _upserted(self, rows: Rows) -> list[RefusedRow]:
        """Whole rows by way of a temporary table."""
        order, refused = self._staged_rows(rows, None)
        _, refusals = run_staged(self._session, self._sql.upsert_staged, rows.position[order])
        return refused + refused_rows(refusals, rows.rows[order])

    def _staged_rows(self, rows: Rows, masks: pa.StringArray | None) -> tuple[Longs, list[RefusedRow]]:
        """Copies rows into the temporary table; returns those that it took, in the order of their positions, and the others."""
        cells = [*self._cells(rows.columns, rows.position, rows.deleted), *([] if masks is None else [masks])]
        columns = self._sql.columns if masks is None else f"{self._sql.columns}, _m"
        refusals = copy_rows(self._session, self._sql.rows_table, columns, cells)
        kept = np.delete(np.arange(len(rows)), [row for row, _ in refusals])
        return kept[np.argsort(rows.position[kept])], refused_rows(refusals, rows.rows)

    def _partly(self, rows: Rows) -> list[RefusedRow]:
        """Rows with missing values by way of a temporary table."""
        missing = sorted(rows.missing)
        bits = [pa.array(np.where(rows.missing[c], "1", "0")) for c in missing]
        order, refused = self._staged_rows(rows, pc.binary_join_element_wise(*bits, ""))
        touched, refusals = run_staged(self._session, self._sql.update_staged(missing), rows.position[order])
        refused += refused_rows(refusals, rows.rows[order])
        return refused if touched == len(order) else refused + self._brought_back(rows)

    def _brought_back(self, rows: Rows) -> list[RefusedRow]:
        """Staged rows with missing values of which the table has no row to continue: what was read again has to do."""
        positions = np.array([int(position) for (position,) in self._session.rows(self._sql.lacking_staged)], np.int64)
        at = np.flatnonzero(np.isin(rows.position, positions))
        again = rows.recallable[at]
        back = rows.take(at[again]).forgetting()
        refused = lacking(self._target, rows, at[~again])
        if len(back):
            self._staging.empty(self._sql.rows_table, self._sql.rows_columns)
            refused += self._upserted(back)
        return refused
