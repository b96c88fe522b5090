"""How rows become messages and messages rows: what every format of a Kafka sink can do, and the two that are JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Longs, Mask
from journal.schema import Column, TableSchema
from journal.trace_context import PARENT, STATE
from sinks.kafka_json import JSONS, columns_of, objects, pg_type, quoted, rfc3339

Header = tuple[str, bytes]
Encoded = tuple[pa.Array, Mapping[int, Mask]]
"""A string or binary array, and for each column (of those given) with values that do not fit bool[] of those."""

POSITION = "sluice-position"
_CONTENT_TYPE = "content-type"


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What there is to say of m messages beside their rows.

    op        string array[m], the words of Op: what happened to the row; the key that a row has left was deleted
    position  int64[m], `_sluice_position`; time int64[m], microseconds since 1970 UTC
    ids       string array[m], unique in the dataset
    put       bool[m]: the message has a value
    parents   string array[m], `traceparent`; states string array[m], `tracestate`, or None where no message has one
    """

    op: pa.StringArray
    position: Longs
    time: Longs
    ids: pa.StringArray
    put: Mask
    parents: pa.StringArray
    states: pa.StringArray | None = None

    def take(self, rows: Mask) -> Facts:
        chosen = pa.array(rows)
        op, ids, parents = (one.filter(chosen) for one in (self.op, self.ids, self.parents))
        states = None if self.states is None else self.states.filter(chosen)
        return Facts(op, self.position[rows], self.time[rows], ids, self.put[rows], parents, states)

    @property
    def moments(self) -> pa.StringArray:
        """`time` as RFC 3339 writes it."""
        return rfc3339(pc.binary_join_element_wise(pa.array(self.time).cast(pa.timestamp("us")).cast(pa.string()), "+00", ""), zoned=True)


class Format(ABC):
    """How the rows of one pipeline's datasets are written."""

    name: ClassVar[str]

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline

    def plan(self, topic: str, schema: TableSchema) -> Sequence[str]:
        """What `prepare` would change outside of the topic, in words."""
        return ()

    def prepare(self, topic: str, schema: TableSchema) -> None:  # noqa: B027  (JSON needs nothing)
        """Before the first row of a schema. Raises a TerminalError where readers could not go on."""

    def keys(self, topic: str, schema: TableSchema, columns: Sequence[pa.StringArray]) -> Encoded:
        """The keys of messages: a JSON object of the key columns, in the key's order."""
        return objects(key_columns(schema), columns)

    @abstractmethod
    def values(self, topic: str, schema: TableSchema, columns: Sequence[pa.StringArray], facts: Facts) -> Encoded:
        """The values of messages; `facts` are of these alone."""

    @abstractmethod
    def headers(self, schema: TableSchema, facts: Facts) -> Iterator[list[Header]]:
        """The headers of each message but for `tracestate`, made as they are asked for: ten thousand lists at once would keep the
        garbage collector busy."""

    @abstractmethod
    def held(self, schema: TableSchema, columns: Sequence[pa.StringArray]) -> list[pa.StringArray]:
        """Columns as `rows` gives them back."""

    @abstractmethod
    def rows(self, schema: TableSchema, values: Sequence[bytes]) -> list[pa.StringArray]:
        """The columns of messages that were read; null where a message has no such column."""

    def close(self) -> None:  # noqa: B027
        """Lets go of connections."""


def key_columns(schema: TableSchema) -> list[Column]:
    """The columns of the key, in its order."""
    return [schema.columns[k] for k in schema.key_indices]


def positions(facts: Facts) -> list[bytes]:
    """`_sluice_position` of each message as digits."""
    found: list[bytes] = pa.array(facts.position).cast(pa.string()).cast(pa.binary()).to_pylist()
    return found


def parents(facts: Facts) -> list[bytes]:
    """`traceparent` of each message."""
    found: list[bytes] = facts.parents.cast(pa.binary()).to_pylist()
    return found


def plain_headers(content_type: str | None, facts: Facts) -> Iterator[list[Header]]:
    """The position, the trace, and what kind of value it is where there is one."""
    each = zip(positions(facts), parents(facts), facts.put.tolist(), strict=True)
    if content_type is None:
        return ([(POSITION, at), (PARENT, parent)] for at, parent, _ in each)
    kind = (_CONTENT_TYPE, content_type.encode())
    return ([kind, (POSITION, at), (PARENT, parent)] if put else [(POSITION, at), (PARENT, parent)] for at, parent, put in each)


