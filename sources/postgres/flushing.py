"""A position of the log which everything that is committed now is before, and which the stream will reach."""

from __future__ import annotations

from sources.postgres.position import lsn_number
from sources.postgres.session import Connection

# A commit of our own, flushed: everything that committed before it is flushed too, also what did not wait for that.
_FLUSH = (
    "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE",
    "SET LOCAL synchronous_commit = local",
    "SELECT pg_logical_emit_message(true, 'sluice', '')",
    "COMMIT",
)


def flush(connection: Connection) -> int:
    """Walsender reads no further than the log is flushed, and an idle server may leave its end unflushed for long."""
    for statement in _FLUSH:
        connection.execute(statement.encode())
    row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None  # noqa: S101  (one row always)
    return lsn_number(row[0])
