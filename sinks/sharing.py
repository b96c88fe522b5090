"""How what a target holds is told by one cursor, and shared out among workers.

Every worker goes on from the least that any of them had, and passes over what the target has beyond that: so all of them know the same
copies under way, and their number may be another one each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from journal.lanes import Done
from sinks.base import Counts, Cursor


def whole(cursors: Sequence[Cursor]) -> Cursor:
    """What a target holds, of the cursors of all its workers, the first one's first."""
    first = cursors[0]
    if len(cursors) == 1:
        return first
    least = min(cursors, key=lambda cursor: cursor.seq)
    done = {Done(worker, len(cursors), cursor.seq) for worker, cursor in enumerate(cursors)}
    done.update(one for cursor in cursors for one in cursor.ahead)
    counts: dict[str, Counts] = {}
    for cursor in cursors:
        for name, one in cursor.counts.items():
            counts[name] = counts.get(name, Counts()).plus(one.delivered, one.filtered, one.quarantined)
    found = replace(first, counts=counts, waiting=least.waiting, begun=least.begun, ahead=tuple(sorted(done)))
    return found.at(least.seq)


def shared_out(cursor: Cursor, workers: int) -> list[Cursor]:
    """The cursor of each worker. What has been counted is the first one's."""
    others = replace(cursor, counts={}, of=workers)
    return [replace(cursor, of=workers), *([others] * (workers - 1))]
