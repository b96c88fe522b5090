"""Messages that are one XML document each; its root is the record. A DTD is refused, whatever it says."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from sources.records.assembling import Careful, Rows, assembled, unreadable
from sources.records.base import Decoded, DecodeOptions, Decoder, Payload, RecordSchema
from sources.records.keys import KeyReader
from sources.records.xml_records import XmlColumns

ODD = (ParseError, DefusedXmlException, ValueError, LookupError)


class XmlDecoder(Decoder):
    """Attributes and children of the root are the fields; namespaces do not count."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions) -> None:
        super().__init__(schema, options)
        self._columns = XmlColumns(schema, options, len(self.schema.fields))
        self._keys = KeyReader(schema, options.paths)

    def decode(self, payloads: Sequence[Payload]) -> Decoded:
        return assembled(self.schema, self._keys, payloads, self._read)

    def _read(self, values: Sequence[bytes]) -> Rows:
        roots: list[Element | None] = []
        refused: dict[int, Careful] = {}
        for row, value in enumerate(values):
            try:
                roots.append(fromstring(value, forbid_dtd=True))
            except ODD as error:
                roots.append(None)
                refused[row] = unreadable(len(self.schema.fields), row, odd(error) if value.strip() else "the message is empty", value)
        return self._columns.read(roots, values, refused)


def odd(error: Exception) -> str:
    """Why bytes are no XML document that is read here."""
    if isinstance(error, DefusedXmlException):
        return "has a DTD or entities of its own, which are refused"
    return f"is not XML: {error}"
