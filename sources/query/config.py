"""The block of a pipeline file that names a query."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from pipeline.file import Duration, Text
from pipeline.model import Block
from sources.postgres.config import readable_dsn


def _one_query(text: str) -> str:
    query = text.strip().rstrip(";").rstrip()
    if not query:
        raise ValueError("write SELECT …")
    return query


class QueryConfig(Block):
    """A query that a Postgres server is asked at the start and then from time to time; what it answers is the dataset."""

    dsn: Annotated[SecretStr, AfterValidator(readable_dsn)]
    """A libpq string or URL. Nothing is made or changed there; a server that only reads (a standby) is enough."""
    query: Annotated[Text, AfterValidator(_one_query)]
    """One SELECT."""
    refresh_seconds: Annotated[Duration, Field(gt=0)] = 300.0
    """How often it is asked."""
    connect_timeout: Annotated[int, Field(ge=1, le=600)] = 10
    """Seconds to wait for a connection."""

    @property
    def stream(self) -> str:
        """See SourceBlock.stream: the source's own name."""
        return ""

    @property
    def for_lookups(self) -> bool:
        """A lookup that is made of it goes to no sink that does not name it."""
        return True
