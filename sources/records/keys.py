"""The key of a message without a value: which row it deletes.

It is the text of the key column's value, or a JSON object with the key columns (Debezium's schema and payload around it too).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pipeline.errors import ConfigError
from sources.records.base import RecordSchema
from sources.records.connect import connect_type, described
from sources.records.json_types import json_type
from sources.records.scalars import Unfit, pg_type, scalar_reader

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()


class KeyReader:
    """Reads the keys of one schema; `paths` are where its fields stand in values, whose last name a key may use."""

    def __init__(self, schema: RecordSchema, paths: Mapping[str, str]) -> None:
        types = {field.name: pg_type(field.type) for field in schema.fields}
        missing = [name for name in schema.key if name not in types]
        if missing:
            raise ConfigError(f"the key has {', '.join(missing)}, which the schema does not", hint="add it to `schema`")
        self._columns = tuple((name, types[name]) for name in schema.key)
        self._paths = paths

    def read(self, key: bytes | None) -> dict[str, str]:
        """Key column -> Postgres' text. Raises Unfit for a key that does not name a row."""
        if not self._columns:
            raise Unfit("a message without a value deletes the row of its key, and these records have no key")
        if not key:
            raise Unfit("the message has neither a value nor a key")
        found = self._object(key)
        if found is not None:
            return self._from_object(*found)
        if len(self._columns) > 1:
            raise Unfit("the key is no JSON object with the columns " + ", ".join(name for name, _ in self._columns))
        name, kind = self._columns[0]
        try:
            return {name: scalar_reader(kind, loose=True)(key.decode())}
        except UnicodeDecodeError as error:
            raise Unfit(f"the key is not UTF-8 ({error.reason} at byte {error.start})") from error
        except Unfit as error:
            raise Unfit(f"the key: {error}") from error

    def _object(self, key: bytes) -> tuple[Mapping[str, msgspec.Raw], Mapping[str, object]] | None:
        """The members of a key that is a JSON object, and Connect's descriptions of them; None where it is no object."""
        if not key.lstrip().startswith(b"{"):
            return None
        try:
            key.decode()
            members = _OBJECT.decode(key)
            if members.keys() == {"schema", "payload"}:
                schema = _ANY.decode(members["schema"])
                inner = _ANY.decode(members["payload"]) if bytes(members["payload"])[:1] != b"{" else None
                if inner is None:
                    return _OBJECT.decode(members["payload"]), described(schema)
                one = self._columns[0][0]
                return {one: members["payload"]}, {one: schema}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if len(self._columns) > 1:
                return {}, {}
            return None
        return members, {}

    def _from_object(self, members: Mapping[str, msgspec.Raw], connect: Mapping[str, object]) -> dict[str, str]:
        texts: dict[str, str] = {}
        for name, kind in self._columns:
            place = self._under(members, name)
            token = bytes(members.get(place, b"null"))
            read = (connect_type(connect[place], kind) if place in connect else json_type(kind)).read
            try:
                text = read(token)
            except Unfit as error:
                raise Unfit(f"the key's {name}: {error}") from error
            if text is None:
                raise Unfit(f"the key has no {name}")
            texts[name] = text
        return texts

    def _under(self, members: Mapping[str, object], name: str) -> str:
        """What a key column is called in the key: its own name, or the last one of its path."""
        return name if name in members else self._paths.get(name, name).rpartition(".")[2]
