"""The publication: what has to be said to make one, or to bring ours up to date."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from sources.postgres.catalogue import Publication
from sources.postgres.session import Connection, Server
from sources.postgres.table import Table

_PATIENCE = 30  # seconds; whoever waits for a lock makes others wait behind him


def mark(pipeline: str, source: str) -> str:
    """The comment by which a publication of our own is known."""
    return f"made by Sluice for {pipeline}.{source}"


def creation(name: str, tables: Sequence[Table], comment: str, version: int) -> Sequence[str]:
    """Makes a publication of exactly these tables. `version` is the server's, such as 150004."""
    options = "publish_via_partition_root = true" + (", publish_generated_columns = stored" if version >= 180000 else "")
    what = sql.SQL(" FOR TABLE {}").format(_list(tables)) if tables else sql.SQL("")
    create = sql.SQL("CREATE PUBLICATION {}{} WITH (" + options + ")").format(sql.Identifier(name), what)
    note = sql.SQL("COMMENT ON PUBLICATION {} IS {}").format(sql.Identifier(name), sql.Literal(comment))
    return [create.as_string(), note.as_string()]


def addition(name: str, tables: Sequence[Table]) -> str:
    """Adds tables to a publication."""
    return sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(name), _list(tables)).as_string()


def removal(name: str, tables: Sequence[Table]) -> str:
    """Takes tables out of a publication."""
    return sql.SQL("ALTER PUBLICATION {} DROP TABLE {}").format(sql.Identifier(name), _list(tables)).as_string()


def _list(tables: Sequence[Table]) -> sql.Composable:
    """Without the children of a table that others inherit from: those are tables of their own. A partitioned root has its partitions."""
    return sql.SQL(", ").join(sql.SQL("{}{}").format(sql.SQL("" if table.kind == "p" else "ONLY "), table.sql) for table in tables)


def is_ours(publication: Publication, comment: str) -> bool:
    """Whether we made it, and may change it."""
    return publication.comment == comment and publication.owned


def run(server: Server, connection: Connection, statements: Sequence[str]) -> None:
    """Runs statements in one transaction. Raises TransientError where others hold locks on a table for too long: VACUUM does."""
    with server.told(), connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}s'")
        for statement in statements:
            connection.execute(statement.encode())
