"""How far the sinks of a pipeline are, as the state on disk tells it."""

from __future__ import annotations

from journal.state import SinkProgress
from sinks.base import Counts, Cursor


def cursor_of(progress: SinkProgress | None) -> Cursor | None:
    """What the sink's target held when it was last told; None while nothing is known."""
    return None if progress is None or progress.cursor is None else Cursor.decode(progress.cursor)


def counts_of(progress: SinkProgress | None, dataset: str) -> Counts:
    """What a sink has settled of a dataset."""
    cursor = cursor_of(progress)
    return Counts() if cursor is None else cursor.counts.get(dataset, Counts())
