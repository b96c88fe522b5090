"""What changes go through on their way into the journal, as it stands there: built and loaded alike by whoever writes the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataflows.build import build_gate
from dataflows.enriching import Enrichments
from dataflows.lookup_rows import looked_in
from dataflows.lookups import Lookups
from dataflows.maps import Maps
from dataflows.versions import Versions
from journal.local import JournalWriter
from journal.schema import TableSchema
from pipeline.model import Pipeline

if TYPE_CHECKING:
    from dataflows.earlier_values import EarlierValues
    from quality.contract import Contract
    from quality.gate import Gate


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """Maps before the gates; lookups and what is made of them behind these; and what the gates compare changes with.

    Of one thread: what has passed is kept in memory too.
    """

    maps: Maps
    lookups: Lookups
    enrichments: Enrichments
    versions: Versions
    earlier: EarlierValues | None

    def gate(self, rules: Mapping[str, Contract], schema: TableSchema) -> Gate | None:
        """What judges the rows of a dataset by these contracts. Raises ConfigError for rules that do not fit its columns."""
        contract = rules.get(schema.dataset)
        return None if contract is None else build_gate(contract, schema, self.earlier, looked_in(self.lookups))


def load_stages(pipeline: Pipeline, rules: Mapping[str, Contract], journal: JournalWriter) -> Stages:
    """With what the journal has kept of them. Raises ConfigError for a map or an `enrich` that is not sound."""
    lookups = Lookups(pipeline)
    versions = Versions(pipeline)
    earlier = _earlier(rules, versions)
    lookups.load(journal.lookups, versions.names | (frozenset() if earlier is None else earlier.names))
    versions.load(journal.lookups)
    if earlier is not None:
        earlier.load(journal.lookups)
    return Stages(Maps(pipeline), lookups, Enrichments(pipeline, lookups), versions, earlier)


def _earlier(rules: Mapping[str, Contract], versions: Versions) -> EarlierValues | None:
    """What remembers the values that rules compare changes with; None where there are no such rules."""
    if not any(rule.scope == "key" for contract in rules.values() for rule in contract.rules):
        return None
    from dataflows.earlier_values import EarlierValues

    return EarlierValues(rules, versions)
