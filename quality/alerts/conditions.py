"""What can be wrong with a pipeline, in one form: what is told, whatever found it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Of trouble."""

    CAUSE = "quarantine"  # records are held back for one reason
    BREAKER = "breaker"  # too many of the last rows broke rules
    STOPPED = "stopped"  # a table, a source or a sink does not go on
    FRESHNESS = "freshness"  # data is older than the contract promises
    LATE = "latency"  # changes take longer than the contract promises
    COMPLETENESS = "completeness"  # more is held back than the contract allows
    INCIDENT = "incident"  # the auditor disagrees
    APPROVAL = "approval"  # fixed records wait for approval
    CONTRACT = "contract"  # the contract in the file waits: it breaks what others rely on, or is not sound


@dataclass(frozen=True, slots=True)
class Subject:
    """What it is about: a dataset, else a sink or a source as a whole."""

    dataset: str | None = None
    sink: str | None = None
    source: str | None = None

    @property
    def title(self) -> str:
        """For people."""
        if self.dataset is not None:
            return self.dataset
        return f"sink {self.sink}" if self.sink is not None else f"source {self.source}"


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is the case, and that somebody has to know of.

    key       names it for as long as it lasts, and when it comes again
    what      one line, without values of sensitive columns and without secrets
    since     when it began, seconds since 1970
    count     how many records it concerns, `of` how many that came since
    command   what shows more of it
    number    how many things of this kind it stands for
    lasting   told only once it has been so for so many seconds
    """

    key: str
    kind: Kind
    subject: Subject
    what: str
    since: float
    command: str
    count: int | None = None
    of: int | None = None
    number: int = 1
    lasting: float = 0.0

    def encoded(self) -> str:
        """As JSON; `decoded` reads it back."""
        return json.dumps(asdict(self))


def decoded(text: str) -> Condition:
    """What `encoded` has written."""
    found = json.loads(text)
    return Condition(**{**found, "kind": Kind(found["kind"]), "subject": Subject(**found["subject"])})


Blind = Collection[tuple[Kind, str | None]]


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is the case. Of what is in `blind`, (kind, dataset) or (kind, None) for all, nothing is known just now."""

    conditions: Sequence[Condition] = ()
    blind: Blind = ()

    def knows(self, condition: Condition) -> bool:
        """Whether it would be among the conditions, were it the case."""
        return (condition.kind, None) not in self.blind and (condition.kind, condition.subject.dataset) not in self.blind
