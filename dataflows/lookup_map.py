"""Rows of a dataset with what lookups have for them: the SQL of `enrich`, bound, and run over batches.

A join is no join of tables: the keys that the rows refer to are looked up, and what is there is put beside the rows, as text that is
cast only where the SQL computes with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from dataflows.lookup_query import BoundJoin, Enrichment
from dataflows.lookup_table import LookupTable, Places
from dataflows.map_answer import Answer
from dataflows.map_sql import SqlMap
from dataflows.map_types import same_text
from journal.quarantine import Reason
from journal.schema import TableSchema
from journal.types import parse_type
from pipeline.errors import ConfigError, Problem
from pipeline.model import Lookup

RULE = "lookup:"
"""Before the name of a lookup: the rule that a row breaks for which the lookup has nothing."""

_INEXACT = frozenset({"real", "double precision", "json", "jsonb", "xml", "citext", "interval"})


def lookup_rule(name: str) -> str:
    """The rule that a row breaks for which a lookup has nothing."""
    return f"{RULE}{name}"


@dataclass(frozen=True, slots=True, eq=False)
class _Join:
    """One lookup, ready to be asked. `columns`: what a column of it is called beside those of the input -> its own name."""

    lookup: Lookup
    table: LookupTable
    key: SqlMap
    reads: frozenset[str]
    columns: Mapping[str, str]
    refuses: bool
    reason: Reason = field(init=False)

    def __post_init__(self) -> None:
        reason = Reason(lookup_rule(self.lookup.name), None, f"the lookup {self.lookup.name} has no row for it", None)
        object.__setattr__(self, "reason", reason)


class LookupMap:
    """The SQL of `enrich` over rows of one shape, as a RowMap.

    columns   name -> Postgres type of what it gives, in its order
    plain     column that it gives -> the column of the input that this is as it stands
    waits     rule -> lookup that has a row wait for it
    """

    def __init__(
        self,
        found: Enrichment,
        types: Mapping[str, str],
        lookups: Mapping[str, Lookup],
        tables: Mapping[str, LookupTable],
        schemas: Mapping[str, TableSchema],
    ) -> None:
        """Raises ConfigError, with the lines, for what the input, or a lookup, does not have."""
        bound = found.bind(types, schemas)
        known = dict(types)
        joins = []
        for one in bound.joins:
            name = one.join.lookup
            joins.append(_bound_join(one, dict(known), lookups[name], tables[name]))
            known |= {hidden: one.schema.types[column] for hidden, column in one.columns.items()}
        self._joins: Sequence[_Join] = joins
        self._beside = frozenset(known) - frozenset(types)
        self._sql = SqlMap(bound.query, known, None, keep_scale=True)
        self.columns = self._sql.columns
        self.waits = {join.reason.rule: join.lookup for join in joins if join.lookup.on_missing == "wait"}
        self.plain = {name: source for name in self.columns if (source := self._sql.source(name)) is not None and source in types}

    def of_lookups(self, names: Iterable[str]) -> bool:
        """Whether any of these columns depends on what a lookup has."""
        return bool(self._sql.reads(names) & self._beside)

    def reads(self, names: Iterable[str]) -> frozenset[str]:
        """The columns of the input that the given columns depend on, and whether there is a row at all."""
        wanted = tuple(names)
        found = set(self._sql.reads(wanted))
        for join in reversed(self._asked(found, wanted)):
            found |= join.reads
        return frozenset(found) - self._beside

    def _asked(self, reads: Collection[str], names: Collection[str]) -> list[_Join]:
        """The lookups that have to be asked: all of them for a whole row, else those that the columns depend on in any way."""
        if set(names) >= self.columns.keys():
            return list(self._joins)
        wanted, asked = set(reads), []
        for join in reversed(self._joins):
            if join.columns.keys() & wanted:
                asked.append(join)
                wanted |= join.reads
        return asked[::-1]

    def run(self, columns: Mapping[str, pa.StringArray], rows: int, names: Sequence[str] | None = None) -> Answer:
        """See RowMap. A row that a lookup has nothing for is bad, where it is not to have nulls then; its reason has `lookup_rule`."""
        wanted = tuple(self.columns if names is None else names)
        reads = self._sql.reads(wanted)
        asked = self._asked(reads, wanted)
        needed = set(reads).union(*(join.reads for join in asked))
        values = dict(columns)
        bad: dict[int, Reason] = {}
        for join in asked if rows else ():
            key = join.key.run({name: values[name] for name in join.reads}, rows)
            places: Places = join.table.find([key.columns[name] for name in join.key.columns])
            for hidden, column in join.columns.items():
                if hidden in needed:
                    values[hidden] = join.table.gather(column, places)
            missing = places.missing
            for row, reason in key.bad.items():
                if reason.column is None:
                    bad.setdefault(row, reason)
                else:  # what does not fit the key refers to a row that cannot be there
                    missing[row] = True
            for place in np.flatnonzero(missing) if join.refuses else ():
                bad.setdefault(int(place), join.reason)
        if not rows:
            values |= dict.fromkeys(self._beside, pa.array([], pa.string()))
        answer = self._sql.run({name: values[name] for name in reads}, rows, wanted)
        return Answer(answer.columns, {**answer.bad, **bad} if bad else answer.bad)


def _bound_join(one: BoundJoin, types: Mapping[str, str], lookup: Lookup, table: LookupTable) -> _Join:
    schema, line = one.schema, one.key.line(one.join.node)
    unfit = [name for name in schema.key if not _comparable(schema.types[name])]
    if unfit:
        said = f"the lookup `{lookup.name}` has a key of {schema.types[unfit[0]]}, which is not written in one way only"
        raise ConfigError.of([Problem(said, one.key.file, line, "let its key be text, whole numbers, uuid, date or numeric(p,s)")])
    whole = TableSchema(f"the lookup {lookup.name}", tuple(c for n in schema.key for c in schema.columns if c.name == n), schema.key)
    key = SqlMap(one.key, types, whole)
    for name in schema.key:
        source = key.source(name)
        a, b = schema.types[name], key.columns[name] if source is None else types[source]
        if source is not None and not (same_text(b, a) or same_text(a, b)):
            said = f"`{source}` is {b}, and `{name}` of the lookup `{lookup.name}` is {a}"
            raise ConfigError.of([Problem(said, one.key.file, line, f"CAST({source} AS …) to the type of the key")])
    return _Join(lookup, table, key, key.reads(key.columns), one.columns, one.join.inner or lookup.on_missing != "null")


def _comparable(kind: str) -> bool:
    """Whether equal values of a type have equal text."""
    try:
        found = parse_type(kind)
    except ValueError:
        return True  # of an extension: text like any other
    return found.base not in _INEXACT and (found.base != "numeric" or bool(found.args)) and not found.array
