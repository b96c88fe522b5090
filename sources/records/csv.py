"""Messages that are one record of comma-separated values each, without a header: the fields in the schema's order."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from pipeline.errors import ConfigError
from sources.records.assembling import Careful, Rows, assembled, unreadable
from sources.records.base import Decoded, DecodeOptions, Decoder, Payload, RecordSchema
from sources.records.keys import KeyReader
from sources.records.text_rows import TextColumns

csv.field_size_limit(2**31 - 1)  # of the whole process; the size of a message is limited where it comes from

ODD = (csv.Error, UnicodeDecodeError)


class CsvDecoder(Decoder):
    """Quotes and newlines in them as RFC 4180 has them. An empty field is null."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions) -> None:
        if options.paths:
            raise ConfigError("fields of csv have no paths", hint="they come in the order of the schema")
        super().__init__(schema, options)
        self._columns = TextColumns(schema, len(self.schema.fields))
        self._keys = KeyReader(schema, {})

    def decode(self, payloads: Sequence[Payload]) -> Decoded:
        return assembled(self.schema, self._keys, payloads, self._read)

    def _read(self, values: Sequence[bytes]) -> Rows:
        records = _together(values) or [_alone(value) for value in values]
        width = len(self.given.fields)
        empty: list[str] = [""] * width
        refused: dict[int, Careful] = {}
        for row, cells in enumerate(records):
            if isinstance(cells, str):
                refused[row] = unreadable(len(self.schema.fields), row, cells, values[row])
            elif len(cells) != width:
                refused[row] = unreadable(len(self.schema.fields), row, miscounted(len(cells), width), values[row])
        whole = [empty if row in refused else cells for row, cells in enumerate(records)]
        return self._columns.read(list(zip(*whole, strict=True)) if whole else [()] * width, refused)


def miscounted(found: int, wanted: int) -> str:
    """What is said of a record that has too many or too few fields."""
    return "the record is empty" if not found else f"has {found} fields, and {wanted} are expected"


def _together(values: Sequence[bytes]) -> list[list[str] | str] | None:
    """All messages in one go; None where one of them is odd, which may have swallowed its neighbours."""
    try:
        found: list[list[str] | str] = [*csv.reader([value.decode() for value in values], strict=True)]
    except ODD:
        return None
    return found if len(found) == len(values) else None


def _alone(value: bytes) -> list[str] | str:
    """The fields of one message, or why it has none."""
    try:
        records = [*csv.reader(io.StringIO(value.decode(), newline=""), strict=True)]
    except ODD as error:
        return odd(error)
    if len(records) > 1:
        return "has more than one record"
    return records[0] if records else []


def odd(error: Exception) -> str:
    """Why a record cannot be split into fields."""
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 ({error.reason} at byte {error.start})"
    return f"is not CSV: {error}"
