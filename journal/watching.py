"""What the process `watch` says of what it does again and again."""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from journal import state_file as tables
from journal.state_access import StateAccess


@dataclass(frozen=True, slots=True)
class TickReport:
    """How something did that is done again and again: it is `waiting` for its time, `working`, or `failing`, with the error of its last
    time. `ran_at` (seconds since 1970) is when it was last done with, which took so many `seconds`; None where it never was."""

    name: str
    state: str
    error: str | None
    ran_at: float | None
    seconds: float | None
    updated_at: float


class Watching(StateAccess):
    """The reports of the process `watch`."""

    def told(self, name: str, state: str, error: str | None = None, *, ran_at: float | None = None, seconds: float | None = None) -> None:
        """How one of them does. Without `ran_at` what was known of its last time stays."""
        values = {"state": state, "error": error, "updated_at": time.time()}
        if ran_at is not None:
            values |= {"ran_at": ran_at, "seconds": seconds}
        with self._writing() as connection:
            made = insert(tables.tick).values(name=name, **values)
            connection.execute(made.on_conflict_do_update(index_elements=["name"], set_=values))

    def ticks(self) -> dict[str, TickReport]:
        """The last report of each, by name."""
        if not self._has(tables.tick):
            return {}
        return {row["name"]: TickReport(**row) for row in self._read(sa.select(tables.tick).order_by(tables.tick.c.name))}
