"""The pipeline file's shape: pydantic models of what a person writes. `sluice schema` prints their JSON Schema."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipeline.model import Block

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(|[kKMGT]i?)B?\s*$")
_TIME = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(|ms|s|m|h|d)\s*$")
_POWER = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
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


Size = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
Duration = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
Names = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class JournalBlock(Block):
    """Where changes are kept until every sink has them."""

    type: Literal["local"] = "local"
    max_size: Size = 20 * 10**9
    """At this size reading pauses until the sinks have caught up."""
    retention: Duration = 0.0
    """How long changes are kept after every sink has them."""


class FeedBlock(Block):
    """One source of a dataset."""

    source: str


class DatasetBlock(Block):
    """What a table is called, who judges it, and what identifies its rows."""

    from_: str | FeedBlock | list[str | FeedBlock] = Field(alias="from")
    key: Names = Field(default_factory=list)
    contract: Path | None = None


class RouteBlock(Block):
    """How one dataset goes into one sink."""

    table: Annotated[str, Field(min_length=1)] | None = None
    where: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    mode: Literal["mirror", "history"] = "mirror"
    on_delete: Literal["delete", "soft", "ignore"] = "delete"
    on_truncate: Literal["truncate", "ignore"] = "truncate"


class MonitoringBlock(Block):
    """Where each process answers /health and /metrics: `ingest` on `port`, the sinks on the ports after it, in the file's order."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)]


class PipelineFile(Block):
    """A pipeline."""

    pipeline: Name
    owner: str | None = None
    state: Path | None = None
    journal: JournalBlock = JournalBlock()
    monitoring: MonitoringBlock | None = None
    sources: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    datasets: dict[Name, DatasetBlock] = Field(default_factory=dict)
    sinks: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
