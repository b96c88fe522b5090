"""The block of a pipeline file that names a Kafka topic."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.errors import ConfigError
from pipeline.file import Text
from pipeline.kafka_options import Options, Servers, TopicName, Written, checked, revealed
from pipeline.model import Block
from pipeline.names import nearest
from pipeline.schema_registry import RegistryBlock
from sources.declared import FieldTypes
from sources.records.base import DecodeOptions, RecordSchema, make_decoder
from sources.records.base import Field as RecordField

_OURS = frozenset(
    {
        "auto.commit.enable", "auto.commit.interval.ms", "auto.offset.reset", "bootstrap.servers", "enable.auto.commit",
        "enable.auto.offset.store", "enable.partition.eof", "group.id", "group.instance.id", "group.protocol", "isolation.level",
        "metadata.broker.list", "partition.assignment.strategy",
    }
)  # fmt: skip


class KafkaConfig(Block):
    """One Kafka topic: every committed message of it, from the earliest on."""

    bootstrap_servers: Servers
    """Some of the brokers, as HOST:PORT, separated by commas."""
    topic: TopicName
    """The topic's name."""
    format: Literal["json", "cloudevents", "avro", "debezium", "csv", "xml"]
    """How messages are written."""
    options: Annotated[Options, BeforeValidator(checked(_OURS), json_schema_input_type=Written)] = Field(default_factory=dict)
    """librdkafka's own options for consumers: `security.protocol`, `sasl.mechanism` and whatever else the brokers ask for."""
    schema_registry: RegistryBlock | None = None
    """Where the schemas of avro are."""
    schema_: FieldTypes = Field(default_factory=dict, alias="schema")
    """Field -> Postgres type; what a map's `input` has. By default the columns of the dataset's contract."""
    paths: dict[Text, Text] = Field(default_factory=dict)
    """Field -> where it is in a message, as names joined by dots; by default it is at the top, under its own name."""
    extra: Literal["keep", "drop", "quarantine"] = "drop"
    """What becomes of fields that the schema does not have: kept as JSON in the column `_extra`, dropped, or the message is held back."""
    strict: bool = False
    """Whether an object with a name twice is bad; otherwise the last one wins, as in every common parser."""

    @model_validator(mode="after")
    def _readable(self) -> KafkaConfig:
        if self.format == "avro" and self.schema_registry is None:
            raise ValueError("`format: avro` needs a `schema_registry`: write `schema_registry: {url: https://…}`")
        if self.schema_:
            self.check_paths(self.schema_)
            try:
                make_decoder(self.format, RecordSchema(tuple(RecordField(*field) for field in self.schema_.items())), self.decoding).close()
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self

    def check_paths(self, fields: Collection[str]) -> None:
        """Raises ValueError for a path of a field that is not one of these."""
        for name in self.paths:
            if name not in fields:
                hint = nearest(name, fields)
                raise ValueError(f"`{name}` is in `paths` and not in the schema" + (f": {hint}" if hint else ""))

    @property
    def stream(self) -> str:
        """See SourceBlock.stream."""
        return self.topic

    @property
    def described(self) -> bool:
        """See SourceBlock.described."""
        return bool(self.schema_)

    @property
    def decoding(self) -> DecodeOptions:
        registry = None if self.schema_registry is None else self.schema_registry.options
        return DecodeOptions(self.extra, self.strict, self.paths, registry)

    @property
    def client(self) -> dict[str, str]:
        """librdkafka's options for any client of this source: secrets are in the clear."""
        given = revealed(self.options)
        return {
            "log_level": "0",
            "allow.auto.create.topics": "false",
            "enable.metrics.push": "false",
            **given,
            "bootstrap.servers": self.bootstrap_servers,
        }
