"""One table of a server that no pipeline names: looked up in the catalogue, and read in one snapshot that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from psycopg import ProgrammingError

from journal.batch import ChangeBatch
from journal.schema import TableSchema
from pipeline.errors import ConfigError, Refused
from pipeline.names import is_pattern, nearest
from sources.postgres.catalogue import all_names, matching, read_tables
from sources.postgres.patterns import TablePatterns, canonical
from sources.postgres.session import Connection, Server
from sources.postgres.table import Table
from sources.postgres.verification import read_now

_TIMEOUT = 10  # seconds


class OneTable:
    """A table of a Postgres server. `label` is the one name by which messages call it, `schema` its columns and primary key.

    Raises ConfigError for a dsn or a name that is none, Refused for a table that is not there or may not be read, with the grant that
    it takes, and TransientError for a server that is away.
    """

    def __init__(self, dsn: str, name: str) -> None:
        try:
            self._server = Server(dsn, "sluice profile", _TIMEOUT)
        except ProgrammingError as error:
            raise ConfigError("the dsn is neither a libpq string nor a URL", hint="such as postgresql://user@host/database") from error
        try:
            wanted = TablePatterns([name])
            self.label = canonical(name)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if is_pattern(name):
            raise ConfigError(f"{name} is a pattern; one table is looked at", hint="write schema.table")
        with closing(self._server.connect()) as connection:
            with self._server.told():
                tables = read_tables(connection, (match.oid for match in matching(connection, wanted)))
                table = next(iter(tables.values()), None)
                if table is None:
                    raise self._missing(connection)
            self._readable(table, connection.info.user)
        self.schema: TableSchema = table.as_schema(table.name, table.primary, generated=True)

    @property
    def place(self) -> str:
        """What people call it: the table and its server, without secrets."""
        return f"{self.label} at {self._server.label}"

    def read(self, receive: Callable[[ChangeBatch], None]) -> None:
        """Gives all rows, in batches of one snapshot (REPEATABLE READ, READ ONLY). What `receive` raises ends it."""
        # no publication can be called so: the table is read as it is
        read_now(self._server, "profile", "", self.label, self.schema, None, receive, looked=lambda: None)

    def _missing(self, connection: Connection) -> Refused:
        names = [canonical(f'"{schema}"."{name}"') for schema, name in all_names(connection)]
        if self.label in names:
            return Refused(f"{self.label} is a view or a partition, which is not read by itself", hint="name the table that holds its rows")
        return Refused(f"{self._server.label} has no table {self.label}", hint=nearest(self.label, names))

    def _readable(self, table: Table, user: str) -> None:
        if not table.reachable:
            raise Refused(f"{user} may not use the schema {table.schema}", hint=f'GRANT USAGE ON SCHEMA "{table.schema}" TO "{user}"')
        hidden = [column.name for column in table.live if not column.selectable]
        if hidden:
            said = f"{user} may not read {table.label}" + (f" ({', '.join(hidden)})" if len(hidden) < len(table.live) else "")
            raise Refused(said, hint=f'GRANT SELECT ON {table.label} TO "{user}"')
