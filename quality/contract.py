"""A contract that is sound: who owns a dataset, what its columns hold, and which rules its rows have to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from quality.logical_types import Judged, in_column, in_file
from quality.moment_format import MomentFormat
from quality.rules import Rule, Types
from quality.service_level import ServiceLevel

SECRECY = {"public": 0, "internal": 1, "confidential": 2, "restricted": 3}
"""Classifications, by how much is kept from whom."""
SENSITIVE = frozenset({"confidential", "restricted"})


@dataclass(frozen=True, slots=True)
class Contact:
    """How to reach the owner: a channel (a name or an address), and the tool it is in."""

    channel: str
    tool: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Breaker:
    """When more than `share` of the last `window` rows went to quarantine: pause the dataset, or deliver with a warning."""

    share: float
    window: int
    action: str  # pause | warn


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """How a dataset is audited: every so many seconds, rules over the set on the last `window` changes, and of the rows that the gate
    let pass in them a sample of `sample`."""

    every: float = 60.0
    window: int = 10_000
    sample: int = 500


@dataclass(frozen=True, slots=True)
class Property:
    """One column of the dataset: `name` in the contract, `column` in the table (its physicalName, if it has one).

    `inside` has what is said of the parts of an object, array or map: path (`.zip`, `[]`, `{}`) -> its logical and physical type.
    """

    name: str
    column: str
    line: int
    logical_type: str | None = None
    physical_type: str | None = None
    required: bool = False
    unique: bool = False
    key_position: int | None = None
    classification: str | None = None
    description: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    inside: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)

    @property
    def sensitive(self) -> bool:
        """Whether its values are masked wherever people look."""
        return (self.classification or "").lower() in SENSITIVE

    @property
    def format(self) -> MomentFormat | None:
        """The format of its dates and times where they are text. Raises ValueError for one that cannot be read."""
        dated = self.logical_type in ("date", "timestamp", "time") and "format" in self.options
        return MomentFormat.of(self.options["format"]) if dated else None

    @property
    def zone(self) -> str:
        """The zone of times that are written without one."""
        return str(self.options.get("defaultTimezone", "UTC"))

    def held(self, column_type: str | None = None) -> Judged | None:
        """How its values are held while they are judged: in a column of a Postgres type, or from a file.

        None where a column of that type cannot hold what the contract says.
        """
        zoned = self.options.get("timezone") is True
        if column_type is None:
            return in_file(self.logical_type, self.physical_type, zoned=zoned)
        return in_column(self.logical_type, self.physical_type, column_type, zoned=zoned)


@dataclass(frozen=True)
class Contract:
    """One dataset's contract.

    dataset      the name of its schema object; `table` its physicalName, or the same
    owner        the team, or the member whose role is owner
    fingerprint  hash of everything that decides a verdict; a record in quarantine carries it
    order        of changes to a key that sits in quarantine: newest (they pass) or strict (they wait)
    approval     who may approve a fix: four-eyes (somebody else) or self
    compatibility  what a change must not break without approval: the shape that others rely on, or also what readers were promised
    text         what the file said
    relationships  lines of what is said of other tables, which nobody judges
    """

    file: Path
    id: str
    version: str
    dataset: str
    table: str
    properties: Sequence[Property]
    rules: Sequence[Rule]
    fingerprint: str
    name: str | None = None
    status: str | None = None
    description: str | None = None
    owner: str | None = None
    contacts: Sequence[Contact] = ()
    service_levels: Sequence[ServiceLevel] = ()
    breaker: Breaker | None = None
    order: str = "newest"
    approval: str = "four-eyes"
    compatibility: str = "shape"
    text: str = field(default="", repr=False)
    audit: AuditSettings = field(default_factory=AuditSettings)
    relationships: tuple[int, ...] = ()

    def level(self, name: str) -> ServiceLevel | None:
        """What is promised of the dataset as a whole under this name; None where nothing is."""
        wanted = (one for one in self.service_levels if one.property.lower() == name.lower())
        return next((one for one in wanted if one.element in (None, "", self.dataset, self.table)), None)

    def within(self, name: str) -> float | None:
        """A promised duration in seconds: `freshness`, `latency`, `retention`, …"""
        level = self.level(name)
        return None if level is None else level.seconds()

    @property
    def completeness(self) -> float | None:
        """The share of the changes, 0 to 1, that is promised to be delivered."""
        level = self.level("completeness")
        return None if level is None else level.share()

    @cached_property
    def sensitive(self) -> bool:
        """Whether any of its columns is confidential or restricted."""
        return any(prop.sensitive for prop in self.properties)

    @cached_property
    def hidden(self) -> frozenset[str]:
        """The columns of the table that are confidential or restricted."""
        return frozenset(prop.column for prop in self.properties if prop.sensitive)

    @cached_property
    def columns(self) -> dict[str, Property]:
        """Column of the table -> property."""
        return {prop.column: prop for prop in self.properties}

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key, in their order."""
        keyed = [prop for prop in self.properties if prop.key_position is not None]
        return tuple(prop.column for prop in sorted(keyed, key=lambda prop: prop.key_position or 0))

    @cached_property
    def types_in_files(self) -> Types:
        """Column -> how values are held that come from a file."""
        return {prop.column: held for prop in self.properties if (held := prop.held()) is not None}
