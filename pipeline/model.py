"""The pipeline file as plain, immutable data: what loading it makes, and what every other room reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, ValidationInfo

if TYPE_CHECKING:
    from pipeline.alerts import Alerts


class Block(BaseModel):
    """The base of everything in a pipeline file: immutable, and a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


def _from_file(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return path.expanduser() if folder is None else Path(folder, path.expanduser())


PathFromFile = Annotated[Path, AfterValidator(_from_file)]
"""A path in a pipeline file: relative ones count from the file's folder."""


@dataclass(frozen=True, slots=True)
class KafkaJournal:
    """Where a journal's topics are. `options` are librdkafka's; secrets are wrapped."""

    bootstrap_servers: str
    prefix: str
    partitions: int
    options: Mapping[str, str | SecretStr] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """Bytes at which reading pauses; seconds that delivered changes are kept, at most while the journal is no larger than so many bytes;
    the topics, where it is in Kafka."""

    max_bytes: int = 20 * 10**9
    retention_seconds: float = 0.0
    retention_bytes: int | None = None
    kafka: KafkaJournal | None = None


@dataclass(frozen=True, slots=True)
class SourceBlock:
    """One entry of `sources`; `config` is what its kind makes of it."""

    name: str
    type: str
    config: BaseModel
    line: int

    @property
    def described(self) -> bool:
        """Whether the block, or the source itself, says which columns there are; else the dataset's contract has to."""
        return bool(getattr(self.config, "described", True))

    @property
    def stream(self) -> str | None:
        """What a source without tables calls the one stream that it is (a topic); None where it has tables."""
        named = getattr(self.config, "stream", None)
        return None if named is None else str(named) or self.name


@dataclass(frozen=True, slots=True)
class Feed:
    """Where a dataset comes from: a source and its name for the table. `map` makes the dataset's rows of it."""

    source: str
    table: str
    map: Path | str | None = field(default=None, compare=False)  # a file of SQL, or the dotted name of a function


@dataclass(frozen=True, slots=True)
class Dataset:
    """One entry of `datasets`."""

    name: str
    feeds: tuple[Feed, ...]
    key: tuple[str, ...] = ()
    contract: Path | None = None
    line: int = 0
    enrich: Path | None = None  # a file of SQL behind the contract, which may join lookups
    order_by: str | None = None  # the column that says which of two rows with one key is newer
    in_force: tuple[Path, str] | None = None  # the text of the contract in force, where the file has another, and what messages call it


@dataclass(frozen=True, slots=True)
class Lookup:
    """One entry of `lookups`: a table that `enrich` joins. What becomes of a row that it has nothing for says `on_missing`."""

    name: str
    source: str
    table: str
    key: tuple[str, ...]
    on_missing: Literal["null", "quarantine", "wait"] = "null"
    wait_seconds: float = 60.0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """How one dataset goes into one sink; lines point at what a person would have to change."""

    dataset: str
    table: str | None = None
    where: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)  # column -> drop | mask(hash) | mask(redact) | mask(partial) | cast(TYPE)
    mode: Literal["mirror", "history"] = "mirror"
    on_delete: Literal["delete", "soft", "ignore"] = "delete"
    on_truncate: Literal["truncate", "ignore"] = "truncate"
    line: int = 0


@dataclass(frozen=True, slots=True)
class SinkBlock:
    """`routes` is None where the sink takes every dataset as it is, but for those in `left_out`, which are there for lookups alone.

    Tables that no route names are called `prefix` and the dataset.
    """

    name: str
    type: str
    config: BaseModel
    routes: Mapping[str, Route] | None
    line: int
    prefix: str = ""
    left_out: frozenset[str] = frozenset()

    def route(self, dataset: str) -> Route | None:
        """How the dataset goes here, or None if it doesn't."""
        if self.routes is None:
            found = None if dataset in self.left_out else Route(dataset)
        else:
            found = self.routes.get(dataset)
        return replace(found, table=f"{self.prefix}{dataset}") if found is not None and self.prefix and found.table is None else found


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline file that is sound. Secrets are only inside the configs, which never print them."""

    name: str
    file: Path
    owner: str | None
    state: Path
    journal: JournalConfig
    sources: Mapping[str, SourceBlock]
    datasets: Mapping[str, Dataset]
    sinks: Mapping[str, SinkBlock]
    lookups: Mapping[str, Lookup] = field(default_factory=dict)
    monitoring: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # process (`ingest`, `deliver:SINK`, `watch`) -> host and port
    alerts: Alerts | None = None

    @property
    def watched(self) -> bool:
        """Whether there is anything to look after: a dataset with a contract, or somebody who is told of trouble."""
        return self.alerts is not None or any(dataset.contract is not None for dataset in self.datasets.values())

    def dataset_of(self, source: str, table: str) -> str | None:
        """The entry of `datasets` that names this table, if one does."""
        return next((d.name for d in self.datasets.values() if Feed(source, table) in d.feeds), None)
