"""What single sinks refused, as reports ask for it: causes, and what came and went by stretches of time. Answers of one query each."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from journal.quarantine import UNRESOLVED
from journal.state_access import StateAccess
from journal.trends import Flow, Group, Place, TimeGrid, count_flow, flow_query

# a refused row counts once its sink has committed what came with it
SETTLED = """(select refused.* from refused join sink on sink.name = refused.sink and substr(sink.journal, 1, 8) = refused.journal
    and refused.seq <= sink.seq where refused.sink in (select value from json_each(:sinks)))"""
"""Rows that count, of the sinks `:sinks` (JSON)."""


@dataclass(slots=True)
class Changes:
    """Changes, each once however many sinks refused it: how many were `refused`, which count where the first did, and how many of them
    were `released` to all of these since, which count where the last was."""

    refused: int = 0
    released: int = 0


class Refusals(StateAccess):
    """What sinks of a pipeline refused; of others nothing is told. Raises as StateAccess does."""

    def flows(self, sinks: Collection[str], grid: TimeGrid) -> dict[str, dict[str, dict[Place, Flow]]]:
        """Dataset -> sink -> place -> what the sink refused then, and what of it came to an end then."""
        found: dict[str, dict[str, dict[Place, Flow]]] = {}
        for row in self._asked(flow_query(SETTLED, grid, "dataset, sink"), sinks):
            dataset, sink, place, *line = row
            places = found.setdefault(dataset, {}).setdefault(sink, {})
            count_flow(places.setdefault(grid.place(place), Flow()), *line)
        return found

    def changes(self, sinks: Collection[str], grid: TimeGrid) -> dict[str, dict[Place, Changes]]:
        """Dataset -> place -> the changes that were refused then by one sink or several, and those that were released then."""
        found: dict[str, dict[Place, Changes]] = {}
        for dataset, place, refused, released in self._asked(changes_query(grid), sinks):
            counted = found.setdefault(dataset, {}).setdefault(grid.place(place), Changes())
            counted.refused += refused
            counted.released += released
        return found

    def groups(self, sinks: Collection[str]) -> list[Group]:
        """The causes of what waits, the most frequent first."""
        query = f"""select cause, dataset, sink, status, count(*) as number, min(ordinal) as first, min(quarantined_at) as at
            from {SETTLED} where status in {UNRESOLVED} group by cause, dataset, sink, status"""
        found: dict[tuple[str, str, str], tuple[dict[str, int], int, float]] = {}
        for cause, dataset, sink, status, number, first, at in self._asked(query, sinks):
            statuses, first_before, at_before = found.get((cause, dataset, sink), ({}, first, at))
            statuses[status] = number
            found[cause, dataset, sink] = statuses, min(first_before, first), min(at_before, at)
        made = [Group(*names[:2], statuses, first, names[2], at) for names, (statuses, first, at) in found.items()]
        return sorted(made, key=lambda group: (-group.records, group.first))

    def _asked(self, query: str, sinks: Collection[str]) -> Sequence[Sequence[Any]]:
        if not sinks:
            return []
        return [tuple(row.values()) for row in self._read(sa.text(query).bindparams(sinks=json.dumps(list(sinks))))]


def changes_query(grid: TimeGrid) -> str:
    """Dataset, place, changes that were refused, and changes that were released; of the sinks `:sinks` (JSON)."""
    each = f"""select dataset, min(quarantined_at) as at, max(resolved_at) as released_at, min(status = 'resolved') as released
        from {SETTLED} group by dataset, journal, ordinal"""
    return f"""select dataset, {grid.sql("at")} as place, count(*) as refused, 0 as released from ({each}) group by 1, 2
        union all select dataset, {grid.sql("released_at")}, 0, count(*) from ({each}) where released group by 1, 2"""
