"""Which transactions a snapshot shows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from journal.batch import Mask


class Visible:
    """A snapshot as pg_current_snapshot() writes it: `xmin:xmax:xip,…`, in 64-bit transaction ids.

    The log has 32-bit ids, which wrap around; the 64-bit one that is meant is the one nearest to xmax, because ids that are in use
    at one time are less than 2^31 apart.
    """

    def __init__(self, text: str) -> None:
        lowest, after, running = text.split(":")
        self._xmin, self._xmax = int(lowest), int(after)
        self._running = np.array([int(xid) for xid in running.split(",") if xid], np.int64)

    def sees(self, xids: npt.NDArray[np.uint32]) -> Mask:
        """bool[n]: the transaction, given by its topmost id, had committed (or ended otherwise) when the snapshot was taken."""
        distance = (xids - np.uint32(self._xmax & 0xFFFFFFFF)).astype(np.int32)
        full = self._xmax + distance.astype(np.int64)
        seen: Mask = full < self._xmax
        if self._running.size:
            seen &= (full < self._xmin) | ~np.isin(full, self._running)
        return seen

    def unseen(self, xids: Iterable[int]) -> set[int]:
        """Those which it does not show."""
        given = np.fromiter(xids, np.uint32)
        return set(given[~self.sees(given)].tolist())
