"""Whether a table can be copied and followed, and the statement that would make it so."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from pipeline.errors import Problem
from sources.postgres.catalogue import Publication
from sources.postgres.publication import addition
from sources.postgres.table import FULL, NOTHING, Table


def unfit(table: Table) -> str | None:
    """Why logical replication has no changes of the table at all."""
    if table.kind == "f":
        return f"{table.label} is a foreign table: its changes are not in this server's log"
    if table.persistence == "u":
        return f"{table.label} is unlogged: its changes are not in the log"
    if not table.live:
        return f"{table.label} has no columns, so there is nothing in it to move"
    return None


def problems_of(
    table: Table, publication: Publication | None, *, may_add: bool, user: str, key: tuple[str, ...], generated: bool
) -> Iterator[Problem]:
    """What stands in the way of one table.

    may_add    the publication is, or will be, ours, and tables are added to it
    key        what the pipeline file sets as the dataset's key
    """
    reason = unfit(table)
    if reason is not None:
        yield Problem(reason, hint=_remedy(table))
        return
    yield from _access(table, user, generated)
    yield from _membership(table, publication, may_add, user)
    if publication is None or publication.update or publication.delete:
        yield from _identity(table, generated)
    yield from _key(table, key, generated)


def _remedy(table: Table) -> str:
    """What to do with an unfit table."""
    if table.kind == "f":
        return "name the table at the server where it is"
    if table.persistence == "u":
        return _text("ALTER TABLE {} SET LOGGED", table.sql)
    return "leave it out of `tables` until it has one"


def _access(table: Table, user: str, generated: bool) -> Iterator[Problem]:
    name = sql.Identifier(user)
    if not table.reachable:
        hint = _text("GRANT USAGE ON SCHEMA {} TO {}", sql.Identifier(table.schema), name)
        yield Problem(f"{user} may not use the schema of {table.label}", hint=hint)
    hidden = [column.name for column in table.columns(generated) if not column.selectable]
    if hidden:
        what = "" if len(hidden) == len(table.live) else f" the column{'s' if len(hidden) > 1 else ''} {', '.join(hidden)} of"
        yield Problem(
            f"{user} may not read{what} {table.label}, and so not copy it", hint=_text("GRANT SELECT ON {} TO {}", table.sql, name)
        )
    if table.hides_rows:
        yield Problem(f"row-level security hides rows of {table.label} from {user}", hint=_text("ALTER ROLE {} BYPASSRLS", name))


def _membership(table: Table, publication: Publication | None, may_add: bool, user: str) -> Iterator[Problem]:
    if table.published is not None:
        return
    if may_add and table.owned:
        return
    if may_add:
        message = f"{table.label} belongs to {table.owner}: {user} may not add it to a publication"
        how = _text("GRANT {} TO {}", sql.Identifier(table.owner), sql.Identifier(user))
        yield Problem(message, hint=f"{how}; or let an owner of all tables make the publication, and set `create: false`")
    elif publication is not None:
        if table.kind == "p" and not publication.via_root:
            hint = _text("ALTER PUBLICATION {} SET (publish_via_partition_root = true)", sql.Identifier(publication.name))
            yield Problem(f"the publication {publication.name} sends changes of {table.label} under the names of its partitions", hint=hint)
        else:
            yield Problem(f"the publication {publication.name} does not have {table.label}", hint=addition(publication.name, [table]))


def _identity(table: Table, generated: bool) -> Iterator[Problem]:
    identifying = table.identifying
    if identifying is None:
        told = " (REPLICA IDENTITY NOTHING)" if table.identity == NOTHING else " and no primary key"
        message = f"{table.label} has no replica identity{told}: once published, every UPDATE and DELETE of it fails at the source"
        full = _text("ALTER TABLE {} REPLICA IDENTITY FULL", table.sql)
        yield Problem(message, hint=f"add a primary key; or, at the price of a larger log: {full}")
        return
    sent = {column.name for column in table.columns(generated)}
    # from version 18 on the whole row includes generated columns
    whole = [column.name for column in table.live if generated or not column.generated]
    lacking = [name for name in (whole if table.identity == FULL else identifying) if name not in sent]
    if lacking:
        message = f"the publication of {table.label} lacks {', '.join(lacking)} of its replica identity: its UPDATEs and DELETEs would fail"
        yield Problem(message, hint="publish these columns (ALTER PUBLICATION … SET TABLE …), or choose another replica identity")


def _key(table: Table, key: tuple[str, ...], generated: bool) -> Iterator[Problem]:
    names = [column.name for column in table.columns(generated)]
    unknown = [name for name in key if name not in names]
    if unknown:
        yield Problem(f"{table.label} has no column {', '.join(unknown)}, which `key` names", hint=f"its columns: {', '.join(names[:40])}")
    elif key and table.identity != FULL and not set(key) <= set(table.identifying or ()):
        message = f"old rows of {table.label} in the log do not carry {', '.join(key)}, which `key` names"
        yield Problem(message, hint=_text("ALTER TABLE {} REPLICA IDENTITY FULL", table.sql))


def _text(statement: str, *parts: sql.Composable) -> str:
    return sql.SQL(statement).format(*parts).as_string()
