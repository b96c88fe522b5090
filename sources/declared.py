"""What the records of a stream have to hold, for sources that no catalogue tells: what the source's block says, else the contract."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import Refused
from pipeline.names import nearest
from sources.base import SourceContext
from sources.records.base import Field, RecordSchema


def declared_records(schema: Mapping[str, str], stream: str, context: SourceContext) -> RecordSchema:
    """The fields of one stream; `schema` is what its block says of them. Rows that a map makes others of have no key of their own.

    Raises Refused where nothing says which fields there are, or the key names another.
    """
    declared = context.schemas.get(stream)
    dataset = context.tables.get(stream, stream)
    key: tuple[str, ...] = ()
    if stream not in context.mapped:
        key = context.keys.get(dataset) or (declared.key if declared is not None else ())
    if schema:
        fields = [Field(name, kind, name in key) for name, kind in schema.items()]
    elif declared is not None:
        fields = [Field(one.name, one.type, not one.nullable or one.name in key) for one in declared.columns]
    else:
        hint = "write `schema` in its block (field -> Postgres type), or give its dataset a contract"
        raise Refused(f"nothing says which fields the records of {stream} have", hint=hint)
    known = [one.name for one in fields]
    for name in key:
        if name not in known:
            raise Refused(f"{name}, of the key of {dataset}, is not in the schema of {stream}", hint=nearest(name, known))
    return RecordSchema(tuple(fields), tuple(key))