def with_states(headers: Iterator[list[Header]], states: pa.StringArray) -> Iterator[list[Header]]:
    """The headers with `tracestate`, where a message has one."""
    for one, state in zip(headers, states.cast(pa.binary()).to_pylist(), strict=True):
        yield one if state is None else [*one, (STATE, state)]


class JsonFormat(Format):
    """A row is a JSON object."""

    name = "json"

    def values(self, topic: str, schema: TableSchema, columns: Sequence[pa.StringArray], facts: Facts) -> Encoded:
        return objects(schema.columns, columns)

    def headers(self, schema: TableSchema, facts: Facts) -> Iterator[list[Header]]:
        return plain_headers("application/json", facts)

    def held(self, schema: TableSchema, columns: Sequence[pa.StringArray]) -> list[pa.StringArray]:
        return [_without_json_null(column, text) for column, text in zip(schema.columns, columns, strict=True)]

    def rows(self, schema: TableSchema, values: Sequence[bytes]) -> list[pa.StringArray]:
        return columns_of(schema.columns, values)


def _without_json_null(column: Column, text: pa.StringArray) -> pa.StringArray:
    """In a JSON object the null of SQL and that of JSON are the same."""
    kind = pg_type(column.type)
    if kind.base not in JSONS or kind.array:
        return text
    return pc.if_else(pc.equal(pc.ascii_trim_whitespace(text), "null"), None, text)


class BinaryCloudEvents(JsonFormat):
    """CloudEvents 1.0, binary mode of its Kafka binding: the attributes are headers, the row is the value."""

    name = "cloudevents"

    def headers(self, schema: TableSchema, facts: Facts) -> Iterator[list[Header]]:
        kind = (_CONTENT_TYPE, b"application/json")
        version = ("ce_specversion", b"1.0")
        source = ("ce_source", self.source(schema).encode())
        types = {word: ("ce_type", f"{schema.dataset}.{word}".encode()) for word in facts.op.unique().to_pylist()}
        each = (facts.op.to_pylist(), *(one.cast(pa.binary()).to_pylist() for one in (facts.ids, facts.moments)))
        for word, number, moment, at, parent, put in zip(*each, positions(facts), parents(facts), facts.put.tolist(), strict=True):
            event = [version, ("ce_id", number), source, types[word], ("ce_time", moment), (POSITION, at), (PARENT, parent)]
            yield [kind, *event] if put else event

    def source(self, schema: TableSchema) -> str:
        """The attribute `source` of a dataset's events."""
        return f"/sluice/{self.pipeline}/{quote(schema.dataset, safe='')}"


_envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])


class StructuredCloudEvents(BinaryCloudEvents):
    """CloudEvents 1.0, structured mode: the value is a JSON object of the attributes, with the row as its `data`."""

    def values(self, topic: str, schema: TableSchema, columns: Sequence[pa.StringArray], facts: Facts) -> Encoded:
        data, bad = objects(schema.columns, columns)
        source = msgspec.json.encode(self.source(schema)).decode()
        kinds = quoted(pc.binary_join_element_wise(schema.dataset, facts.op, "."))
        before = ['{"specversion":"1.0","id":"', facts.ids, f'","source":{source},"type":', kinds, ',"time":"', facts.moments]
        return pc.binary_join_element_wise(*before, '","datacontenttype":"application/json","data":', data, "}", ""), bad

    def headers(self, schema: TableSchema, facts: Facts) -> Iterator[list[Header]]:
        return plain_headers("application/cloudevents+json", facts)

    def rows(self, schema: TableSchema, values: Sequence[bytes]) -> list[pa.StringArray]:
        return super().rows(schema, [_data(value) for value in values])


def _data(value: bytes) -> bytes:
    try:
        return bytes(_envelope.decode(value)["data"])
    except msgspec.DecodeError:  # half of a surrogate pair in the row; the row is the last member
        return value[value.index(b',"data":') + 8 : -1]


def numbered(position: Longs, left: Mask) -> pa.StringArray:
    """Ids of messages: the position; a key that was left is a message of its own."""
    text = pa.array(position).cast(pa.string())
    return pc.binary_join_element_wise(text, pa.array(np.where(left, "-left", "")), "") if left.any() else text
