"""Relation messages: what a table looks like at this point of the stream.

Format: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from sources.postgres.errors import malformed

_COLUMN = struct.Struct(">Ii")


class RelationColumn(NamedTuple):
    """`key` is true where the column belongs to the replica identity (every column under REPLICA IDENTITY FULL)."""

    name: str
    type_oid: int
    typmod: int
    key: bool


class Relation(NamedTuple):
    """One table as the server describes it before it sends changes of it; `identity` is pg_class.relreplident (d, n, f, i)."""

    oid: int
    schema: str
    table: str
    identity: str
    columns: tuple[RelationColumn, ...]


def parse_relation(message: bytes) -> Relation:
    """Reads a Relation message from its OID on (after the kind and, in a streamed transaction, the xid). Raises TerminalError."""
    try:
        schema_end = message.index(0, 4)
        table_end = message.index(0, schema_end + 1)
        identity, count = chr(message[table_end + 1]), int.from_bytes(message[table_end + 2 : table_end + 4], "big")
        columns: list[RelationColumn] = []
        at = table_end + 4
        for _ in range(count):
            end = message.index(0, at + 1)
            type_oid, typmod = _COLUMN.unpack_from(message, end + 1)
            columns.append(RelationColumn(message[at + 1 : end].decode(), type_oid, typmod, bool(message[at] & 1)))
            at = end + 9
        # The server leaves the name of pg_catalog out.
        schema = message[4:schema_end].decode() or "pg_catalog"
        relation = Relation(
            int.from_bytes(message[:4], "big"), schema, message[schema_end + 1 : table_end].decode(), identity, tuple(columns)
        )
    except (ValueError, IndexError, struct.error) as error:
        raise malformed(f"a Relation message of {len(message)} bytes does not add up ({error})") from error
    if at != len(message):
        raise malformed(f"a Relation message of {len(message)} bytes ends at {at}")
    return relation
