"""Two sets of rows compared by hashes, on disk where they don't fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

_MEMORY = "512MB"
_SIDES = ("source", "sink", "after")


@dataclass(frozen=True, slots=True)
class Difference:
    """One key (JSON text; for rows without a key the whole row) and what is the matter: missing, extra or different in the sink."""

    key: str
    kind: str
    times: int = 1


class Comparison:
    """Rows of a source and of a sink, both as text columns of the same names.

    A row is kept as its key and a 128-bit hash of all its columns. Without key columns rows are compared as multisets.
    """

    def __init__(self, key: Sequence[str], columns: Sequence[str], folder: Path) -> None:
        self._key = list(key)
        self._columns = list(columns)
        self._db = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": _MEMORY, "temp_directory": str(folder)})
        for side in _SIDES:
            self._db.execute(f"CREATE TABLE {side} (key VARCHAR NOT NULL, hash UHUGEINT NOT NULL)")

    def add(self, side: str, rows: pa.Table) -> None:
        """Adds rows to `source`, to `sink`, or to `after`: the source once more, after the sink was read."""
        if not rows.num_rows:
            return
        self._db.register("incoming", rows.select(self._columns))
        whole = _json(self._columns)
        key = _json(self._key) if self._key else whole
        self._db.execute(f"INSERT INTO {side} SELECT {key}, md5_number({whole}) FROM incoming")
        self._db.unregister("incoming")

    def keys(self, rows: pa.Table) -> list[str]:
        """The keys of rows, which need no other columns, in their order."""
        self._db.register("incoming", rows)
        found = self._db.execute(f"SELECT {_json(self._key or self._columns)} FROM incoming").fetchall()
        self._db.unregister("incoming")
        return [key for (key,) in found]

    def forget(self, keys: Iterable[str]) -> None:
        """Takes keys out of every side, before they are looked at again."""
        self._db.register("forgotten", pa.table({"key": pa.array(list(keys), pa.string())}))
        for side in _SIDES:
            self._db.execute(f"DELETE FROM {side} WHERE key IN (SELECT key FROM forgotten)")
        self._db.unregister("forgotten")

    def count(self, side: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {side}").fetchall()[0][0])

    def clear(self) -> None:
        """Takes everything out."""
        for side in _SIDES:
            self._db.execute(f"DELETE FROM {side}")

    def differences(self) -> list[Difference]:
        """Every key that is not the same at the source and in the sink, in no order."""
        return self._between("source", "sink")

    def moved(self, keys: Iterable[str]) -> set[str]:
        """Which of the keys changed at the source between its two looks."""
        self._db.register("asked", pa.table({"key": pa.array(list(keys), pa.string())}))
        found = self._between("(SELECT * FROM source WHERE key IN (SELECT key FROM asked))", "after")
        self._db.unregister("asked")
        return {one.key for one in found}

    def _between(self, left: str, right: str) -> list[Difference]:
        grouped = "SELECT key, hash, count(*) AS n FROM {} GROUP BY key, hash"
        rows = self._db.execute(
            f"""
            SELECT key, sum(greatest(l - r, 0)) AS missing, sum(greatest(r - l, 0)) AS extra
            FROM (
                SELECT coalesce(a.key, b.key) AS key, coalesce(a.n, 0) AS l, coalesce(b.n, 0) AS r
                FROM ({grouped.format(left)}) AS a FULL JOIN ({grouped.format(right)}) AS b ON a.key = b.key AND a.hash = b.hash
                WHERE a.n IS DISTINCT FROM b.n
            ) GROUP BY key
            """
        ).fetchall()
        return [Difference(key, _kind(int(missing), int(extra)), max(int(missing), int(extra))) for key, missing, extra in rows]

    def close(self) -> None:
        self._db.close()


def _kind(missing: int, extra: int) -> str:
    return "different" if missing and extra else "missing" if missing else "extra"


def _json(columns: Sequence[str]) -> str:
    quoted = (f"CAST({_quoted(name)} AS VARCHAR)" for name in columns)
    return f"CAST(to_json(list_value({', '.join(quoted)})) AS VARCHAR)"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
