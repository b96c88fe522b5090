"""Records in quarantine as a file: JSON lines, CSV or Parquet, by its ending."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.names import nearest

_PAGE = 1000
COLUMNS = (
    "id", "dataset", "source", "table", "sink", "operation", "key", "position", "status", "group", "rule", "column", "message", "value",
    "reasons", "attempts", "owner", "committed_at", "quarantined_at", "raw", "before", "after", "contract", "contract_version",
    "resolution", "trace_id", "patched_by", "approved_by",
)  # fmt: skip
"""Of CSV and Parquet: `rule` to `value` are of the first reason; `key`, `reasons`, `raw`, `before` and `after` are JSON.

Behind them comes a column for each of the row's: what was received, with what was fixed of it since, for somebody to mend.
"""
ROW = "row."
"""Before the name of such a column. JSON lines have them as an object, `row`."""

Record = Mapping[str, Any]


def export(records: Iterable[Record], out: Path, columns: Sequence[str]) -> int:
    """Writes records, as `show` gives them, and returns how many; `columns` are those that a row may have.

    The file appears whole, or not at all.

    Raises ConfigError for an ending that stands for no format, and where the file cannot be written.
    """
    write = _FORMATS.get(out.suffix.lower())
    if write is None:
        raise ConfigError(f"{out} has no ending that says how to write it", hint=nearest(out.suffix, _FORMATS))
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        counted = _Counted(records)
        write(counted, draft, columns)
        os.replace(draft, out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror or error}", hint="name another file with --out") from error
    finally:
        draft.unlink(missing_ok=True)
    return counted.number


class _Counted:
    """Records, counted as they go by."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.number = 0
        self._records = iter(records)

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            self.number += 1
            yield record


def _json_lines(records: Iterable[Record], out: Path, columns: Sequence[str]) -> None:
    with out.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _csv(records: Iterable[Record], out: Path, columns: Sequence[str]) -> None:
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _names(columns))
        writer.writeheader()
        writer.writerows(_flat(record, columns) for record in records)


def _names(columns: Sequence[str]) -> list[str]:
    return [*COLUMNS, *(ROW + name for name in columns)]


def _parquet(records: Iterable[Record], out: Path, columns: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = {"attempts": pa.int64()}
    schema = pa.schema([(name, whole.get(name, pa.string())) for name in _names(columns)])
    with pq.ParquetWriter(out, schema) as writer:
        source = iter(records)
        while page := [_flat(record, columns) for record in islice(source, _PAGE)]:
            writer.write_table(pa.Table.from_pylist(page, schema))


def _flat(record: Record, columns: Sequence[str]) -> dict[str, Any]:
    first = record["reasons"][0]
    row = {name: first[name] if name in ("rule", "column", "message", "value") else record[name] for name in COLUMNS}
    row |= {ROW + name: record["row"].get(name) for name in columns}
    return {name: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value for name, value in row.items()}


_FORMATS: dict[str, Callable[[Iterable[Record], Path, Sequence[str]], None]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}
