"""For `verify`: a table as it is now, in the words in which it is copied."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from journal.batch import ChangeBatch
from journal.schema import TableSchema
from pipeline.errors import Refused, TableGone
from pipeline.names import join_name
from sources.postgres.catalogue import matching, read_publication, read_tables
from sources.postgres.copier import read_batch
from sources.postgres.copy import copy_of, copy_rows, select_query
from sources.postgres.patterns import TablePatterns
from sources.postgres.recall import key_columns, key_condition
from sources.postgres.session import Connection, Server
from sources.postgres.table import Attribute, Table


def read_now(
    server: Server,
    source: str,
    publication: str,
    label: str,
    schema: TableSchema,
    keys: ChangeBatch | None,
    receive: Callable[[ChangeBatch], None],
    looked: Callable[[], None],
) -> None:
    """Gives the rows that the publication would have, with the columns of `schema`, in one snapshot; only rows with `keys`, if given.

    `looked` is called once the snapshot is taken. Raises TableGone where the table is not there, Refused where a
    column is not, and TransientError.
    """
    with closing(server.connect()) as connection:
        with server.told():
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.execute("SELECT pg_current_snapshot()")
        looked()
        with server.told():
            table = _table(connection, label, publication)
        columns = [_attribute(table, name) for name in schema.names]
        where = None
        if keys is not None:
            where = key_condition([_attribute(table, name) for name in schema.key], key_columns(keys, keys.schema))
        query = copy_of(select_query(table, columns, where))
        count = 0
        for rows in copy_rows(server, connection, query, len(columns), lambda: False):
            batch = read_batch(schema, source, label, rows.columns, rows.count, lsn=0, nth=count, now=0)
            receive(replace(batch, defects=tuple(replace(defect, column=schema.names[place]) for place, defect in rows.defects)))
            count += rows.count
        with server.told():
            connection.execute("COMMIT")


def _table(connection: Connection, label: str, publication: str) -> Table:
    found = matching(connection, TablePatterns([label]))
    tables = read_tables(connection, (match.oid for match in found), read_publication(connection, publication))
    table = next((table for table in tables.values() if join_name(table.schema, table.name) == label), None)
    if table is None:
        raise TableGone(f"{label} is not there any more")
    return table


def _attribute(table: Table, name: str) -> Attribute:
    found = next((attribute for attribute in table.live if attribute.name == name), None)
    if found is None:
        raise Refused(f"{table.label} has no column {name} any more", hint="let the pipeline follow the source first: `sluice sync`")
    return found
