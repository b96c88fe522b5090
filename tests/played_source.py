"""The end of an ingest whose source a test plays: what puts its segments into a journal."""

from __future__ import annotations

from typing import Any, cast

from dataflows.ingest import IngestState, JournalStep
from dataflows.judging import Judge
from dataflows.observe import IngestMetrics
from journal.bell import Ringer
from journal.local import JournalWriter
from sources.base import Source


class _Played:
    """The one thing that a journal asks of a source that it has heard all of."""

    def confirm(self, watermark: str) -> None:
        """Nothing is kept back."""


def journal_step(source: str, journal: JournalWriter, judge: Judge, ringer: Ringer, **remembered: Any) -> JournalStep:
    """For a source whose copies nobody asks for. `remembered` are lookups, versions and earlier values, where a pipeline has them."""
    return JournalStep(
        journal,
        judge,
        {source: cast(Source, _Played())},
        IngestState(),
        IngestMetrics(),
        ringer,
        copy_requested=lambda sink, copy: None,
        copy_done=lambda sink, copy, when: None,
        copy_name=lambda source, table: table,
        **remembered,
    )
