"""What has changed under the data: its contract, and its columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

from dataflows.judged_by import Judged, read
from journal.contracts import KeptContract, kept
from journal.known import Known
from journal.local import JournalReader
from journal.schema import Column, TableSchema
from quality.report.model import Change

_MOST = 30


def changes_of(dataset: str, known: dict[str, Known], reader: JournalReader) -> list[Change]:
    """Changes of a dataset's contract and columns, each kind with the newest first."""
    with reader.view() as (db, _):
        contracts = list(_contracts(db, dataset, known))
        schemas = list(_schemas(db, dataset))
    return [*reversed(contracts[-_MOST:]), *reversed(schemas[-_MOST:])]


def _contracts(db: sqlite3.Connection, dataset: str, known: dict[str, Known]) -> Iterator[Change]:
    """What judged from when on, as ingest has noted it; when and by whom it came into force, as far as the journal has kept that."""
    lines = sorted((line for one in known.values() for line in read(one.notes, dataset)), key=lambda line: line.ordinal)
    told = {one.fingerprint: one for one in kept(db, dataset)}
    last = Judged(0)
    for line in lines:
        before, last = last, line
        if (line.contract, line.version, line.fingerprint) == (before.contract, before.version, before.fingerprint):
            continue
        found = told.pop(line.fingerprint or "", None)
        says = f"{line.contract} {line.version} judges from here on"
        if line.contract is None:
            says = "No contract judges from here on"
        elif (line.contract, line.version) == (before.contract, before.version):
            says = f"{line.contract} {line.version} was changed without a new version"
        when = datetime.fromtimestamp(found.at, UTC) if found else _time(db, dataset, line.ordinal)
        yield Change("contract", says + _by(found), when, str(line.ordinal))
    for one in told.values():  # no change has come since
        at = datetime.fromtimestamp(one.at, UTC)
        yield Change("contract", f"{one.id} {one.version} came into force{_by(one)}", at, str(one.since))


def _by(one: KeptContract | None) -> str:
    return f", approved by {one.by}" if one is not None and one.by else ""


def _time(db: sqlite3.Connection, dataset: str, ordinal: int) -> datetime | None:
    """When a change was counted, to the minute or, long ago, to the hour."""
    found = db.execute(
        "select min(minute) from ledger where dataset = ? and rule = '' and last_ordinal >= ?", (dataset, ordinal)
    ).fetchone()
    return None if found[0] is None else datetime.fromtimestamp(found[0] * 60, UTC)


def _schemas(db: sqlite3.Connection, dataset: str) -> Iterator[Change]:
    """What became of the columns of each table, in the order in which it was met."""
    rows = db.execute(
        """select distinct source, table_name, stream.schema, encoded from stream join schema on schema.id = stream.schema
           where schema.dataset = ? order by source, table_name, stream.schema""",
        (dataset,),
    ).fetchall()
    tables: dict[tuple[str, str], list[TableSchema]] = {}
    for source, table, _, encoded in rows:
        tables.setdefault((source, table), []).append(TableSchema.decode(encoded))
    for (source, table), schemas in tables.items():
        for before, after in pairwise(schemas):
            for said in _differences(before, after):
                yield Change("schema", f"{source}.{table}: {said}")


def _differences(before: TableSchema, after: TableSchema) -> Iterator[str]:
    """In words. A column keeps its identity where its source gives it one."""
    old = {_identity(column): column for column in before.columns}
    new = {_identity(column): column for column in after.columns}
    for identity, column in new.items():
        was = old.get(identity)
        if was is None:
            yield f"{column.name} ({column.type}) was added"
        elif was.name != column.name:
            yield f"{was.name} is called {column.name} now"
        elif was.type != column.type:
            yield f"{column.name} became {column.type} from {was.type}"
        elif was.nullable != column.nullable:
            yield f"{column.name} may{'' if column.nullable else ' not'} be null now"
    for identity, column in old.items():
        if identity not in new:
            yield f"{column.name} ({column.type}) was dropped"
    if before.key != after.key:
        yield f"the key is {', '.join(after.key) or 'gone'} now"


def _identity(column: Column) -> object:
    return column.attnum or column.name
