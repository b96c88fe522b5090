"""The rows of a lookup as they are now, in memory: columns, and an index of hashes over the key.

What changes becomes a small part beside the large ones, and parts of like size are joined, so that a change costs little and a row is
found by a handful of binary searches. Nothing is on disk here: what has to survive is in the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, CopyMarker, Longs, Mask, Op, batch_from_columns
from journal.duckdb_session import session
from journal.schema import TableSchema
from pipeline.errors import ConfigError
from pipeline.model import Lookup
from sinks.lineage import Touch, completed, trace

Hashes = npt.NDArray[np.uint64]

_NOTHING = np.zeros(0, np.int64)
_WHOLE = frozenset({"smallint", "integer", "bigint"})
_ROWS = 65_536  # of a batch in which the table is laid down


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the rows of n keys are: `part` (-1: nowhere) and `row` in it. `unasked`: a part of the key is null, which refers to nothing."""

    part: npt.NDArray[np.int32]
    row: Longs
    unasked: Mask

    @property
    def missing(self) -> Mask:
        """bool[n]: the key refers to a row that is not there."""
        found: Mask = (self.part < 0) & ~self.unasked
        return found


@dataclass(slots=True, eq=False)
class _Part:
    """n rows. `hashes` is sorted, and `rows` are the rows that they are of; a row that is not `alive` is somewhere else now, or gone."""

    columns: list[pa.StringArray]
    key: pa.StringArray
    ordinal: Longs
    alive: Mask
    hashes: Hashes
    rows: npt.NDArray[np.int32]
    living: int

    @classmethod
    def of(cls, columns: list[pa.StringArray], key: pa.StringArray, ordinal: Longs, hashes: Hashes) -> _Part:
        rows = np.argsort(hashes, kind="stable").astype(np.int32)
        return cls(columns, key, ordinal, np.ones(len(key), np.bool_), hashes[rows], rows, len(key))

    def find(self, key: pa.StringArray, hashes: Hashes, asked: Longs, *, exact: bool) -> Longs:
        """int64[n]: the row of each of the keys at `asked` that is alive, -1 for the others. `exact`: other keys have other hashes."""
        exact = exact and not self.key.null_count
        found = np.full(len(hashes), -1, np.int64)
        at = np.zeros(len(hashes), np.int64)
        asked = asked[np.argsort(hashes[asked])]  # one search begins where the one before it has warmed the cache
        at[asked] = np.searchsorted(self.hashes, hashes[asked])
        while len(asked):
            asked = asked[at[asked] < len(self.hashes)]
            asked = asked[self.hashes[at[asked]] == hashes[asked]]
            if not len(asked):
                break
            rows = self.rows[at[asked]]
            same = self.alive[rows]
            if not exact:
                same &= np.asarray(pc.equal(self.key.take(pa.array(rows)), key.take(pa.array(asked))))
            found[asked[same]] = rows[same]
            asked = asked[~same]
            at[asked] += 1
        return found

    def kill(self, rows: Longs) -> None:
        self.alive[rows] = False
        self.living = int(np.count_nonzero(self.alive))

    def hash_of_rows(self) -> Hashes:
        hashes = np.empty_like(self.hashes)
        hashes[self.rows] = self.hashes
        return hashes


