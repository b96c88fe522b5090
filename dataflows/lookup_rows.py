"""Lookups as rules see them: whether there is a row with a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataflows.lookup_table import LookupTable
from dataflows.lookups import Lookups
from journal.batch import Mask

_WHOLE = r"^-?[0-9]{1,18}$"
_WHOLE_TYPES = frozenset({"smallint", "integer", "bigint"})


@dataclass(frozen=True, slots=True, eq=False)
class LookupRows:
    """One lookup of a pipeline; its key's columns are in the order of the pipeline file."""

    name: str
    lookups: Lookups

    @property
    def _table(self) -> LookupTable:
        return self.lookups.tables[self.name]

    @property
    def key_types(self) -> Sequence[str] | None:
        """The types of its key's columns; None while nothing is known of it."""
        schema = self.lookups.schema(self.name)
        key = self.lookups.lookups[self.name].key
        return None if schema is None or set(schema.key) != set(key) else tuple(schema.types[name] for name in key)

    def lacks(self, keys: Sequence[pa.StringArray]) -> Mask:
        """bool[n]: there is no row with this key. A null refers to nothing."""
        table = self._table
        if table.schema is None or not len(table):
            there: Mask = np.ones(len(keys[0]), np.bool_)
            for key in keys:
                there &= np.asarray(key.is_valid())
            return there
        by_name = dict(zip(self.lookups.lookups[self.name].key, keys, strict=True))
        wanted = [_whole(by_name[name]) if table.schema.types[name] in _WHOLE_TYPES else by_name[name] for name in table.schema.key]
        places = table.find(wanted)
        found = places.missing
        for key, asked in zip((by_name[name] for name in table.schema.key), wanted, strict=True):
            found = found | np.asarray(pc.and_(key.is_valid(), asked.is_null()))
        return found


def _whole(key: pa.StringArray) -> pa.StringArray:
    """Without what no whole number of the lookup can be."""
    fits = pc.fill_null(pc.match_substring_regex(key, _WHOLE), True)
    return key if pc.all(fits, min_count=0).as_py() else pc.if_else(fits, key, None)


def looked_in(lookups: Lookups) -> dict[str, LookupRows]:
    """Every lookup of a pipeline."""
    return {name: LookupRows(name, lookups) for name in lookups.lookups}
