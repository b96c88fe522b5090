"""Which datasets have values that are not for everybody: asked where a process has nothing else to do with contracts."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from dataflows.hidden import Hidden
from journal.quarantine import QuarantineRecord
from pipeline.model import Pipeline


class Sensitive:
    """The datasets of a pipeline of which a contract calls a column confidential or restricted: looked up whenever it is asked, which is
    seldom, as contracts come into force while a process runs.

    A contract that cannot be read may say so: its dataset counts as one.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def marked(self, records: Sequence[QuarantineRecord]) -> list[QuarantineRecord]:
        """The records, with whether they are sensitive. Raises JournalError for a journal that cannot be read."""
        hidden = Hidden(self._pipeline) if records else None
        return [structs.replace(one, sensitive=True) if hidden is not None and hidden.any(one.dataset) else one for one in records]
