"""The start of a source: what is missing is made, and reading begins where the journal, or the new slot, says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from sources.base import Resume, SourceContext
from sources.postgres import publication as publications
from sources.postgres import slot as slots
from sources.postgres.config import PostgresConfig, publication_name, slot_name
from sources.postgres.desk import CopyDesk, TableCopy
from sources.postgres.facts import Facts
from sources.postgres.position import Watermark
from sources.postgres.preflight import Verdict
from sources.postgres.roster import Roster
from sources.postgres.session import Connection, Server
from sources.postgres.survey import intention, survey


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading begins. `snapshot`: the tables are first copied as of it. `new`: the journal does not know the position yet."""

    watermark: Watermark
    new: bool
    snapshot: slots.Snapshot | None = None
    tables: Sequence[str] = ()


class Starting:
    """Judges the source, and makes what is missing there."""

    def __init__(
        self,
        server: Server,
        config: PostgresConfig,
        context: SourceContext,
        resume: Resume,
        roster: Roster,
        desk: CopyDesk,
        go_on: Callable[[], None],
    ) -> None:
        """`go_on` is called while waiting, and ends that by raising."""
        self._server = server
        self._config = config
        self._context = context
        self._resume = resume
        self._roster = roster
        self._desk = desk
        self._go_on = go_on
        self._log = structlog.get_logger("sluice.postgres").bind(source=context.name)
        self._slot = slot_name(config, context.pipeline, context.name)
        self._publication = publication_name(config, context.pipeline, context.name)
        self._copies = config.snapshot == "initial"

    def begin(self, connection: Connection) -> Start:
        """Raises SlotLostError, PreflightError or Refused with every reason, before anything is made; and TransientError."""
        facts, verdict = survey(self._server, connection, self._config, self._context, self._resume)
        if verdict.lost is not None:
            raise verdict.lost
        refusal = verdict.preflight.refusal()
        if refusal is not None:
            raise refusal
        for advice in verdict.preflight.advice:
            self._log.warning(advice.message, hint=advice.hint)
        if self._resume.watermark is not None:
            return self._resumed(connection, facts, verdict, Watermark.decode(self._resume.watermark))
        return self._fresh(connection, facts, verdict)

    def _fresh(self, connection: Connection, facts: Facts, verdict: Verdict) -> Start:
        self._publish(connection, facts, verdict)
        labels = self._in_order(verdict.tables)
        for table in verdict.tables.values():
            self._roster.admit(table)
        self._stop(facts, verdict)
        assert facts.identity is not None  # noqa: S101  (preflight has refused otherwise)
        place = Watermark(0, facts.identity.system, facts.identity.timeline, self._slot)
        if facts.slot is not None and not verdict.remake:
            if self._copies:
                for label in labels:
                    self._desk.request(TableCopy(label, first=not self._roster.copied_before(label)))
            return Start(place.at(facts.slot.confirmed or 0), new=True)
        note = intention(self._context)
        note.write(self._slot, facts.identity.system)
        if verdict.remake:
            self._log.info("making the slot again that an earlier start left behind", slot=self._slot)
            slots.drop(self._server, connection, self._slot, self._go_on)
        snapshot = slots.create(self._server, connection, self._slot, self._go_on)
        self._log.info("made the slot", slot=self._slot)
        if self._copies:
            return Start(place.at(snapshot.lsn), new=True, snapshot=snapshot, tables=labels)
        snapshot.session.close()
        return Start(place.at(snapshot.lsn), new=True)

    def _in_order(self, labels: Iterable[str]) -> list[str]:
        """Tables as they are to be copied."""
        return sorted(labels, key=lambda label: label not in self._context.first)

    def _publish(self, connection: Connection, facts: Facts, verdict: Verdict) -> None:
        statements: list[str] = []
        if verdict.make:
            comment = publications.mark(self._context.pipeline, self._context.name)
            statements += publications.creation(self._publication, list(verdict.tables.values()), comment, facts.version)
        if verdict.add:
            statements.append(publications.addition(self._publication, verdict.add))
        if verdict.remove:
            statements.append(publications.removal(self._publication, verdict.remove))
        if statements:
            publications.run(self._server, connection, statements)
            self._log.info("made the publication" if verdict.make else "changed the publication", publication=self._publication)

    def _stop(self, facts: Facts, verdict: Verdict) -> None:
        absent = {missing.label for missing in facts.missing}
        for label, problem in verdict.stopped.items():
            (self._roster.gone if label in absent else self._roster.refuse)(label, str(problem))

    def _resumed(self, connection: Connection, facts: Facts, verdict: Verdict, watermark: Watermark) -> Start:
        """What the journal holds goes on; what it lacks is copied beside the stream."""
        copies, schemas = self._resume.copies, self._resume.schemas
        for label in sorted(copies.copied):
            if not self._roster.meant(label) and label in schemas:
                # its changes are let go from now on: should it be meant again, it has to be copied again
                self._desk.unsettle(label, schemas[label])
        added = {table.label for table in verdict.add}
        for label in self._in_order(verdict.tables):
            table = verdict.tables[label]
            self._roster.admit(table, generated=facts.generated)
            if not self._copies or (label in copies.copied and label not in added):
                continue
            if label in copies.copied and label in schemas:
                self._desk.unsettle(label, schemas[label])
            self._desk.request(TableCopy(label, first=not self._roster.copied_before(label)))
        self._stop(facts, verdict)
        for label, sink in copies.requested.items():
            if label in verdict.tables:
                self._desk.request(TableCopy(label, sink, passes=True))
        statements = [publications.removal(self._publication, verdict.remove)] if verdict.remove else []
        if verdict.add and not self._copies:
            statements.append(publications.addition(self._publication, verdict.add))
        if statements:
            publications.run(self._server, connection, statements)
        return Start(watermark, new=False)
