"""Records of quarantine on trial: the changes that they were, or why nobody can tell what would become of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from dataflows.judging import LATE
from dataflows.lookup_map import RULE as LOOKUP
from dataflows.maps import Maps
from dataflows.records import meant_for
from dataflows.records_as_changes import RecordShapes
from journal.batch import ChangeBatch
from journal.quarantine import QuarantineRecord
from journal.sealing import SealedError
from pipeline.errors import ConfigError

Told = Sequence[str] | str
"""The rules that a record breaks before any contract is asked, or why nobody can tell what would become of it."""


@dataclass(slots=True, eq=False)
class Readable:
    """What can be read of records. `aside` are those of a copy that one sink asked for, which come between no changes."""

    batches: list[ChangeBatch] = field(default_factory=list)
    aside: list[ChangeBatch] = field(default_factory=list)
    told: dict[int, Told] = field(default_factory=dict)


class TrialRecords:
    """Makes changes of records, under the columns that their tables have now."""

    def __init__(self, shapes: RecordShapes, maps: Maps, fits: Callable[[ChangeBatch], None], *, as_received: bool) -> None:
        """`fits` raises ConfigError for changes that a contract cannot judge. `as_received`: without what was set in them since."""
        self._shapes = shapes
        self._maps = maps
        self.fits = fits
        self._as_received = as_received

    def read(self, records: Sequence[QuarantineRecord]) -> Readable:
        """Those that wait for something else than a contract (a lookup, a newer version) are told as `other`; those that cannot be read
        any more, or do not fit its columns, as `unreadable`."""
        found = Readable(told={one.ordinal: why for one in records if (why := _untold(one)) is not None})
        rest = sorted((one for one in records if one.ordinal not in found.told), key=lambda one: (one.source, one.table))
        for alone, batches in ((False, found.batches), (True, found.aside)):
            if some := [one for one in rest if (meant_for(one) is not None) is alone]:
                batches += self._changes(some, found.told)
        return found

    def _changes(self, records: Sequence[QuarantineRecord], told: dict[int, Told]) -> list[ChangeBatch]:
        try:
            return self._made(records, told)
        except (ConfigError, SealedError):  # of one of them: it is found
            found = []
            for one in records:
                try:
                    found += self._made([one], told)
                except (ConfigError, SealedError):
                    told[one.ordinal] = "unreadable"
            return found

    def _made(self, records: Sequence[QuarantineRecord], told: dict[int, Told]) -> list[ChangeBatch]:
        found, spoiled = [], dict[int, Told]()
        given = [structs.replace(one, patch=None) for one in records] if self._as_received else records
        for some, changes in self._shapes.batches(given):
            batch = changes
            if self._shapes.given(some[0]) and (mapped := self._maps.apply(batch)) is not None:
                if mapped.failed is not None:
                    for row, ordinal in zip(mapped.rows, mapped.failed.ordinal.tolist(), strict=True):
                        spoiled[ordinal] = [reason.rule for reason in row.reasons]
                batch = mapped.passed
            self.fits(batch)
            found.append(batch)
        told |= spoiled
        return found


def _untold(record: QuarantineRecord) -> Told | None:
    """Why nobody can tell what would become of a record, where that is so."""
    if record.erased_at is not None:
        return "unreadable"
    return "other" if any(one.rule == LATE or one.rule.startswith(LOOKUP.rstrip(":")) for one in record.reasons) else None
