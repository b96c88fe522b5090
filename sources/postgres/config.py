"""The block of a pipeline file that names a Postgres source."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from pipeline.file import Size
from pipeline.model import Block
from sources.postgres.patterns import canonical

_LONGEST = 63  # bytes of a name in Postgres


def readable_dsn(dsn: SecretStr) -> SecretStr:
    """A connection string that libpq can read. Raises ValueError, which does not repeat it."""
    try:
        parts = conninfo_to_dict(dsn.get_secret_value())
    except psycopg.ProgrammingError:
        # libpq's own words repeat the string, and with it the password
        raise ValueError("not a libpq connection string (host=… dbname=…) or URL (postgresql://…)") from None
    if "replication" in parts:
        raise ValueError("`replication` in the connection string is set by Sluice itself")
    return dsn


def _tables(names: list[str]) -> list[str]:
    return list(dict.fromkeys(canonical(name) for name in names))


def _short_enough(name: str) -> str:
    if not name or len(name.encode()) > _LONGEST or "\0" in name:
        raise ValueError(f"a name in Postgres has 1 to {_LONGEST} bytes")
    return name


class PostgresConfig(Block):
    """Tables of one Postgres database, copied once and then followed by logical replication."""

    dsn: Annotated[SecretStr, AfterValidator(readable_dsn)]
    """A libpq string or URL. TLS and everything else that libpq knows is said here; service files and PG* variables work."""
    tables: Annotated[
        list[str],
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
        Field(min_length=1),
        AfterValidator(_tables),
    ]
    """Names (`public.orders`) or patterns (`public.*`)."""
    slot: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,63}$")] | None = None
    """The replication slot; by default `sluice_PIPELINE_SOURCE`."""
    publication: Annotated[str, AfterValidator(_short_enough)] | None = None
    """The publication; by default the slot's name. One that exists is used as it is."""
    create: bool = True
    """Whether a missing publication and slot are made. With `false`, nothing is made or changed at the source."""
    snapshot: Literal["initial", "never"] = "initial"
    """Whether the rows that are there already are copied first."""
    connect_timeout: Annotated[int, Field(ge=1, le=600)] = 10
    """Seconds to wait for a connection."""
    spool_after: Size = 32 << 20
    """Bytes of transactions that are still open at the source which are kept in memory; beyond it they go to files in the state folder."""


def slot_name(config: PostgresConfig, pipeline: str, source: str) -> str:
    """The slot's name: lower case, digits and underscores, at most 63."""
    return config.slot or re.sub(r"[^a-z0-9_]", "_", f"sluice_{pipeline}_{source}".lower())[:_LONGEST]


def publication_name(config: PostgresConfig, pipeline: str, source: str) -> str:
    """The publication's name."""
    return config.publication or slot_name(config, pipeline, source)
