"""Records for tests: a decoder made in one line, and what it answered as rows of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sources.records.base import Decoded, DecodeOptions, Decoder, Field, Payload, RecordSchema, make_decoder

Row = dict[str, str | None]


def schema(fields: Mapping[str, str], key: Sequence[str] = (), required: Sequence[str] = ()) -> RecordSchema:
    """A schema of name -> type."""
    return RecordSchema(tuple(Field(name, kind, name in required) for name, kind in fields.items()), tuple(key))


def decoder(format: str, fields: Mapping[str, str], key: Sequence[str] = (), required: Sequence[str] = (), **options: Any) -> Decoder:
    """A decoder for name -> type."""
    return make_decoder(format, schema(fields, key, required), DecodeOptions(**options))


def decode(decoder: Decoder, *values: bytes | str | Payload | None) -> Decoded:
    """What a decoder makes of messages, which are checked to be sound columns, one row a message."""
    payloads = [
        value if isinstance(value, Payload) else Payload(None, value.encode() if isinstance(value, str) else value) for value in values
    ]
    found = decoder.decode(payloads)
    assert len(found) == len(payloads)
    assert len(found.columns) == len(decoder.schema.fields)
    for column in (*found.columns, *found.old.values()):
        assert len(column) == len(payloads)
        column.validate(full=True)
    assert all(0 <= defect.row < len(payloads) for defect in found.defects)
    return found


def rows(decoder: Decoder, found: Decoded) -> list[Row]:
    """The rows, by the names of their columns."""
    columns = [column.to_pylist() for column in found.columns]
    return [dict(zip(decoder.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def reasons(found: Decoded) -> dict[int, list[tuple[str | None, str]]]:
    """Row -> column and message of each of its defects."""
    said: dict[int, list[tuple[str | None, str]]] = {}
    for defect in found.defects:
        said.setdefault(defect.row, []).append((defect.column, defect.message))
    return said


def one(decoder: Decoder, value: bytes | str | Payload | None) -> Row:
    """The one row of a message that is sound."""
    found = decode(decoder, value)
    assert not found.defects, found.defects
    return rows(decoder, found)[0]


def refusal(decoder: Decoder, value: bytes | str | Payload | None) -> tuple[str | None, str]:
    """Column and message of the one defect of a message."""
    found = decode(decoder, value)
    assert len(found.defects) == 1, found.defects
    return found.defects[0].column, found.defects[0].message
