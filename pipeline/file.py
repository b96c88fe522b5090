"""The pipeline file's shape: pydantic models of what a person writes. `sluice schema` prints their JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.kafka_options import OURS, Options, Servers, TopicPrefix, Written, checked
from pipeline.model import Block, PathFromFile

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(|[kKMGT]i?)B?\s*$")
_TIME = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(|ms|s|m|h|d)\s*$")
_POWER = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _bytes(value: object) -> object:
    found = _SIZE.match(value) if isinstance(value, str) else None
    if found is None:
        if isinstance(value, str):
            raise ValueError("a size is a number of bytes, or text such as 500MB or 20GB")
        return value
    base = 1024 if found[2].endswith("i") else 1000
    return int(float(found[1]) * base ** _POWER[found[2].rstrip("i")])


def _seconds(value: object) -> object:
    found = _TIME.match(value) if isinstance(value, str) else None
    if found is None:
        if isinstance(value, str):
            raise ValueError("a time is a number of seconds, or text such as 30s, 10m, 12h or 2d")
        return value
    return float(found[1]) * _SECONDS[found[2]]


def is_name(text: str) -> bool:
    """Whether a pipeline, a source or a sink can be called this."""
    return _NAME.fullmatch(text) is not None


def _name(value: str) -> str:
    if not is_name(value):
        raise ValueError("a name has 1 to 63 letters, digits, _ and -, and begins with a letter or digit")
    return value


def _dataset_name(value: str) -> str:
    if not value or len(value.encode()) > 255 or not value.isprintable():
        raise ValueError("the name of a dataset has 1 to 255 bytes, all printable")
    return value


def _once(values: list[str]) -> list[str]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is there twice")
    return values


Size = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=int | str), Field(gt=0)]
Duration = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=float | str), Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, AfterValidator(_name)]
DatasetName = Annotated[str, AfterValidator(_dataset_name)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[
    list[Text],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
    AfterValidator(_once),
]


class JournalBlock(Block):
    """Where changes are kept until every sink has them."""

    type: Literal["local", "kafka"] = "local"
    """`local`: one file in the state folder. `kafka`: topics, of which every state folder has a copy."""
    bootstrap_servers: Servers | None = None
    """Of `kafka`: some of the brokers, as HOST:PORT, separated by commas."""
    prefix: TopicPrefix = "sluice"
    """Of `kafka`: what the names of its topics begin with."""
    partitions: Annotated[int, Field(ge=1, le=1000)] = 8
    """Of `kafka`: partitions of the topic of changes; so many workers can share a sink at most."""
    options: Annotated[Options, BeforeValidator(checked(OURS), json_schema_input_type=Written)] = Field(default_factory=dict)
    """Of `kafka`: librdkafka's own options: `security.protocol`, `sasl.mechanism` and whatever else the brokers ask for."""
    max_size: Size = 20 * 10**9
    """At this size reading pauses until the sinks have caught up."""
    retention: Duration | None = None
    """How long changes are kept after every sink has them; by default an hour, while that takes no more than 256 MB."""

    @model_validator(mode="after")
    def _whole(self) -> JournalBlock:
        if self.type == "kafka" and self.bootstrap_servers is None:
            raise ValueError("`type: kafka` needs `bootstrap_servers`")
        if self.type == "local" and (foreign := sorted(self.model_fields_set & {"bootstrap_servers", "prefix", "partitions", "options"})):
            raise ValueError(f"`{foreign[0]}` is of `type: kafka`")
        return self


class FeedBlock(Block):
    """One source of a dataset."""

    source: Text
    """The table: `SOURCE.schema.table`; or the source alone, where that is one stream (a topic, a folder of files)."""
    map: Text | None = None
    """What makes the dataset's rows of it: a file of SQL (`SELECT … FROM input`), or a Python function on Arrow tables, by dotted name."""


def _feeds(value: object) -> object:
    """A name stands for a block that says only the source; one stands for a list of one."""
    return [{"source": item} if isinstance(item, str) else item for item in (value if isinstance(value, list) else [value])]


