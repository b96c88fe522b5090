"""An exported file that somebody has mended: what it sets in which record."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.exporting import ROW
from cli.records import MASKED, Masks, Quarantine, row_of
from journal.handling import MENDABLE
from journal.quarantine import QuarantineRecord
from pipeline.errors import ConfigError, Problem
from pipeline.names import nearest

_LONGEST_CELL = 1 << 30


@dataclass(frozen=True, slots=True)
class Mended:
    """What a file sets: by record, column -> text, or None for null. `lines` are those that records are on; others are `unchanged`."""

    patches: Mapping[str, Mapping[str, str | None]]
    lines: Mapping[str, int]
    unchanged: int


@dataclass(frozen=True, slots=True)
class _Line:
    """A record of the file. `row` has text, or None for null; `blank`: an empty cell may be either."""

    number: int
    told: Mapping[str, Any]
    row: Mapping[str, Any]
    blank: bool


def read_mended(file: Path, found: Quarantine, masks: Masks) -> Mended:
    """Compares a file with the records as they are. Raises ConfigError with every line that cannot be taken."""
    read = _FORMATS.get(file.suffix.lower())
    if read is None:
        raise ConfigError(f"{file} has no ending that says how to read it", hint=nearest(file.suffix, _FORMATS))
    problems: list[Problem] = []
    patches: dict[str, dict[str, str | None]] = {}
    lines: dict[str, int] = {}
    unchanged = 0
    try:
        for line in read(file):
            name = line.told.get("id")
            record = found.record(str(name)) if name else None
            why = _refusal(line, record, lines)
            if why is not None or record is None:
                problems.append(Problem(why or "", file, line.number))
                continue
            lines[record.id] = line.number
            patch = _changes(line, record, masks, problems, file)
            if patch:
                patches[record.id] = patch
            else:
                unchanged += 1
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if problems:
        raise ConfigError.of(problems)
    return Mended(patches, lines, unchanged)


def _refusal(line: _Line, record: QuarantineRecord | None, lines: Mapping[str, int]) -> str | None:
    """Why a line says nothing of a record that can be mended now."""
    name = line.told.get("id")
    if not name:
        return "the line has no `id`: it has to be one of an export"
    if record is None:
        return f"there is no record {name} in quarantine"
    if record.id in lines:
        return f"the record {name} stands on line {lines[record.id]} already"
    told = (line.told.get("status"), str(line.told.get("attempts")), line.told.get("patched_by") or None)
    if told != (record.status, str(record.attempts), record.patched_by):
        return f"the record {name} is not as it was when it was exported: it is {record.status} now"
    return None


def _changes(line: _Line, record: QuarantineRecord, masks: Masks, problems: list[Problem], file: Path) -> dict[str, str | None]:
    """The columns of which the file says something else than the record."""
    row = row_of(record)
    shown = masks(record, row) or {}
    patch: dict[str, str | None] = {}
    for name, value in line.row.items():
        if name not in row and (value is None or (line.blank and value == "")):
            continue  # the log did not carry it, and nobody gave it a value
        was = shown.get(name)
        text = _text(value)
        if (line.blank and not text and not was) or (name in row and text in (was, row[name])):
            continue
        if text == MASKED:
            problems.append(Problem(f"{record.id}: `{name}` is {MASKED}, which stands for a value that is not shown", file, line.number))
        elif record.status not in MENDABLE:
            problems.append(Problem(f"{record.id} cannot be mended: it is {record.status}", file, line.number))
            break
        else:
            patch[name] = None if line.blank and text == "" else text
    return patch


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    return json.dumps(value, ensure_ascii=False)


def _json_lines(file: Path) -> Iterator[_Line]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                told = json.loads(text)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            row = told.get("row") if isinstance(told, dict) else None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} has no `row`: it has to be one of an export")
            yield _Line(number, told, row, blank=False)


def _csv(file: Path) -> Iterator[_Line]:
    csv.field_size_limit(_LONGEST_CELL)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        if "id" not in (reader.fieldnames or ()):
            raise ValueError("it has no column `id`: it has to be an export")
        for told in reader:
            if None in told or None in told.values():
                raise ValueError(f"line {reader.line_num} has not as many cells as the first one")
            yield _Line(reader.line_num, told, _row(told), blank=True)


def _parquet(file: Path) -> Iterator[_Line]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as source:
            for batch in source.iter_batches():
                for told in batch.to_pylist():
                    number += 1
                    yield _Line(number, told, _row(told), blank=False)
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from error


def _row(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(ROW): value for name, value in told.items() if name.startswith(ROW)}


_FORMATS: dict[str, Callable[[Path], Iterator[_Line]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}
