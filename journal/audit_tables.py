"""Where the state keeps what audits found: the tables, and what their rows are.

Every row has a key of what it is about, never a number of this file's own: state folders of other machines have the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Audited:
    """What was found of one rule of a dataset in one window of its changes; of the window itself where `rule` is empty.

    last            the entry of `journal` with which the window ends
    first_ordinal, last_ordinal   the changes in it; `first_time` and `last_time` their commit times in microseconds since 1970, UTC
    rows            that the rule was judged on: of a rule over rows those of the sample; of the window all of its changes
    failed          of a rule over rows: how many broke it
    verdict         passes, fails, agrees, differs, or none (there was no verdict)
    engine          who gave it: gx, or the engine of the gate's own
    observed        what a rule over the set found, as JSON values; masked where the contract says so
    at              when, in seconds since 1970
    """

    dataset: str
    journal: str
    last: int
    rule: str
    verdict: str
    engine: str
    rows: int
    at: float
    failed: int = 0
    observed: Any = None
    first_ordinal: int | None = None
    last_ordinal: int | None = None
    first_time: int | None = None
    last_time: int | None = None
    contract_version: str | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that is not as it should be with a dataset, for as long as it lasts.

    kind          see docs/auditor.md; with `rule` (empty where it is about none) there is one that is open of each
    since, last   when it was first seen, and last, in seconds since 1970
    count         how often it was seen
    detail        JSON values; values of columns are masked where the contract says so. `message` says it in words
    resolved_at   when it was seen no more
    """

    id: str
    dataset: str
    kind: str
    rule: str
    since: float
    last: float
    count: int
    detail: dict[str, Any]
    resolved_at: float | None = None


@dataclass(frozen=True, slots=True)
class AuditPlace:
    """How far the audit of a dataset has come: everything up to entry `seq` of `journal` was looked at, but for the `unaudited` changes
    that were gone before they could be. `passed` counts the changes up to there that the gate has let pass since the journal began. Of what
    it held back everything up to the change `ordinal` was looked at."""

    dataset: str
    journal: str
    seq: int
    ordinal: int
    passed: int
    unaudited: int
    at: float


class AuditTables(NamedTuple):
    """The tables of all three."""

    audited: sa.Table
    incident: sa.Table
    place: sa.Table


def audit_tables(tables: sa.MetaData) -> AuditTables:
    """Where they are."""
    audited = sa.Table(
        "audited",
        tables,
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("journal", sa.Text, primary_key=True),
        sa.Column("last", sa.BigInteger, primary_key=True),
        sa.Column("rule", sa.Text, primary_key=True),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("observed", sa.Text),
        sa.Column("first_ordinal", sa.BigInteger),
        sa.Column("last_ordinal", sa.BigInteger),
        sa.Column("first_time", sa.BigInteger),
        sa.Column("last_time", sa.BigInteger),
        sa.Column("contract_version", sa.Text),
        sa.Index("audited_by_time", "dataset", "at"),
    )
    incident = sa.Table(
        "incident",
        tables,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("last", sa.Float, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("resolved_at", sa.Float),
        sa.Index("incident_by_time", "dataset", "since"),
    )
    place = sa.Table(
        "audit_place",
        tables,
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("journal", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("ordinal", sa.BigInteger, nullable=False),
        sa.Column("passed", sa.BigInteger, nullable=False),
        sa.Column("unaudited", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    return AuditTables(audited, incident, place)
