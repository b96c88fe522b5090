"""A look at the server, and the judgement of it."""

from __future__ import annotations

from contextlib import closing

from sources.base import Resume, SourceContext
from sources.postgres.catalogue import read_tables
from sources.postgres.config import PostgresConfig, publication_name, slot_name
from sources.postgres.facts import Facts, look
from sources.postgres.patterns import TablePatterns
from sources.postgres.preflight import Judging, Verdict
from sources.postgres.session import Connection, Server
from sources.postgres.slot import Intention


def survey(
    server: Server, connection: Connection, config: PostgresConfig, context: SourceContext, resume: Resume, anew: bool = False
) -> tuple[Facts, Verdict]:
    """Changes nothing. `anew`: a slot that is there is to be made again. Raises Refused or TransientError."""
    slot = slot_name(config, context.pipeline, context.name)
    patterns = TablePatterns(config.tables)
    facts = look(server, connection, patterns, slot, publication_name(config, context.pipeline, context.name))
    with server.told():
        known = {table.oid for table in facts.tables.values()}
        published = () if facts.publication is None else facts.publication.tables
        others = read_tables(connection, (oid for oid in published if oid not in known), facts.publication)
    intended = anew or (facts.identity is not None and intention(context).holds(slot, facts.identity.system))
    return facts, Judging(facts, config, context, resume, intended, list(others.values())).verdict()


def survey_once(server: Server, config: PostgresConfig, context: SourceContext, resume: Resume) -> tuple[Facts, Verdict]:
    """The same, over a session of its own."""
    with closing(server.connect()) as connection:
        return survey(server, connection, config, context, resume)


def intention(context: SourceContext) -> Intention:
    """Where this source notes that a slot is being made."""
    return Intention(context.state, context.name)
