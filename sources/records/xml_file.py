"""XML files of many records: the elements of one name, one after the other, without the whole file in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO
from xml.etree.ElementTree import Element, tostring

import numpy as np
from defusedxml.ElementTree import iterparse

from journal.batch import Op
from sources.records.assembling import Careful, unreadable
from sources.records.base import Decoded, DecodeOptions, Payload, RecordSchema
from sources.records.files import BATCH, FileReader, FileRecords
from sources.records.xml import ODD, odd
from sources.records.xml_records import XmlColumns


class XmlFile(FileReader):
    """Attributes and children of each `record` element are the fields; a record inside of a record is part of it."""

    unit = "record"

    def __init__(self, schema: RecordSchema, options: DecodeOptions, record: str | None = None) -> None:
        super().__init__(schema, options, record)
        self._columns = XmlColumns(schema, options, len(self.schema.fields))

    def read(self, stream: BinaryIO) -> Iterator[FileRecords]:
        number = 0
        pending: list[Element | None] = []
        broken: str | None = None
        records = self._records(stream)
        while broken is None:
            try:
                record = next(records, None)
            except ODD as error:
                broken = odd(error)
                record = None
            if record is not None or broken is not None:
                pending.append(record)
            if len(pending) >= BATCH or record is None:
                if pending:
                    yield self._decoded(pending, number, broken)
                number += len(pending)
                pending = []
            if record is None:
                return

    def _decoded(self, records: list[Element | None], before: int, broken: str | None) -> FileRecords:
        raw = [b"" if record is None else _bytes(record) for record in records]
        refused: dict[int, Careful] = {}
        if broken is not None:
            last = len(records) - 1
            refused[last] = unreadable(len(self.schema.fields), last, f"the file {broken}; nothing behind this is read", b"")
        rows = self._columns.read(records, raw, refused)
        decoded = Decoded(tuple(rows.columns), np.full(len(records), Op.INSERT, np.uint8), tuple(rows.defects), extra=rows.extra)
        numbers = np.arange(before + 1, before + len(records) + 1, dtype=np.int64)
        return FileRecords(numbers, [Payload(None, value) for value in raw], decoded)

    def _records(self, stream: BinaryIO) -> Iterator[Element]:
        above: list[Element] = []
        inside = 0  # how many elements of the record's name are open
        for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
            its_name = isinstance(element.tag, str) and element.tag.rpartition("}")[2] == self.record
            if event == "start":
                inside += its_name
                above.append(element)
                continue
            above.pop()
            inside -= its_name
            if inside:
                continue
            if above:
                above[-1].remove(element)  # or what was read would stay in memory under its root
            if its_name:
                element.tail = None
                yield element


def _bytes(record: Element) -> bytes:
    found: bytes = tostring(record, encoding="utf-8")
    return found
