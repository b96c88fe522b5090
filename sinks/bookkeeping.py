"""The columns that a sink table has beside those of its dataset, and the tables that a sink keeps for itself."""

from __future__ import annotations

from journal.schema import Column
from pipeline.errors import SinkShapeError
from sinks.base import Target
from sinks.history import COMMITTED_AT, OLD_KEY, OP
from sinks.row_hash import ROW

POSITION = "_sluice_position"
DELETED_AT = "_sluice_deleted_at"
CURSORS = "_sluice_cursor"
TABLES = "_sluice_tables"


def workers_place(sink: str, worker: int | None = None) -> str:
    """What the cursor of a worker, other than the first, stands under; or what all of these begin with."""
    return f"{sink}/" if worker is None else f"{sink}/{worker}"


def bookkeeping(target: Target) -> tuple[Column, ...]:
    """The columns (in Postgres' types) that follow those of the dataset."""
    row = () if target.schema.key else (Column(ROW, "text"),)
    if target.mode == "history":
        told = (Column(OP, "text", nullable=False), Column(OLD_KEY, "jsonb"))
        return (*told, *row, Column(POSITION, "bigint", nullable=False), Column(COMMITTED_AT, "timestamp with time zone"))
    deleted = (Column(DELETED_AT, "timestamp with time zone"),) if target.on_delete == "soft" else ()
    return (*row, Column(POSITION, "bigint", nullable=False), *deleted)


def check_names(target: Target) -> None:
    """Raises SinkShapeError for a dataset whose columns, or whose table, have names that Sluice needs itself."""
    own = {column.name for column in bookkeeping(target)}
    taken = [name for name in target.schema.names if name in own]
    if taken:
        raise SinkShapeError(
            f"the column {taken[0]!r} of dataset {target.dataset} has the name of a column that every sink table gets",
            hint="rename it at the source, or leave it out of this sink with `drop`",
        )
    if target.table in (CURSORS, TABLES):
        raise SinkShapeError(
            f"the dataset {target.dataset} cannot go into a table named {target.table!r}, which Sluice keeps for itself",
            hint="give it another name with `table`",
        )
