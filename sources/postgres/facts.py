"""Looks at a server, changing nothing: all that preflight judges by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import Refused
from pipeline.names import join_name, nearest
from sources.postgres.catalogue import Publication, all_names, matching, read_publication, read_tables
from sources.postgres.patterns import TablePatterns
from sources.postgres.session import Connection, Server
from sources.postgres.slot import Identity, Slot, read_identity, read_slot
from sources.postgres.table import Table

_ROLE = """
SELECT current_user, r.rolsuper, r.rolreplication, current_database(), has_database_privilege(current_database(), 'CREATE'),
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication'),
       EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication' AND pg_has_role(g.oid, 'USAGE'))
FROM pg_roles r WHERE r.rolname = current_user
"""
_SERVER = """
SELECT current_setting('server_version'), current_setting('wal_level'), pg_is_in_recovery(),
       current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots),
       current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_get_wal_senders())
"""
_SETTINGS = """
SELECT name, CASE WHEN setting LIKE '-%' THEN -1 ELSE setting::bigint
       * CASE unit WHEN 'MB' THEN 1048576 WHEN 'kB' THEN 1024 WHEN 's' THEN 1000 WHEN 'min' THEN 60000 ELSE 1 END END
FROM pg_settings
WHERE name IN ('max_slot_wal_keep_size', 'wal_sender_timeout', 'logical_decoding_work_mem', 'idle_replication_slot_timeout')
"""
_OTHER_KINDS = """
SELECT c.relkind::text, c.relispartition, rn.nspname, r.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_class r ON r.oid = pg_partition_root(c.oid) LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
_KINDS = {"v": "a view", "m": "a materialized view", "S": "a sequence", "i": "an index", "c": "a type", "t": "a TOAST table"}


@dataclass(frozen=True, slots=True)
class Missing:
    """A table that is named and can't be had: `why`, and what may have been meant."""

    label: str
    why: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is. Sizes are bytes and times milliseconds in `settings`, which lacks what the server doesn't know (-1: no limit)."""

    version: int
    version_text: str
    wal_level: str
    standby: bool
    user: str
    superuser: bool
    replication: bool
    managed: bool  # the role rds_replication stands for the attribute
    database: str
    may_create: bool
    slots: int
    slots_used: int
    senders: int
    senders_used: int
    settings: Mapping[str, int]
    identity: Identity | None
    refused: Refused | None  # why there is no identity, where the server said it
    slot: Slot | None
    publication: Publication | None
    tables: Mapping[str, Table]
    missing: Sequence[Missing]

    @property
    def generated(self) -> bool:
        """Whether the server can publish stored generated columns."""
        return self.version >= 180000


def look(server: Server, connection: Connection, patterns: TablePatterns, slot: str, publication: str) -> Facts:
    """Raises Refused or TransientError."""
    with server.told():
        user, superuser, replicating, database, may_create, managed, member = _one(connection, _ROLE)
        version_text, wal_level, standby, slots, slots_used, senders, senders_used = _one(connection, _SERVER)
        settings: dict[str, int] = dict(connection.execute(_SETTINGS).fetchall())
        found = read_publication(connection, publication)
        tables = read_tables(connection, (match.oid for match in matching(connection, patterns)), found)
        labels = {table.label: table for table in tables.values()}
        known = read_slot(connection, slot)
        absent = [pair for pair in patterns.literals if join_name(*pair) not in labels]
        names = all_names(connection) if absent else []
        missing = [_missing(connection, schema, name, names) for schema, name in absent]
    may_replicate = superuser or replicating or member
    identity, refused = _identity(server) if may_replicate and wal_level == "logical" else (None, None)
    return Facts(
        connection.info.server_version, version_text, wal_level, standby, user, superuser, may_replicate, managed, database, may_create,
        slots, slots_used, senders, senders_used, settings, identity, refused, known, found, labels, missing,
    )  # fmt: skip


def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None  # noqa: S101  (these queries always have one)
    return row


def _identity(server: Server) -> tuple[Identity | None, Refused | None]:
    try:
        session = server.connect_for_replication()
    except Refused as error:
        return None, error
    try:
        with server.told():
            return read_identity(session), None
    finally:
        session.close()


def _missing(connection: Connection, schema: str, name: str, names: Sequence[tuple[str, str]]) -> Missing:
    label = join_name(schema, name)
    row = connection.execute(_OTHER_KINDS, [schema, name]).fetchone()
    if row is None:
        return Missing(label, "there is no such table", nearest(label, (join_name(*pair) for pair in names)))
    kind, partition, root_schema, root = row
    if partition:
        return Missing(
            label, "it is a partition; its changes come under the name of its root", f"name {join_name(root_schema, root)} in its place"
        )
    return Missing(label, f"it is {_KINDS.get(kind, 'not a table')}, which has no changes in the log", "name the tables behind it")
