"""The block of a pipeline file that names a Kafka cluster to write to, and how a dataset goes there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pipeline.file import RouteBlock
from pipeline.kafka_options import OURS, Options, Servers, TopicName, Written, checked, revealed
from pipeline.model import Block
from pipeline.schema_registry import RegistryBlock


class KafkaConfig(Block):
    """`type: kafka` of a sink."""

    bootstrap_servers: Servers
    """Some of the brokers, as HOST:PORT, separated by commas."""
    format: Literal["json", "cloudevents", "avro"] = "json"
    """How messages are written."""
    mode: Literal["binary", "structured"] = "binary"
    """Of cloudevents: the attributes as headers, or around the row in one JSON object."""
    key: Literal["json", "record"] = "json"
    """Of avro: whether keys are JSON objects, or records with a schema of their own."""
    schema_registry: RegistryBlock | None = None
    """Where the schemas of avro are registered."""
    partitions: Annotated[int, Field(ge=1)] | None = None
    """Partitions of the topics that are made; by default as many as the brokers give them."""
    options: Annotated[Options, BeforeValidator(checked(OURS), json_schema_input_type=Written)] = Field(default_factory=dict)
    """librdkafka's own options: `security.protocol`, `sasl.mechanism` and whatever else the brokers ask for."""

    @model_validator(mode="after")
    def _fits(self) -> KafkaConfig:
        if self.format == "avro" and self.schema_registry is None:
            raise ValueError("`format: avro` needs a `schema_registry`: write `schema_registry: {url: https://…}`")
        if self.mode != "binary" and self.format != "cloudevents":
            raise ValueError("`mode` is of `format: cloudevents`")
        if self.key != "json" and self.format != "avro":
            raise ValueError("`key: record` is of `format: avro`")
        return self

    @property
    def client(self) -> dict[str, str]:
        """librdkafka's options for any client of this sink: secrets are in the clear."""
        return {**revealed(self.options), "bootstrap.servers": self.bootstrap_servers}


class KafkaRoute(RouteBlock):
    """How one dataset goes into a topic."""

    model_config = ConfigDict(populate_by_name=True)

    table: TopicName | None = Field(None, alias="topic")
    """The topic; by default PIPELINE.DATASET."""
    mode: Literal["mirror"] = "mirror"
    """A topic tells every change as it is; a compacted one comes to what the source holds."""
    on_delete: Literal["delete", "ignore"] = "delete"
    """`delete`: a message without a value."""

    @field_validator("mode", mode="before")
    @classmethod
    def _no_history(cls, value: object) -> object:
        if value == "history":
            raise ValueError("a topic has every change anyway, so that there is no `history` of one; leave `mode` out")
        return value

    @field_validator("on_delete", mode="before")
    @classmethod
    def _not_soft(cls, value: object) -> object:
        if value == "soft":
            raise ValueError("a message cannot mark a row that it does not have; write `delete` (a message without a value) or `ignore`")
        return value
