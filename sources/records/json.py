"""Messages that are one JSON object each."""

from __future__ import annotations

from collections.abc import Sequence

from sources.records.assembling import assembled
from sources.records.base import Decoded, DecodeOptions, Decoder, Payload, RecordSchema
from sources.records.json_objects import JsonObjects, slots
from sources.records.keys import KeyReader


class JsonDecoder(Decoder):
    """The fields of the object are the columns; docs/records.md says which values fit which types."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions) -> None:
        super().__init__(schema, options)
        self._objects = JsonObjects(slots(schema, options), schema.names, options)
        self._keys = KeyReader(schema, options.paths)

    def decode(self, payloads: Sequence[Payload]) -> Decoded:
        return assembled(self.schema, self._keys, payloads, self._objects.read)
