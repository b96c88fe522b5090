"""Two sets of rows compared by hashes, on disk where they don't fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

_MEMORY = "512MB"


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
        for side in ("source", "sink"):
            self._db.execute(f"CREATE TABLE {side} (key VARCHAR NOT NULL, hash UHUGEINT NOT NULL)")

    def add(self, side: str, rows: pa.Table) -> None:
        """Adds rows to `source` or `sink`."""
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
        """Takes keys out of both sides, before they are looked at again."""
        self._db.register("forgotten", pa.table({"key": pa.array(list(keys), pa.string())}))
        for side in ("source", "sink"):
            self._db.execute(f"DELETE FROM {side} WHERE key IN (SELECT key FROM forgotten)")
        self._db.unregister("forgotten")

    def count(self, side: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {side}").fetchall()[0][0])

    def differences(self) -> list[Difference]:
        """Every key that is not the same on both sides, in no order."""
        grouped = "SELECT key, hash, count(*) AS n FROM {} GROUP BY key, hash"
        rows = self._db.execute(
            f"""
            SELECT key, sum(greatest(s - k, 0)) AS missing, sum(greatest(k - s, 0)) AS extra
            FROM (
                SELECT coalesce(a.key, b.key) AS key, coalesce(a.n, 0) AS s, coalesce(b.n, 0) AS k
                FROM ({grouped.format("source")}) AS a FULL JOIN ({grouped.format("sink")}) AS b ON a.key = b.key AND a.hash = b.hash
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
