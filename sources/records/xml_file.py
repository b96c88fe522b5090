"""XML files of many records: the elements of one name, one after the other, without the whole file in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple
from xml.etree.ElementTree import Element, tostring

import numpy as np
from defusedxml.ElementTree import iterparse

from journal.batch import Op
from sources.records.assembling import Careful, unreadable
from sources.records.base import Decoded, DecodeOptions, Payload, RecordSchema
from sources.records.files import BATCH, FileReader, FileRecords
from sources.records.lines import BATCH_BYTES, Broken, broken
from sources.records.xml import ODD, odd
from sources.records.xml_records import DEEPEST, XmlColumns


class _Record(NamedTuple):
    """One record as it was read; one that is `cut` has elements too deep inside of it, and is without these."""

    element: Element
    cut: bool


class XmlFile(FileReader):
    """Attributes and children of each `record` element are the fields; a record inside of a record is part of it."""

    unit = "record"

    def __init__(self, schema: RecordSchema, options: DecodeOptions, record: str | None = None) -> None:
        super().__init__(schema, options, record)
        self._columns = XmlColumns(schema, options, len(self.schema.fields))

    def read(self, stream: BinaryIO) -> Iterator[FileRecords]:
        number = 0
        pending: list[_Record | None] = []
        why: str | None = None
        counted = _Counted(stream)
        records = self._records(counted)
        while why is None:
            try:
                record = next(records, None)
            except Broken as error:
                why, record = str(error), None
            except ODD as error:
                why, record = odd(error), None
            if record is not None or why is not None:
                pending.append(record)
            if len(pending) >= BATCH or counted.bytes >= BATCH_BYTES or record is None:
                if pending:
                    yield self._decoded(pending, number, why)
                number += len(pending)
                pending = []
                counted.bytes = 0
            if record is None:
                return

    def _decoded(self, records: list[_Record | None], before: int, why: str | None) -> FileRecords:
        raw = [b"" if record is None else _bytes(record.element) for record in records]
        width = len(self.schema.fields)
        refused: dict[int, Careful] = {}
        for row, record in enumerate(records):
            if record is not None and record.cut:
                refused[row] = unreadable(width, row, "is nested too deeply", raw[row])
        if why is not None:
            last = len(records) - 1
            refused[last] = unreadable(width, last, broken(why), b"")
        elements = [None if record is None or record.cut else record.element for record in records]
        rows = self._columns.read(elements, raw, refused)
        decoded = Decoded(tuple(rows.columns), np.full(len(records), Op.INSERT, np.uint8), tuple(rows.defects), extra=rows.extra)
        numbers = np.arange(before + 1, before + len(records) + 1, dtype=np.int64)
        return FileRecords(numbers, [Payload(None, value) for value in raw], decoded)

    def _records(self, stream: _Counted) -> Iterator[_Record]:
        above: list[Element] = []
        inside = 0  # how many elements of the record's name are open
        outermost = 0  # how many elements are open around the first of these
        cut = False
        for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
            its_name = isinstance(element.tag, str) and element.tag.rpartition("}")[2] == self.record
            if event == "start":
                if its_name and not inside:
                    outermost, cut = len(above), False
                inside += its_name
                above.append(element)
                continue
            above.pop()
            inside -= its_name
            if inside and len(above) - outermost > DEEPEST:
                above[-1].remove(element)  # what is deeper cannot be written out, even for people to see
                cut = True
            if inside:
                continue
            if above:
                above[-1].remove(element)  # or what was read would stay in memory under its root
            if its_name:
                element.tail = None
                yield _Record(element, cut)


def _bytes(record: Element) -> bytes:
    found: bytes = tostring(record, encoding="utf-8")
    return found


class _Counted:
    """A stream that counts what is read of it; `bytes` is for its reader to set back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        found = self._stream.read(size)
        self.bytes += len(found)
        return found
