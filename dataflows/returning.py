"""Rows that one sink refused and that come back to it: what its process makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dataflows.records import REFUSED
from journal.batch import ChangeBatch, CopyMarker
from journal.quarantine import QuarantineRecord, Reason
from journal.returns import Outcome, RefusedKeys, Returns
from sinks.base import RefusedRow
from sinks.routing import Routed

Rows = Mapping[int, str]
"""Row of a batch -> the id of the record that it comes back for."""


class Returning:
    """Of one sink. What it notes is durable before the target commits, and comes to the same when it is noted again."""

    def __init__(self, returns: Returns, sink: str) -> None:
        self._returns = returns
        self._sink = sink
        self._keys = RefusedKeys(returns, sink)

    def open(self) -> None:
        """The sink goes on from what its target holds."""
        self._keys.load()

    def rows(self, batch: ChangeBatch) -> Rows:
        """Which rows of a batch come back."""
        if batch.sink is None:
            return {}
        found = self._returns.under_way(self._sink, batch.ordinal.tolist())
        return {row: found[ordinal] for row, ordinal in enumerate(batch.ordinal.tolist()) if ordinal in found}

    def still_new(self, batch: ChangeBatch, back: Rows) -> tuple[ChangeBatch, Rows]:
        """The batch without those rows that come back too late: a newer change of their key has been written since."""
        late = self._keys.overtaken(batch, back.keys()) if back else set()
        if not late:
            return batch, back
        self._returns.became({back[row]: Outcome("superseded") for row in late})
        kept = np.ones(len(batch), np.bool_)
        kept[sorted(late)] = False
        places = np.cumsum(kept) - 1
        return batch.take(kept), {int(places[row]): name for row, name in back.items() if row not in late}

    def became(self, back: Rows, routed: Routed, refused: Sequence[RefusedRow]) -> tuple[int, int]:
        """Notes what became of the rows. Returns how many of them were delivered, and how many filtered."""
        again = {one.row: one for one in refused}
        leaving = set(routed.rows[routed.leaving].tolist())
        there = set(routed.rows.tolist()) - leaving
        outcomes: dict[str, Outcome] = {}
        for row, name in back.items():
            if row in again:
                one = again[row]
                outcomes[name] = Outcome(
                    "refused", Reason(REFUSED, one.column, f"the sink {self._sink} cannot hold it: {one.message}", None)
                )
            else:
                outcomes[name] = Outcome("resolved" if row in there else "filtered")
        self._returns.became(outcomes)
        found = [one.what for one in outcomes.values()]
        return found.count("resolved"), found.count("filtered")

    def refused(self, records: Sequence[QuarantineRecord]) -> None:
        """Rows that are refused for the first time."""
        self._keys.add(records)

    def written(self, batch: ChangeBatch, but: Sequence[RefusedRow]) -> None:
        """The sink has written a batch, or turned rows of it away, but for those that it refused."""
        if but:
            kept = np.ones(len(batch), np.bool_)
            kept[[one.row for one in but]] = False
            batch = batch.take(kept)
        self._keys.written(batch)

    def marked(self, marker: CopyMarker) -> None:
        """A copy has come to its end: rows that it did not bring are gone."""
        if marker.phase == "end":
            self._keys.swept(marker.dataset, marker.ordinal)
