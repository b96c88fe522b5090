"""Reads the catalogue: which tables match, and all that has to be known of them, in a few queries for any number of tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString

from sources.postgres.patterns import TablePatterns
from sources.postgres.session import Connection
from sources.postgres.table import Attribute, Table

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

_MATCHING = """
SELECT c.oid, n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE ((n.nspname, c.relname) IN (SELECT * FROM unnest(%(schemas)s::name[], %(names)s::name[]))
       OR EXISTS (SELECT FROM unnest(%(like_schemas)s::text[], %(like_names)s::text[]) AS p(schema, name)
                  WHERE n.nspname LIKE p.schema AND c.relname LIKE p.name))
  AND c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
ORDER BY 2, 3
"""

_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relreplident::text,
       pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'), has_schema_privilege(n.oid, 'USAGE'), row_security_active(c.oid),
       CASE c.relkind WHEN 'p' THEN
         (SELECT string_agg(l.oid || ':' || l.relfilenode, ' ' ORDER BY l.oid)
          FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid WHERE t.isleaf)
       ELSE c.relfilenode::text END,
       (SELECT array_agg(a.attname ORDER BY k.place) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, place), pg_attribute a
        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate
          AND k.place <= i.indnkeyatts AND a.attrelid = c.oid AND a.attnum = k.attnum),
       (SELECT array_agg(a.attname ORDER BY k.place) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, place), pg_attribute a
        WHERE i.indrelid = c.oid AND i.indisreplident AND k.place <= i.indnkeyatts AND a.attrelid = c.oid AND a.attnum = k.attnum),
       c.relispartition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY(%(oids)s)
ORDER BY n.nspname, c.relname
"""

_ATTRIBUTES = """
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attisdropped, a.attgenerated::text,
       CASE WHEN a.atthasmissing THEN array_to_string(a.attmissingval, '') END,
       NOT a.atthasmissing AND (a.atthasdef OR a.attidentity <> '' OR a.attnotnull),
       NOT a.attisdropped AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_attribute a
WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0
ORDER BY a.attrelid, a.attnum
"""

# A domain becomes its base type with the domain's modifier, an array its element; vectors of the catalogue are not arrays in their text.
_TYPES = """
WITH RECURSIVE steps(oid, typmod, type, modifier, many, depth) AS (
    SELECT oid, typmod, oid, typmod, false, 0 FROM unnest(%(oids)s::oid[], %(typmods)s::int[]) AS given(oid, typmod)
  UNION ALL
    SELECT s.oid, s.typmod, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END,
           CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE s.modifier END, s.many OR t.typtype <> 'd', s.depth + 1
    FROM steps s JOIN pg_type t ON t.oid = s.type
    WHERE t.typtype = 'd'
       OR (t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1 AND t.oid NOT IN ('int2vector'::regtype, 'oidvector'::regtype))
)
SELECT DISTINCT ON (s.oid, s.typmod) s.oid, s.typmod, s.many, t.typtype::text, t.typnamespace = 'pg_catalog'::regnamespace, t.typname,
       format_type(s.type, s.modifier), format_type(s.oid, s.typmod)
FROM steps s JOIN pg_type t ON t.oid = s.type
ORDER BY s.oid, s.typmod, s.depth DESC
"""

_PUBLICATION = """
SELECT pg_get_userbyid(p.pubowner), pg_has_role(p.pubowner, 'USAGE'), p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
       p.pubviaroot, obj_description(p.oid, 'pg_publication'), to_jsonb(p) ->> 'pubgencols'
FROM pg_publication p WHERE p.pubname = %(name)s
"""

_PUBLISHED: LiteralString = """
SELECT c.oid, {columns}, {filter}
FROM pg_publication_tables t
     JOIN pg_namespace n ON n.nspname = t.schemaname
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
WHERE t.pubname = %(name)s
"""


@dataclass(frozen=True, slots=True)
class Match:
    """A table that the pipeline's names and patterns mean."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication: what it sends, and whether it is ours to change (`comment` is the mark that we leave)."""

    name: str
    owner: str
    owned: bool
    all_tables: bool
    insert: bool
    update: bool
    delete: bool
    truncate: bool
    via_root: bool
    comment: str | None
    generated: bool
    tables: Mapping[int, tuple[tuple[str, ...] | None, str | None]]  # oid -> columns (None before version 15: all) and row filter


