"""The replication slot: what the server says of it, whether it can serve the journal, and how it is made."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
from psycopg import sql

from pipeline.errors import SlotLostError
from sources.postgres.position import Watermark, lsn_number, lsn_text
from sources.postgres.session import Connection, Place, Server, command, place_of

log = structlog.get_logger("sluice.postgres")

RESYNC = "`sluice resync FILE` says what a new copy would do, and does it with --yes"

_SLOT = """
SELECT slot_name, plugin, slot_type, database, temporary, active_pid, confirmed_flush_lsn, wal_status, safe_wal_size,
       to_jsonb(s) ->> 'invalidation_reason', coalesce((to_jsonb(s) ->> 'conflicting')::boolean, false)
FROM pg_replication_slots s WHERE slot_name = %s
"""
_OLD_TRANSACTIONS = """
SELECT a.pid, a.usename, a.application_name, a.xact_start
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'transactionid' AND l.granted AND a.pid <> pg_backend_pid() AND a.datid IS NOT NULL
ORDER BY a.xact_start NULLS LAST LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as pg_replication_slots shows it; `confirmed` is None for a physical one."""

    name: str
    plugin: str | None
    kind: str
    database: str | None
    temporary: bool
    active_pid: int | None
    confirmed: int | None
    wal_status: str | None
    safe_wal_size: int | None
    invalid: str | None

    @property
    def lost(self) -> str | None:
        """Why the slot can't be read from any more."""
        if self.invalid is not None:
            return self.invalid
        return "the log that it needs has been removed" if self.wal_status == "lost" else None


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server this is: the system identifier, the timeline, and the history of the timeline (its parents, and where each ended)."""

    system: str
    timeline: int
    flushed: int
    parents: tuple[tuple[int, int], ...] = ()


def read_slot(connection: Connection, name: str) -> Slot | None:
    """The slot of that name, if there is one."""
    row = connection.execute(_SLOT, [name]).fetchone()
    if row is None:
        return None
    slot, plugin, kind, database, temporary, pid, confirmed, wal_status, safe, reason, conflicting = row
    invalid = reason or ("it conflicts with recovery" if conflicting else None)
    return Slot(
        slot, plugin, kind, database, temporary, pid, None if confirmed is None else lsn_number(confirmed), wal_status, safe, invalid
    )


def read_identity(replication: Connection) -> Identity:
    """Over a session for replication."""
    row = command(replication, "IDENTIFY_SYSTEM")[0]
    timeline = int(row["timeline"] or 0)
    parents: tuple[tuple[int, int], ...] = ()
    if timeline > 1:
        parents = timeline_parents(command(replication, f"TIMELINE_HISTORY {timeline}")[0]["content"] or "")
    return Identity(row["systemid"] or "", timeline, lsn_number(row["xlogpos"] or "0/0"), parents)


def timeline_parents(history: str) -> tuple[tuple[int, int], ...]:
    """Each parent timeline and the position where it was left, from the content of a .history file."""
    lines = (line.split("#")[0].split("\t") for line in history.splitlines())
    return tuple((int(words[0]), lsn_number(words[1].strip())) for words in lines if len(words) >= 2 and words[0].strip().isdigit())


def check_resumable(slot: Slot | None, name: str, identity: Identity, watermark: Watermark) -> None:
    """Whether the slot still holds all that comes after the watermark. Raises SlotLostError: what is missing only a new copy brings."""
    why = _not_resumable(slot, name, identity, watermark)
    if why is not None:
        raise SlotLostError(why, hint=RESYNC)


def _not_resumable(slot: Slot | None, name: str, identity: Identity, watermark: Watermark) -> str | None:
    at = lsn_text(watermark.lsn)
    if identity.system != watermark.system:
        return f"this is another server (system {identity.system}) than the journal comes from ({watermark.system})"
    if name != watermark.slot:
        return f"the journal was read through the slot {watermark.slot}, and the pipeline now names {name}"
    if slot is None:
        return f"the slot {name} is gone: changes after {at} may be lost"
    if slot.lost is not None:
        return f"the slot {name} cannot be read any more ({slot.lost}): changes after {at} are lost"
    if slot.confirmed is not None and slot.confirmed > watermark.lsn:
        return f"the slot {name} stands at {lsn_text(slot.confirmed)}, beyond {at} where the journal ends: made again, or read by another"
    left = next((end for timeline, end in identity.parents if timeline == watermark.timeline), None)
    if identity.timeline != watermark.timeline and (left is None or watermark.lsn > left):
        return (
            f"the server is on timeline {identity.timeline}, which does not go through {at} of timeline {watermark.timeline}: a failover?"
        )
    if watermark.lsn > identity.flushed:
        return f"the server's log ends at {lsn_text(identity.flushed)}, before {at} which the journal holds: was it restored from a backup?"
    return None


class Intention:
    """A note in the state folder that a slot is being made, kept until the journal holds its position.

    A slot that is there together with the note, while the journal holds nothing, was left by a start that died: it is made again.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self._path = folder / f"slot-{source}.json"

    def write(self, slot: str, system: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps({"slot": slot, "system": system}))

    def holds(self, slot: str, system: str) -> bool:
        try:
            return bool(json.loads(self._path.read_text()) == {"slot": slot, "system": system})
        except (FileNotFoundError, json.JSONDecodeError):
            return False

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A new slot's consistent point, and the exported snapshot that shows just what was committed before it.

    The snapshot lives as long as `session`, which must not be used meanwhile, and on its server only.
    """

    lsn: int
    name: str
    session: Connection
    place: Place


def creation(name: str, version: int) -> str:
    """The replication command that makes a slot and exports its snapshot."""
    options = "(SNAPSHOT 'export')" if version >= 150000 else "EXPORT_SNAPSHOT"
    return f"CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput {options}"


def create(server: Server, watch: Connection, name: str, go_on: Callable[[], None]) -> Snapshot:
    """Makes the slot. The server first waits for every transaction that is open now; which one, is logged.

    `go_on` is called now and then, and ends the wait by raising. Raises Refused or TransientError.
    """
    session = server.connect_for_replication()
    told = 0.0

    def waiting(seconds: float) -> None:
        nonlocal told
        go_on()
        if seconds - told >= (1.0 if told == 0.0 else 10.0):
            told = seconds
            log.warning("making the slot waits for open transactions", slot=name, seconds=round(seconds), oldest=_oldest(watch))

    try:
        with server.told():
            row = command(session, creation(name, session.info.server_version), waiting)[0]
    except BaseException:
        # left alone, the server would make the slot after all
        with contextlib.suppress(psycopg.Error):
            session.cancel_safe(timeout=2.0)
        session.close()
        raise
    return Snapshot(lsn_number(row["consistent_point"] or ""), row["snapshot_name"] or "", session, place_of(session))


def _oldest(watch: Connection) -> str:
    row = watch.execute(_OLD_TRANSACTIONS).fetchone()
    if row is None:
        return "a prepared transaction, or one that this user may not see"
    pid, user, application, since = row
    return (
        f"pid {pid}"
        + (f" of {user}" if user else "")
        + (f" ({application})" if application else "")
        + (f", since {since}" if since else "")
    )


def drop(server: Server, connection: Connection, name: str, go_on: Callable[[], None], patience: float = 20.0) -> None:
    """Drops the slot, once nobody reads from it. Raises what the server says when that takes longer than `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        slot = read_slot(connection, name)
        if slot is None:
            return
        if slot.active_pid is None or time.monotonic() > until:
            with server.told():
                connection.execute(dropping(name).encode())
            return
        go_on()
        time.sleep(0.1)


def dropping(name: str) -> str:
    """The statement that drops a slot."""
    return sql.SQL("SELECT pg_drop_replication_slot({})").format(sql.Literal(name)).as_string()
