"""What a Postgres server, or libpq, says went wrong, as one of our own errors.

The SQLSTATE decides, never the words, which are in the server's language. Only where libpq gives no SQLSTATE (a connection that
was refused) are the words looked at. Classes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re

from pipeline.errors import AlreadyRunningError, Refused, SlotLostError, SluiceError, TerminalError, TransientError

RESYNC = "changes may be missing: run `sluice resync` to copy again and go on with a new slot"

_AWAY = "is the server running, and does the dsn name the right host and port?"
_SLOT_ACTIVE = "55006"
_SLOT_GONE = {
    "55000": "the slot, or the publication, is not in a state to be read from",
    "42704": "the slot is gone, or the publication did not exist at this point of the log",
    "58P01": "the write-ahead log that the slot needs has been removed",
}
_HINTS = {
    "28P01": "check the password in the dsn, PGPASSWORD or the password file",
    "28000": "check the user, pg_hba.conf on the server, and that the user has REPLICATION",
    "3D000": "check the database in the dsn",
    "42501": "grant what is missing to the user of the dsn",
    "53300": "all connections, or all walsenders, are taken: raise max_connections or max_wal_senders",
    "53400": "raise max_replication_slots, or drop a slot that nobody uses",
}
# Codes of these classes come from what was asked or from who asked it: the same question gets the same answer.
_FOR_GOOD = {"0A", "22", "23", "26", "28", "2B", "2F", "34", "3B", "3D", "3F", "42", "44", "55"}
_PASSING = {"55006", "55P03", "42P05"}

# libpq tells no SQLSTATE of a connection that the server turned down.
_TURNED_DOWN = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects|(role|database) \".*\" does not exist"
    r"|not permitted to log in|permission denied|must be superuser or replication|certificate|server does not support SSL"
    r"|invalid (connection option|port|sslmode|value)|definition of service|password file",
    re.IGNORECASE,
)


def from_postgres(sqlstate: str | None, message: str, server: str, *, slot: str | None = None) -> SluiceError:
    """The error that `sqlstate` stands for: Refused, TransientError, AlreadyRunningError or, while a slot is being read, SlotLostError.

    `server` is what messages call it, without a password; `slot` names the slot that was being read. AlreadyRunningError (the slot is
    active) passes when the other session ends, which for one whose network broke takes the server up to wal_sender_timeout: try
    again for that long.
    """
    said = f"{server}: {' '.join(message.split())}" + (f" (SQLSTATE {sqlstate})" if sqlstate else "")
    if sqlstate is None:
        turned_down = _TURNED_DOWN.search(message)
        return Refused(said, hint=_turned_down_hint(message)) if turned_down else TransientError(said, hint=_AWAY)
    if slot is not None and sqlstate == _SLOT_ACTIVE:
        return AlreadyRunningError(said, hint=f"another session reads slot {slot}; only one can")
    if slot is not None and sqlstate in _SLOT_GONE:
        return SlotLostError(said, hint=f"{_SLOT_GONE[sqlstate]}; {RESYNC}")
    if sqlstate[:2] in _FOR_GOOD and sqlstate not in _PASSING:
        return Refused(said, hint=_HINTS.get(sqlstate))
    return TransientError(said, hint=_HINTS.get(sqlstate))


def _turned_down_hint(message: str) -> str | None:
    if "authentication failed" in message or "no password supplied" in message:
        return _HINTS["28P01"]
    if "database" in message and "does not exist" in message:
        return _HINTS["3D000"]
    if "pg_hba.conf" in message or "replication" in message:
        return _HINTS["28000"]
    return None


def malformed(what: str) -> TerminalError:
    """Bytes that the replication protocol does not allow: reading on would be guessing."""
    return TerminalError(
        f"the replication stream cannot be understood: {what}",
        hint="is there a proxy between, or a server that is not Postgres 14 or later? Please report it otherwise",
    )