class DatasetBlock(Block):
    """What a table is called, who judges it, and what identifies its rows."""

    from_: Annotated[
        list[FeedBlock], BeforeValidator(_feeds, json_schema_input_type=str | FeedBlock | list[str | FeedBlock]), Field(min_length=1)
    ] = Field(alias="from")
    """Where its rows come from: `SOURCE.schema.table`, or the source alone where that is one stream. Several are merged in the order of
    their arrival."""
    key: Names = Field(default_factory=list)
    """The columns that identify a row; by default the table's replica identity."""
    contract: PathFromFile | None = None
    """The contract that its rows are judged by, in the Open Data Contract Standard."""
    enrich: Text | None = None
    """A file of SQL (`SELECT … FROM input LEFT JOIN LOOKUP ON …`) that makes more of rows which the contract has passed."""
    order_by: Text | None = None
    """The column that says which of two rows with one key is newer, where rows carry it; by default the one that arrived last is."""


def _null(value: object) -> object:
    """The word that YAML takes for nothing."""
    return "null" if value is None else value


class LookupBlock(Block):
    """A table that `enrich` joins by its key."""

    source: Text
    """The table: `SOURCE.schema.table`; or the source alone, where that is one stream. One that `tables` does not have goes to no sink."""
    key: Annotated[Names, Field(min_length=1)]
    """The columns that identify its rows."""
    on_missing: Annotated[
        Literal["null", "quarantine", "wait"],
        BeforeValidator(_null, json_schema_input_type=Literal["null", "quarantine", "wait"] | None),
    ] = "null"
    """What becomes of a row that it has nothing for: `null` for its columns, `quarantine`, or `wait` for `wait_seconds` at most."""
    wait_seconds: Duration = 60.0
    """How long such a row waits; then it goes to quarantine."""


class RouteBlock(Block):
    """How one dataset goes into one sink."""

    table: Text | None = None
    """The table's name in the sink; by default the dataset's."""
    where: Text | None = None
    """Only rows for which this SQL condition holds; a row that an update moves out of it is deleted in the sink."""
    columns: dict[str, Text] = Field(default_factory=dict)
    """Columns that go otherwise: `drop`, `mask(hash)`, `mask(redact)`, `mask(partial)`, `cast(TYPE)`."""
    mode: Literal["mirror", "history"] = "mirror"
    """`mirror`: the table as it is at the source. `history`: every change, appended."""
    on_delete: Literal["delete", "soft", "ignore"] = "delete"
    """`soft` keeps the row, with the time in `_sluice_deleted_at`."""
    on_truncate: Literal["truncate", "ignore"] = "truncate"
    """What a TRUNCATE at the source does in the sink."""


class MonitoringBlock(Block):
    """Where each process answers /health and /metrics: `ingest` on `port`, the sinks on the ports after it, in the file's order."""

    host: Text = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """The port of `ingest`."""


class PipelineFile(Block):
    """A pipeline: where changes come from, what they are called, and where they go."""

    pipeline: Name
    """Its name. Slots, publications and the state folder are named after it."""
    owner: Text | None = None
    """Whom to turn to, such as an address."""
    state: PathFromFile | None = None
    """The folder of the journal and the state; by default `.sluice/PIPELINE` beside the file."""
    journal: JournalBlock = JournalBlock()
    """Where changes are kept until every sink has them."""
    monitoring: MonitoringBlock | None = None
    """Where each process answers /health and /metrics; without it none does."""
    alerts: Any = None
    """Who is told of trouble, and how often; without it nobody is."""
    sources: Annotated[dict[Name, Any], Field(min_length=1)]
    """Name -> source. `type` says of which kind."""
    datasets: dict[DatasetName, Any] = Field(default_factory=dict)
    """Name -> dataset. Tables that none of them names are datasets under their bare name."""
    lookups: dict[Name, Any] = Field(default_factory=dict)
    """Name -> table that `enrich` of a dataset joins."""
    sinks: Annotated[dict[Name, Any], Field(min_length=1)]
    """Name -> sink. `type` says of which kind; `datasets` which datasets it takes, and how."""