def matching(connection: Connection, patterns: TablePatterns) -> Sequence[Match]:
    """Tables, partitioned roots and foreign tables which the patterns mean, by name; never partitions, views or temporary tables."""
    schemas, names = _split(patterns.literals)
    like_schemas, like_names = _split(patterns.likes)
    values = {"schemas": schemas, "names": names, "like_schemas": like_schemas, "like_names": like_names}
    return [Match(*row) for row in connection.execute(_MATCHING, values) if patterns.matches(row[1], row[2])]


def _split(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [first for first, _ in pairs], [second for _, second in pairs]


def all_names(connection: Connection) -> Sequence[tuple[str, str]]:
    """Schema and name of every table and view of a user, to find what a misspelt name may have meant."""
    query = """
        SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    """
    return connection.execute(query).fetchall()


def read_tables(connection: Connection, oids: Iterable[int], publication: Publication | None = None) -> Mapping[int, Table]:
    """All about the tables with these oids that still exist, and how the publication has them."""
    wanted = list(oids)
    if not wanted:
        return {}
    attributes: dict[int, list[tuple[Any, ...]]] = {}
    for row in connection.execute(_ATTRIBUTES, {"oids": wanted}):
        attributes.setdefault(row[0], []).append(row)
    types = read_types(connection, ((row[3], row[4]) for rows in attributes.values() for row in rows if row[3]))
    found = {}
    for (
        oid,
        schema,
        name,
        kind,
        persistence,
        identity,
        owner,
        owned,
        reachable,
        hides,
        storage,
        primary,
        indexed,
        part,
    ) in connection.execute(_TABLES, {"oids": wanted}):
        found[oid] = Table(
            oid, schema, name, kind, persistence, identity, owner, owned, reachable, hides,
            attributes=tuple(_attribute(row, types) for row in attributes.get(oid, ())),
            primary=tuple(primary or ()), indexed=tuple(indexed or ()), storage=storage or "", partition=part,
        )  # fmt: skip
    return {oid: _published(table, publication) for oid, table in found.items()}


def _attribute(row: tuple[Any, ...], types: Mapping[tuple[int, int], tuple[str, str]]) -> Attribute:
    _, attnum, name, oid, typmod, required, dropped, generated, missing, computed, selectable = row
    resolved, written = types.get((oid, typmod), ("text", "text"))
    computed = computed or generated != ""
    return Attribute(attnum, name, oid, typmod, resolved, written, not required, dropped, generated, missing, computed, selectable)


def _published(table: Table, publication: Publication | None) -> Table:
    if publication is None or table.oid not in publication.tables:
        return table
    columns, row_filter = publication.tables[table.oid]
    if columns is None:
        columns = tuple(attribute.name for attribute in table.columns(publication.generated))
    return replace(table, published=columns, filter=row_filter)


def read_types(connection: Connection, wanted: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], tuple[str, str]]:
    """(type oid, modifier) -> the resolved type of journal.schema.Column, and the type as this server writes it.

    Types that are gone are left out.
    """
    oids, typmods = _split_numbers(set(wanted))
    if not oids:
        return {}
    found = {}
    for oid, typmod, many, kind, built_in, name, formatted, written in connection.execute(_TYPES, {"oids": oids, "typmods": typmods}):
        found[oid, typmod] = (_resolved(kind, built_in, name, formatted) + ("[]" if many else ""), written)
    return found


def _split_numbers(pairs: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    ordered = sorted(pairs)
    return [first for first, _ in ordered], [second for _, second in ordered]


def _resolved(kind: str, built_in: bool, name: str, formatted: str) -> str:
    if built_in and kind in ("b", "r", "m"):
        return formatted
    if kind != "b":
        return "text"
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def read_publication(connection: Connection, name: str) -> Publication | None:
    """The publication of that name, if there is one, with everything that it has."""
    row = connection.execute(_PUBLICATION, {"name": name}).fetchone()
    if row is None:
        return None
    owner, owned, all_tables, insert, update, delete, truncate, via_root, comment, generated = row
    new = connection.info.server_version >= 150000
    query = _PUBLISHED.format(columns="t.attnames" if new else "NULL", filter="t.rowfilter" if new else "NULL")
    rows = connection.execute(query, {"name": name})
    tables = {oid: (None if columns is None else tuple(columns), row_filter) for oid, columns, row_filter in rows}
    return Publication(name, owner, owned, all_tables, insert, update, delete, truncate, via_root, comment, generated == "s", tables)
