"""Setting columns of records: by values, by SQL over the row, or by a file that somebody mended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from dataflows.mending import Fix, as_typed
from dataflows.pace import Pace
from dataflows.records_as_changes import changes_of
from dataflows.steps import Desk, Doing, begun, by_whom, not_now, selected, tell, upto_of
from journal import evidence, handling
from journal.handling import MENDABLE, Standing
from journal.inbox import Request
from journal.quarantine import UNRESOLVED, QuarantineRecord, Values
from journal.schema import TableSchema
from pipeline.errors import ConfigError, TerminalError
from sources.base import KEY_PREFIX


def fix(desk: Desk, request: Request) -> Doing:
    """Sets columns of records: of all that are meant, or of none."""
    by, content = by_whom(request), request.content
    after, done, known = begun(desk, request)
    upto = upto_of(desk, known)
    pace = Pace(desk.seconds)
    fixing = Fixing(desk, content.get("set") or {}, content.get("expr") or {}, content.get("patches") or {})
    if not done:
        number = 0
        for some in selected(desk, request, UNRESOLVED, upto, 0, pace):
            began = time.monotonic()
            named = "ids" in content
            taken = [one for one in some if named or one.status in MENDABLE]
            for one in taken:
                if one.status not in MENDABLE:
                    raise TerminalError(f"{one.id} cannot be fixed: {not_now(one.status)}", hint="`sluice quarantine show` tells its story")
            fixing.patched(taken)
            number += len(taken)
            pace.took(len(some), time.monotonic() - began)
            yield
        if not number:
            raise TerminalError("no record of the group waits to be fixed")
    columns = sorted(fixing.columns)
    for some in selected(desk, request, MENDABLE, upto, after, pace):
        began = time.monotonic()
        if good := [one for one in some if one.status in MENDABLE]:
            before, records = fixing.patched(good)
            with desk.journal.changing() as db:
                over = evidence.each(db, [one.ordinal for one in good])
                handling.patch(db, records, by, desk.journal.seal)
                desk.journal.sitting.mended(before, records)
                tell(desk, request, by, upto, good, over, columns=columns)
            desk.journal.commit_beside()
            done += len(records)
        pace.took(len(some), time.monotonic() - began)
        yield
    return {"code": 0, "done": done, "could_not": 0, "records": []}


class Fixing:
    """One fix, bound to the columns of each table that it meets."""

    def __init__(
        self, desk: Desk, values: Mapping[str, str | None], expressions: Mapping[str, str], patches: Mapping[str, Mapping[str, str | None]]
    ) -> None:
        """`patches`: by record, where each is to have its own values."""
        self._desk = desk
        self._shapes = desk.shapes
        self._values = values
        self._expressions = expressions
        self._patches = patches
        self._bound: dict[str, Fix] = {}
        self.columns = {*values, *expressions, *(name for patch in patches.values() for name in patch)}

    def patched(self, some: Sequence[Standing]) -> tuple[list[QuarantineRecord], list[QuarantineRecord]]:
        """The records as they are, and with their patches, in one order. Raises ConfigError where any cannot be set so."""
        with self._desk.journal.view() as db:
            records = handling.records(db, [one.ordinal for one in some], self._desk.journal.seal)
        return records, self.of(records, self._shapes.of)

    def of(self, records: Sequence[QuarantineRecord], shape: Callable[[QuarantineRecord], TableSchema]) -> list[QuarantineRecord]:
        """The same of records that are at hand, with the columns that they have."""
        found: list[QuarantineRecord] = []
        by_shape: dict[str, tuple[TableSchema, list[QuarantineRecord]]] = {}
        for one in records:
            schema = shape(one)
            by_shape.setdefault(f"{one.source} {one.table} {schema.encoded}", (schema, []))[1].append(one)
        for schema, alike in by_shape.values():
            patches = self._own(schema, alike) if self._patches else self._common(schema, alike)
            found += [structs.replace(one, patch={**(one.patch or {}), **patch}) for one, patch in zip(alike, patches, strict=True)]
        return sorted(found, key=lambda one: one.ordinal)

    def _common(self, schema: TableSchema, records: Sequence[QuarantineRecord]) -> list[Values]:
        if schema.encoded not in self._bound:
            self._bound[schema.encoded] = Fix(schema, self._values, self._expressions)
        texts, bad = self._bound[schema.encoded].run(changes_of(records, schema))
        if bad:
            row = min(bad)
            more = f" (and {len(bad) - 1} more records)" if len(bad) > 1 else ""
            raise ConfigError(f"{records[row].id}{more}: {bad[row]}", hint="nothing was changed")
        names = list(texts)
        return [dict(zip(names, row, strict=True)) for row in zip(*(texts[name].to_pylist() for name in names), strict=True)]

    def _own(self, schema: TableSchema, records: Sequence[QuarantineRecord]) -> list[Values]:
        patches: list[dict[str, str | bytes | None]] = [{} for _ in records]
        said: list[tuple[int, str]] = []
        for name in sorted({name for one in records for name in self._patches[one.id]}):
            rows = [row for row, one in enumerate(records) if name in self._patches[one.id]]
            if name not in schema.types or name.startswith(KEY_PREFIX):
                said += [(row, f"{schema.dataset} has no column `{name}`") for row in rows]
                continue
            texts, bad = as_typed(schema, name, [self._patches[records[row].id][name] for row in rows])
            said += [(rows[at], why) for at, why in bad.items()]
            for row, text in zip(rows, texts.to_pylist(), strict=True):
                patches[row][name] = text
        if said:
            raise ConfigError("\n".join(f"{records[row].id}: {why}" for row, why in sorted(said)), hint="nothing was changed")
        return [dict(patch) for patch in patches]
