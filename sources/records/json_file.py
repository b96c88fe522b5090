"""Files with one JSON object a line. A line without anything on it is no record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from journal.batch import Op
from sources.records.assembling import overruled, unreadable
from sources.records.base import Decoded, DecodeOptions, Payload, RecordSchema
from sources.records.files import BATCH, FileReader, FileRecords
from sources.records.json_objects import JsonObjects, slots
from sources.records.lines import OddLine, batched, lines


class JsonFile(FileReader):
    """Reads JSON lines."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions, record: str | None = None) -> None:
        super().__init__(schema, options, record)
        self._objects = JsonObjects(slots(schema, options), schema.names, options)

    def read(self, stream: BinaryIO) -> Iterator[FileRecords]:
        number = 0
        width = len(self.schema.fields)
        for some in batched(lines(stream), BATCH, len):
            if number == 0 and not isinstance(some[0], OddLine):
                some[0] = some[0].removeprefix(b"\xef\xbb\xbf")
            found = [(place, line) for place, line in enumerate(some, number + 1) if line.strip() or isinstance(line, OddLine)]
            number += len(some)
            if not found:
                continue
            refused = {row: unreadable(width, row, line.reason, line) for row, (_, line) in enumerate(found) if isinstance(line, OddLine)}
            raw = [line.rstrip(b"\r\n") for _, line in found]
            rows = overruled(self._objects.read(raw), refused)
            decoded = Decoded(tuple(rows.columns), np.full(len(found), Op.INSERT, np.uint8), tuple(rows.defects), extra=rows.extra)
            yield FileRecords(np.array([place for place, _ in found], np.int64), [Payload(None, line) for line in raw], decoded)
