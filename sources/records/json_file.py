"""Files with one JSON object a line. A line without anything on it is no record."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

import numpy as np

from journal.batch import Op
from sources.records.base import Decoded, DecodeOptions, Payload, RecordSchema
from sources.records.files import BATCH, FileReader, FileRecords
from sources.records.json_objects import JsonObjects, slots


class JsonFile(FileReader):
    """Reads JSON lines."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions, record: str | None = None) -> None:
        super().__init__(schema, options, record)
        self._objects = JsonObjects(slots(schema, options), schema.names, options)

    def read(self, stream: BinaryIO) -> Iterator[FileRecords]:
        number = 0
        while lines := list(islice(stream, BATCH)):
            if number == 0:
                lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            found = [(place, line.rstrip(b"\r\n")) for place, line in enumerate(lines, number + 1) if line.strip()]
            number += len(lines)
            if not found:
                continue
            rows = self._objects.read([line for _, line in found])
            decoded = Decoded(tuple(rows.columns), np.full(len(found), Op.INSERT, np.uint8), tuple(rows.defects), extra=rows.extra)
            yield FileRecords(np.array([place for place, _ in found], np.int64), [Payload(None, line) for _, line in found], decoded)
