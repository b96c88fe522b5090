"""What the records of a stream have to hold, for sources that no catalogue tells: what the source's block says, else the contract."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator

from journal.types import parse_type
from pipeline.errors import Refused
from pipeline.file import Text
from pipeline.names import nearest
from sources.base import SourceContext
from sources.records.base import Field, RecordSchema


def _sound(schema: dict[str, str]) -> dict[str, str]:
    for name, kind in schema.items():
        try:
            parse_type(kind)
        except ValueError as error:
            raise ValueError(f"the type of `{name}`: {error}") from None
    return schema


FieldTypes = Annotated[dict[Text, Text], AfterValidator(_sound)]
"""`schema` in the block of a source: field -> Postgres type."""


def declared_records(schema: Mapping[str, str], paths: Iterable[str], stream: str, context: SourceContext) -> RecordSchema:
    """The fields of one stream; `schema` and `paths` are what its block says of them. Rows that a map makes others of have no key.

    Raises Refused where nothing says which fields there are, or the key or `paths` name another.
    """
    declared = context.schemas.get(stream)
    dataset = context.tables.get(stream, stream)
    key: tuple[str, ...] = ()
    if stream not in context.mapped:
        key = context.keys.get(dataset) or (declared.key if declared is not None else ())
    if schema:
        fields = [Field(name, kind, name in key) for name, kind in schema.items()]
    elif declared is not None:
        fields = [Field(one.name, one.type, one.name in key) for one in declared.columns]  # what is required, the gate judges
    else:
        hint = "write `schema` in its block (field -> Postgres type), or give its dataset a contract"
        raise Refused(f"nothing says which fields the records of {stream} have", hint=hint)
    known = [one.name for one in fields]
    problem = unknown_path(paths, known)
    if problem is not None:
        raise Refused(f"source {stream}: {problem}")
    for name in key:
        if name not in known:
            raise Refused(f"{name}, of the key of {dataset}, is not in the schema of {stream}", hint=nearest(name, known))
    return RecordSchema(tuple(fields), tuple(key))


def unknown_path(paths: Iterable[str], fields: Collection[str]) -> str | None:
    """What is wrong with paths of fields that are none of these; None if nothing is."""
    for name in paths:
        if name not in fields:
            hint = nearest(name, fields)
            return f"`{name}` is in `paths` and not in the schema" + (f": {hint}" if hint else "")
    return None
