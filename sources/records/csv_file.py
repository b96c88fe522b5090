"""Files of comma-separated values whose first line is the header, by the lines in which their records begin."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import BinaryIO

import numpy as np

from journal.batch import Op
from sources.records.assembling import Careful, Rows, unreadable
from sources.records.base import Decoded, DecodeOptions, Payload, RecordSchema
from sources.records.connect import string
from sources.records.csv import ODD, miscounted, odd
from sources.records.files import BATCH, FileReader, FileRecords
from sources.records.lines import LONGEST as LARGEST
from sources.records.lines import OddLine, batched, lines
from sources.records.text_rows import TextColumns

LONGEST = 10_000  # lines of one record: a quote that is never closed takes no more of its file

Found = tuple[int, bytes, list[str] | str]  # the line, the lines as they are, the fields or why there are none


class CsvFile(FileReader):
    """Quotes and newlines in them as RFC 4180 has them. An empty field is null; a line without anything on it is no record."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions, record: str | None = None) -> None:
        super().__init__(schema, options, record)
        self._columns = TextColumns(schema, len(self.schema.fields))
        self._paths = [options.paths.get(field.name, field.name) for field in schema.fields]

    def read(self, stream: BinaryIO) -> Iterator[FileRecords]:
        records = _records(stream)
        header = next(records, None)
        if header is None:
            return
        names = header[2]
        wrong = self._unusable(names)
        if isinstance(names, str):
            records = chain([header], records)
        for found in batched(records, BATCH, lambda one: len(one[1])):
            rows = self._rows(found, names if isinstance(names, list) else [], wrong)
            decoded = Decoded(tuple(rows.columns), np.full(len(found), Op.INSERT, np.uint8), tuple(rows.defects), extra=rows.extra)
            yield FileRecords(np.array([line for line, _, _ in found], np.int64), [Payload(None, raw) for _, raw, _ in found], decoded)

    def _unusable(self, names: list[str] | str) -> str | None:
        """Why no record under this header can be read."""
        if isinstance(names, str):
            return f"the header {names}"
        twice = sorted({name for name in names if names.count(name) > 1 and name})
        if twice:
            return f"the header names {', '.join(map(repr, twice))} more than once"
        if not set(names) & set(self._paths):
            return "the header has none of the schema's fields"
        return None

    def _rows(self, found: Sequence[Found], names: Sequence[str], wrong: str | None) -> Rows:
        width = len(self.schema.fields)
        refused: dict[int, Careful] = {}
        whole: list[Sequence[str]] = []
        empty = [""] * len(names)
        for row, (_, raw, cells) in enumerate(found):
            reason = wrong or (cells if isinstance(cells, str) else None)
            if reason is None and len(cells) != len(names):
                reason = miscounted(len(cells), len(names))
            if reason is not None:
                refused[row] = unreadable(width, row, reason, raw)
            whole.append(empty if reason is not None or isinstance(cells, str) else cells)
        by_name: Mapping[str, Sequence[str]] = dict(zip(names, zip(*whole, strict=True), strict=True))
        lacking = [name for name in names if name not in self._paths]
        if lacking and self.options.extra == "quarantine":
            for row, (_, raw, _) in enumerate(found):
                refused.setdefault(row, unreadable(width, row, "has fields that the schema lacks: " + ", ".join(sorted(lacking)), raw))
        extra: list[Mapping[str, str]] = []
        if lacking:
            extra = [
                {name: string(value) if value else "null" for name, value in zip(lacking, values, strict=True)}
                for values in zip(*(by_name[name] for name in lacking), strict=True)
            ]
        return self._columns.read([by_name.get(path, empty_column(len(found))) for path in self._paths], refused, extra)


def empty_column(count: int) -> Sequence[str]:
    """The values of a field that the header does not have."""
    return ("",) * count


def _records(stream: BinaryIO) -> Iterator[Found]:
    """Every record of a file. After one that is odd, reading goes on in the line behind the one where that began."""
    given = _Lines(stream)
    while True:
        reader = csv.reader(given, strict=True)
        try:
            for cells in reader:
                line, raw = given.taken()
                if not cells:
                    continue
                yield (line, raw, "is not UTF-8" if not _is_text(raw) else cells)
            return
        except ODD as error:
            line, raw = given.back()
            yield line, raw.rstrip(b"\r\n"), raw.reason if isinstance(raw, OddLine) else odd(error)


def _is_text(raw: bytes) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Lines:
    """The lines of a file as csv wants them, which remembers those of the record that is being read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = lines(stream)
        self._size = 0  # of those which are of no finished record, in bytes
        self._number = 0  # of lines that csv was given
        self._since: list[bytes] = []  # those which are of no finished record
        self._again: list[bytes] = []  # those to be given again, the last one first

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self._since) >= LONGEST:
            raise csv.Error(f"a quote is open for {LONGEST} lines")
        if self._size > LARGEST:
            raise csv.Error(f"a quote is open for {LARGEST >> 20} MiB")
        line = self._again.pop() if self._again else next(self._stream)
        if self._number == 0 and not isinstance(line, OddLine):
            line = line.removeprefix(b"\xef\xbb\xbf")
        self._number += 1
        self._size += len(line)
        self._since.append(line)
        if isinstance(line, OddLine):
            raise csv.Error(line.reason)
        return line.decode("utf-8", "surrogateescape")

    def taken(self) -> tuple[int, bytes]:
        """Where the record that ended began, and its lines."""
        since, self._since, self._size = self._since, [], 0
        return self._number - len(since) + 1, b"".join(since).rstrip(b"\r\n")

    def back(self) -> tuple[int, bytes]:
        """The first line of a record that has no end; what was read behind it comes again."""
        first, *rest = self._since
        self._since, self._size = [], 0
        self._again += reversed(rest)
        self._number -= len(rest)
        return self._number, first
