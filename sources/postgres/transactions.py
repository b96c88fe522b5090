"""Which transaction each message belongs to: positions, times and ordinals of all rows of a stretch at once.

A change's position is the LSN of its commit record (Begin.final_lsn), under which transactions are in commit order; what is
acknowledged and resumed from is Commit.end_lsn. Neither is ever computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sources.postgres.changes import Position
from sources.postgres.errors import malformed
from sources.postgres.frames import Bytes, Longs, read_i8, read_u4

BEGIN, COMMIT = b"BC"
EPOCH = 946_684_800_000_000  # microseconds from 1970 to 2000, from which Postgres counts


@dataclass(frozen=True, slots=True)
class Transaction:
    """One that is being received; `changes` is how many of its changes have come so far."""

    xid: int
    lsn: int
    time: int
    changes: int = 0


def positions_within(transaction: Transaction, weights: Longs) -> tuple[Position, Transaction]:
    """Positions of rows that all belong to `transaction`. A row of weight w stands for w changes (a truncate of w tables)."""
    n = weights.size
    nth = transaction.changes + np.cumsum(weights) - weights
    position = Position(
        np.full(n, transaction.lsn, np.int64), nth, np.full(n, transaction.time, np.int64), np.full(n, transaction.xid, np.uint32)
    )
    changes = transaction.changes + int(weights.sum())
    return position, Transaction(transaction.xid, transaction.lsn, transaction.time, changes)


@dataclass(slots=True)
class Transactions:
    """Follows Begin and Commit from chunk to chunk."""

    open: Transaction | None = None

    def assign(self, a: Bytes, kind: Bytes, body: Longs, rows: Longs, weights: Longs) -> tuple[Position, int | None]:
        """Positions of the messages `rows` (indices into kind and body), and the end of the last transaction that ends here.

        Raises TerminalError for a change outside of a transaction, or one transaction inside another.
        """
        begins, commits = (kind == BEGIN).nonzero()[0], (kind == COMMIT).nonzero()[0]
        end = int(read_i8(a, body[commits[-1:]] + 10)[0]) if commits.size else None
        if not begins.size and not commits.size:
            if self.open is None:
                if rows.size:
                    raise malformed("a change outside of any transaction")
                return positions_within(Transaction(0, 0, 0), weights)[0], None
            position, self.open = positions_within(self.open, weights)
            return position, None

        carried = self.open is not None
        self._check_order(begins, commits, carried)
        carry = self.open or Transaction(0, 0, 0)
        at = body[begins]
        lsn = np.concatenate(([carry.lsn], read_i8(a, at + 1)))
        time = np.concatenate(([carry.time], read_i8(a, at + 9) + EPOCH))
        xid = np.concatenate(([carry.xid], read_u4(a, at + 17))).astype(np.uint32)
        which = np.searchsorted(begins, rows, side="right")
        ended = np.concatenate((commits, [kind.size])) if carried else np.concatenate(([-1], commits, [kind.size]))
        if (rows > ended[which]).any():
            raise malformed("a change outside of any transaction")
        before = np.cumsum(weights) - weights
        total = int(weights.sum())
        # How many changes came before each transaction's first one; the carried transaction's first ones came in earlier chunks.
        first = np.append(before, total)[np.searchsorted(rows, begins)]
        nth = before - np.concatenate(([-carry.changes], first))[which]
        if begins.size > commits.size - carried:
            self.open = Transaction(int(xid[-1]), int(lsn[-1]), int(time[-1]), total - int(first[-1]))
        else:
            self.open = None
        return Position(lsn[which], nth, time[which], xid[which]), end

    @staticmethod
    def _check_order(begins: Longs, commits: Longs, carried: bool) -> None:
        """Begin and Commit must take turns."""
        first, second = (commits, begins) if carried else (begins, commits)
        n = first.size - second.size
        if n not in (0, 1) or (first[: second.size] > second).any() or (second[: first.size - 1] > first[1 : second.size + 1]).any():
            raise malformed("one transaction begins inside another")