class LookupTable:
    """One lookup. `whole` says that a copy of it has been taken to its end; `schema` is None until anything of it has come."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.schema: TableSchema | None = None
        self.whole = False
        self.version = 0
        self._parts: list[_Part] = []

    def __len__(self) -> int:
        return sum(part.living for part in self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, about."""
        return sum(
            sum(column.nbytes for column in {id(c): c for c in (*part.columns, part.key)}.values()) + 21 * len(part.key)
            for part in self._parts
        )

    def find(self, keys: Sequence[pa.StringArray]) -> Places:
        """Where the rows with these keys are; one array for each column of the key, in the schema's order."""
        n = len(keys[0])
        unasked = np.zeros(n, np.bool_)
        for column in keys:
            if column.null_count:
                unasked |= np.asarray(column.is_null())
        text = joined(keys)
        part, row = np.full(n, -1, np.int32), np.zeros(n, np.int64)
        left = np.flatnonzero(~unasked)
        hashes = self._hashes(text) if len(left) and self._parts else np.zeros(n, np.uint64)
        for number, one in enumerate(self._parts):
            if not len(left):
                break
            found = one.find(text, hashes, left, exact=self._whole_numbers)
            there = left[found[left] >= 0]
            part[there], row[there] = number, found[there]
            left = left[found[left] < 0]
        return Places(part, row, unasked)

    def gather(self, name: str, places: Places) -> pa.StringArray:
        """The values of a column at these places; null where there is no row."""
        pieces: list[pa.StringArray] = []
        n = len(places.part)
        index = np.full(n, -1, np.int64)
        given = 0
        for number in np.unique(places.part[places.part >= 0]):
            one = self._parts[number]
            mine = np.flatnonzero(places.part == number)
            pieces.append(one.columns[self._index(name)].take(pa.array(places.row[mine])))
            index[mine] = given + np.arange(len(mine))
            given += len(mine)
        if not pieces:
            return pa.nulls(n, pa.string())
        if len(pieces) == 1 and given == n:
            return pieces[0]
        return pa.concat_arrays(pieces).take(pa.array(index, mask=index < 0))

    def _index(self, name: str) -> int:
        assert self.schema is not None  # noqa: S101  (there are parts only under a schema)
        return self.schema.index(name)

    def know(self, schema: TableSchema) -> None:
        """Tells the columns before anything has come. Raises ConfigError as `take` does."""
        self._fit(schema)

    def take(self, batch: ChangeBatch) -> None:
        """Changes of the lookup's table. Raises ConfigError where its rows are identified by something else than the lookup's key."""
        self._fit(batch.schema)
        self.version += 1
        cleared = np.flatnonzero(batch.op == Op.TRUNCATE)
        if len(cleared):
            self._parts = []
            batch = batch.slice(int(cleared[-1]) + 1, len(batch))
        if len(batch):
            self._apply(completed(batch, trust_recalled=True))

    def _apply(self, batch: ChangeBatch) -> None:
        lineage = trace(batch, _NOTHING)
        last = lineage.last
        put = lineage.touch[last] == Touch.PUT
        rows = lineage.rows[last[put]]
        columns = [column.take(pa.array(rows)) for column in batch.columns]
        for c, codes in batch.presence.items():
            source, _, _ = lineage.continued(codes, rows)
            columns[c] = batch.columns[c].take(pa.array(source, mask=source < 0))
            if (source < 0).any():
                before = pa.array(lineage.origin[lineage.root[rows]])
                held = self.gather(batch.schema.names[c], self.find([key.take(before) for key in lineage.keys]))
                columns[c] = pc.if_else(pa.array(source < 0), held, columns[c])
        places = self.find([key.take(pa.array(last)) for key in lineage.keys])
        for number, one in enumerate(self._parts):
            here = places.row[places.part == number]
            if len(here):
                one.kill(here)
        self._add(columns, batch.ordinal[rows])

    def _add(self, columns: list[pa.StringArray], ordinal: Longs) -> None:
        if len(ordinal):
            key = self._key(columns)
            self._parts.append(_Part.of(columns, key, ordinal, self._hashes(key)))
        while len(self._parts) > 1 and self._parts[-2].living <= 2 * self._parts[-1].living:
            self._parts[-2:] = self._merged(self._parts[-2:])
        if any(part.living < len(part.key) // 2 for part in self._parts):
            self._parts = [new for part in self._parts for new in (self._merged([part]) if part.living < len(part.key) else [part])]

    def _key(self, columns: Sequence[pa.StringArray]) -> pa.StringArray:
        assert self.schema is not None  # noqa: S101  (set by what came first)
        return joined([columns[c] for c in self.schema.key_indices])

    @property
    def _whole_numbers(self) -> bool:
        """Whether the key is one whole number."""
        return self.schema is not None and len(self.schema.key) == 1 and self.schema.types[self.schema.key[0]] in _WHOLE

    def _hashes(self, key: pa.StringArray) -> Hashes:
        """Of whole numbers they are the numbers themselves."""
        hashes: Hashes
        if self._whole_numbers:
            hashes = np.asarray(pc.fill_null(key.cast(pa.int64()), 0)).view(np.uint64)
        else:
            answer = session().over(pa.table({"k": key}), "SELECT hash(k) AS h FROM given")
            hashes = np.asarray(answer.column(0)).astype(np.uint64)
        return hashes

    def _merged(self, parts: Sequence[_Part]) -> list[_Part]:
        """One part with the rows that are alive; none where there are none."""
        if not sum(part.living for part in parts):
            return []
        masks = [None if part.living == len(part.key) else pa.array(part.alive) for part in parts]
        columns = [
            pa.concat_arrays([column if mask is None else column.filter(mask) for column, mask in zip(columns, masks, strict=True)])
            for columns in zip(*(part.columns for part in parts), strict=True)
        ]
        ordinal = np.concatenate([part.ordinal[part.alive] for part in parts])
        hashes = np.concatenate([part.hash_of_rows()[part.alive] for part in parts])
        return [_Part.of(columns, self._key(columns), ordinal, hashes)]

    def mark(self, marker: CopyMarker) -> None:
        """A copy of the lookup's table for everybody begins, ends or is given up; what it lacked goes when it ends."""
        self._fit(marker.schema)
        if marker.phase != "end":
            return
        self.version += 1
        self.whole = True
        for part in [] if marker.first else self._parts:
            part.kill(np.flatnonzero(part.ordinal < marker.ordinal))
        self._parts = self._merged(self._parts)  # a copy is many parts of like size

    def _fit(self, schema: TableSchema) -> None:
        """Columns that were added, dropped or renamed follow."""
        known = self.schema
        if known is not None and known.encoded == schema.encoded:
            return
        check_key(self.lookup, schema)
        self.schema = schema
        for place, part in enumerate(self._parts if known is not None else ()):
            assert known is not None  # noqa: S101  (else there are no parts)
            held = {column.attnum or column.name: values for column, values in zip(known.columns, part.columns, strict=True)}
            n = len(part.key)
            columns = []
            for column in schema.columns:
                values = held.get(column.attnum or column.name)
                if values is None:
                    values = pa.nulls(n, pa.string()) if column.default is None else pa.repeat(pa.scalar(column.default, pa.string()), n)
                columns.append(values)
            key = self._key(columns)
            again = _Part.of(columns, key, part.ordinal, self._hashes(key))
            again.kill(np.flatnonzero(~part.alive))
            self._parts[place] = again

    def entries(self) -> Iterator[ChangeBatch | CopyMarker]:
        """The table as changes that make it anew, from nothing."""
        if self.schema is None:
            return
        source, table = self.lookup.source, self.lookup.table
        yield CopyMarker(self.schema, source, table, "start", 0, first=True)
        for part in self._parts:
            mask = pa.array(part.alive)
            columns = part.columns if part.living == len(part.key) else [column.filter(mask) for column in part.columns]
            whole = replace(batch_from_columns(self.schema, columns, Op.READ, source=source, table=table), ordinal=part.ordinal[part.alive])
            for start in range(0, len(whole), _ROWS):
                yield whole.slice(start, start + _ROWS)
        if self.whole:
            yield CopyMarker(self.schema, source, table, "end", 0, first=True)


def check_key(lookup: Lookup, schema: TableSchema) -> None:
    """Raises ConfigError unless the lookup's key is what identifies the rows of its table."""
    if set(schema.key) == set(lookup.key):
        return
    identified = f"are identified by {', '.join(schema.key)}" if schema.key else "have no key"
    raise ConfigError(
        f"the lookup `{lookup.name}` has the key {', '.join(lookup.key)}, and the rows of {lookup.source}.{lookup.table} {identified}",
        hint=f"its `key` has to be that: [{', '.join(schema.key)}]" if schema.key else "give its dataset a `key`",
    )


def joined(keys: Sequence[pa.StringArray]) -> pa.StringArray:
    """One text for each key, different for different keys: with the lengths of its columns in front of them."""
    if len(keys) == 1:
        return keys[0]
    pieces = [piece for key in keys[:-1] for piece in (pc.binary_length(key).cast(pa.string()), key)]
    return pc.binary_join_element_wise(*pieces, keys[-1], ":")
