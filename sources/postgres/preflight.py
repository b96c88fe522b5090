"""Judges what was found at a server: what is wrong, what would be made, what could be better. Nothing is done here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from pipeline.errors import Problem, SlotLostError
from pipeline.names import split_name
from sources.base import Preflight, Resume, SourceContext
from sources.postgres import publication as publications
from sources.postgres import slot as slots
from sources.postgres.config import PostgresConfig, publication_name, slot_name
from sources.postgres.facts import Facts
from sources.postgres.patterns import TablePatterns
from sources.postgres.position import Watermark, lsn_text
from sources.postgres.table import Table
from sources.postgres.table_checks import problems_of, unfit

_OLDEST = 140000
_SHORT_TIMEOUT = 10_000
_SMALL_MEMORY = 16 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What preflight comes to.

    tables    fit tables that are to be read, by label
    stopped   tables that cannot be read while their neighbours can, with the reason
    datasets  label -> dataset
    add       tables that our publication lacks, and `remove` those that it has too many; `make`: it is to be made
    remake    a slot that an earlier start left behind unused: it is made again
    """

    preflight: Preflight
    tables: Mapping[str, Table]
    stopped: Mapping[str, Problem]
    datasets: Mapping[str, str]
    make: bool
    add: Sequence[Table]
    remove: Sequence[Table]
    remake: bool
    lost: SlotLostError | None


class Judging:
    """One judgement of one look at a server."""

    def __init__(
        self, facts: Facts, config: PostgresConfig, context: SourceContext, resume: Resume, intended: bool, others: Sequence[Table]
    ) -> None:
        """`intended`: a start that died meant to make the slot. `others`: tables of our publication that the pipeline does not mean."""
        self._facts = facts
        self._config = config
        self._context = context
        self._resume = resume
        self._intended = intended
        self._others = others
        self._slot = slot_name(config, context.pipeline, context.name)
        self._publication = publication_name(config, context.pipeline, context.name)
        self._literal = set(TablePatterns(config.tables).literals)
        self._watermark = None if resume.watermark is None else Watermark.decode(resume.watermark)
        mark = publications.mark(context.pipeline, context.name)
        found = facts.publication
        self._ours = config.create and (found is None or publications.is_ours(found, mark))
        self._mark = mark

    def verdict(self) -> Verdict:
        facts = self._facts
        advice = [*self._advice()]
        problems = [*self._server_problems(), *self._publication_problems(), *self._slot_problems()]
        lost = self._lost()
        if lost is not None:
            problems.append(Problem(lost.message, hint=lost.hint))
        absent = {missing.label: Problem(f"{missing.label}: {missing.why}", hint=missing.hint) for missing in facts.missing}
        stopped = {label: problem for label, problem in absent.items() if label in self._resume.schemas}
        problems += [problem for label, problem in absent.items() if label not in stopped]
        tables: dict[str, Table] = {}
        datasets: dict[str, str] = {}
        for label, table in facts.tables.items():
            if unfit(table) and (table.schema, table.name) not in self._literal:
                advice.append(Problem(f"{unfit(table)}; the pattern leaves it out"))
                continue
            found = [*self._dataset_problems(label, datasets), *self._table_problems(table)]
            if not found:
                tables[label] = table
            elif self._watermark is None:
                problems += found
            else:
                stopped[label] = found[0]
        advice += [Problem(f"stopped: {problem.message}", hint=problem.hint) for problem in stopped.values()]
        make = self._ours and facts.publication is None
        add = [table for table in tables.values() if table.published is None] if self._ours and facts.publication else []
        remove = list(self._others) if self._ours else []
        preflight = Preflight(
            problems=problems,
            actions=self._actions(list(tables.values()), make, add, remove),
            tables={label: table.as_schema(datasets[label], self._key(label), facts.generated) for label, table in tables.items()},
            missing=[label for label in absent if label not in self._resume.schemas],
            advice=advice,
            old_rows={label: table.identifying for label, table in tables.items() if table.identifying is not None},
        )
        return Verdict(preflight, tables, stopped, datasets, make, add, remove, self._remake(), lost)

    def _key(self, label: str) -> tuple[str, ...]:
        return () if label in self._context.mapped else self._context.keys.get(self._dataset(label), ())

    def _dataset(self, label: str) -> str:
        return self._context.tables.get(label) or split_name(label)[-1]

    def _dataset_problems(self, label: str, datasets: dict[str, str]) -> Iterator[Problem]:
        """The first table of a dataset has it; what the journal knows comes first."""
        dataset = self._dataset(label)
        known = next(
            (table for table, schema in self._resume.schemas.items() if schema.dataset == dataset and table in self._facts.tables), None
        )
        other = next((table for table, name in datasets.items() if name == dataset), known)
        if other is not None and other != label and not self._context.tables.keys() >= {other, label}:
            yield Problem(f"{other} and {label} would both be the dataset `{dataset}`", hint="name one of them under `datasets`")
        else:
            datasets[label] = dataset

    def _table_problems(self, table: Table) -> Iterator[Problem]:
        return problems_of(
            table,
            self._facts.publication,
            may_add=self._ours,
            user=self._facts.user,
            key=self._key(table.label),
            generated=self._facts.generated,
        )

    def _server_problems(self) -> Iterator[Problem]:
        facts = self._facts
        if facts.version < _OLDEST:
            yield Problem(f"the server is Postgres {facts.version_text}, and 14 is the oldest that is supported", hint="upgrade the server")
        if facts.standby:
            yield Problem("the server is a standby: nothing can be made there", hint="connect to the primary")
        if facts.wal_level != "logical":
            hint = "set the parameter rds.logical_replication to 1" if facts.managed else "ALTER SYSTEM SET wal_level = 'logical'"
            yield Problem(
                f"wal_level is {facts.wal_level}, and changes can only be read where it is logical", hint=f"{hint}; then restart the server"
            )
        if not facts.replication:
            user = sql.Identifier(facts.user).as_string()
            hint = f"GRANT rds_replication TO {user}" if facts.managed else f"ALTER ROLE {user} REPLICATION"
            yield Problem(f"{facts.user} may not use replication", hint=hint)
        if facts.refused is not None:
            yield Problem(f"{facts.user} cannot open a connection for replication: {facts.refused.message}", hint=facts.refused.hint)
        if facts.senders_used >= facts.senders and (facts.slot is None or facts.slot.active_pid is None):
            hint = f"ALTER SYSTEM SET max_wal_senders = {facts.senders + 5}; then restart the server"
            yield Problem(f"all {facts.senders} walsenders are in use", hint=hint)

    def _publication_problems(self) -> Iterator[Problem]:
        facts, name = self._facts, self._publication
        if facts.publication is not None:
            return
        fit = [table for table in facts.tables.values() if not unfit(table)]
        create = "; ".join(publications.creation(name, fit, self._mark, facts.version)[:1])
        if self._watermark is not None or (facts.slot is not None and not self._remake()):
            hint = (
                slots.RESYNC if self._watermark is not None else f"drop the slot, so that both are made anew: {slots.dropping(self._slot)}"
            )
            message = f"the publication {name} is gone, and changes since then cannot be read" if self._watermark else (
                f"the slot {self._slot} is there and the publication {name} is not: a slot cannot be read with a newer publication"
            )  # fmt: skip
            yield Problem(message, hint=hint)
        elif not self._config.create:
            yield Problem(f"there is no publication {name}, and `create: false` says that none is to be made", hint=create)
        elif not facts.may_create:
            grant = (
                sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(facts.database), sql.Identifier(facts.user)).as_string()
            )
            yield Problem(f"{facts.user} may not make a publication", hint=f"{grant}; or let the owner of the tables run: {create}")

    def _slot_problems(self) -> Iterator[Problem]:
        facts, slot, name = self._facts, self._facts.slot, self._slot
        if slot is None:
            if self._watermark is not None:
                return
            if not self._config.create:
                hint = f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"
                yield Problem(f"there is no slot {name}, and `create: false` says that none is to be made", hint=hint)
            elif facts.slots_used >= facts.slots:
                hint = "drop one that nobody reads (SELECT * FROM pg_replication_slots WHERE NOT active), or raise max_replication_slots"
                yield Problem(f"all {facts.slots} replication slots are taken", hint=hint)
            return
        free = "choose another name with `slot:`"
        if slot.kind != "logical" or slot.plugin != "pgoutput":
            yield Problem(f"the slot {name} is a {slot.kind} one" + (f" of the plugin {slot.plugin}" if slot.plugin else ""), hint=free)
        elif slot.database != facts.database:
            yield Problem(f"the slot {name} belongs to the database {slot.database}", hint=free)
        elif slot.temporary:
            yield Problem(f"the slot {name} is temporary", hint=free)
        elif self._watermark is None and slot.lost is not None and not self._remake():
            yield Problem(f"the slot {name} cannot be read any more: {slot.lost}", hint=f"drop it: {slots.dropping(name)}")
        elif self._watermark is None and self._config.create and self._config.snapshot == "initial" and not self._remake():
            hint = (
                f"if it is this pipeline's own and its state folder was lost, run `sluice resync`; if nobody else reads it, drop it:"
                f" {slots.dropping(name)}; {free}; or set `create: false` to copy and go on with it,"
                " or `snapshot: never` to stream from where it stands"
            )
            yield Problem(f"the slot {name} is there already, and this pipeline's journal has never read from it", hint=hint)

    def _lost(self) -> SlotLostError | None:
        if self._watermark is None or self._facts.identity is None:
            return None
        try:
            slots.check_resumable(self._facts.slot, self._slot, self._facts.identity, self._watermark)
        except SlotLostError as error:
            return error
        return None

    def _remake(self) -> bool:
        return self._watermark is None and self._config.create and self._facts.slot is not None and self._intended

    def _advice(self) -> Iterator[Problem]:
        facts, settings = self._facts, self._facts.settings
        if settings.get("max_slot_wal_keep_size") == -1:
            message = "max_slot_wal_keep_size is not set: while Sluice is away, the slot keeps the log until the server's disk is full"
            yield Problem(
                message, hint="ALTER SYSTEM SET max_slot_wal_keep_size = '50GB' (what the disk can spare); then SELECT pg_reload_conf()"
            )
        if 0 < settings.get("wal_sender_timeout", 0) < _SHORT_TIMEOUT:
            message = f"wal_sender_timeout is {settings['wal_sender_timeout']} ms, so that short troubles of the network end the stream"
            yield Problem(message, hint="ALTER SYSTEM SET wal_sender_timeout = '60s'; then SELECT pg_reload_conf()")
        if settings.get("idle_replication_slot_timeout", 0) > 0:
            message = "idle_replication_slot_timeout is set: while Sluice is away for longer, the slot is lost"
            yield Problem(message, hint="ALTER SYSTEM SET idle_replication_slot_timeout = 0; then SELECT pg_reload_conf()")
        if settings.get("logical_decoding_work_mem", _SMALL_MEMORY) < _SMALL_MEMORY:
            message = "logical_decoding_work_mem is small: most transactions will be streamed before they commit"
            yield Problem(message, hint="ALTER SYSTEM SET logical_decoding_work_mem = '64MB'; then SELECT pg_reload_conf()")
        slot = facts.slot
        if slot is not None and slot.active_pid is not None:
            yield Problem(
                f"the slot {slot.name} is being read by pid {slot.active_pid}", hint="only one can read it: this pipeline's service?"
            )
        if slot is not None and slot.wal_status == "unreserved":
            message = f"the slot {slot.name} will soon lose log that it needs (at {lsn_text(slot.confirmed or 0)})"
            yield Problem(message, hint="let Sluice catch up, or raise max_slot_wal_keep_size now")
        publication = facts.publication
        if publication is not None:
            kinds = {
                "INSERT": publication.insert,
                "UPDATE": publication.update,
                "DELETE": publication.delete,
                "TRUNCATE": publication.truncate,
            }
            silent = [name for name, sent in kinds.items() if not sent]
            if silent:
                yield Problem(
                    f"the publication {publication.name} does not send every {' and '.join(silent)}: sinks will differ from the source"
                )
        if not facts.tables and not facts.missing:
            yield Problem("no table matches yet", hint="tables that come to match are found while it runs")

    def _actions(self, tables: Sequence[Table], make: bool, add: Sequence[Table], remove: Sequence[Table]) -> Sequence[str]:
        facts = self._facts
        actions: list[str] = []
        if make:
            actions += publications.creation(self._publication, tables, self._mark, facts.version)
        if add:
            actions.append(publications.addition(self._publication, add))
        if remove:
            actions.append(publications.removal(self._publication, remove))
        if self._remake():
            actions.append(slots.dropping(self._slot))
        if self._watermark is None and self._config.create and (facts.slot is None or self._remake()):
            actions.append(slots.creation(self._slot, facts.version))
        if self._config.snapshot == "initial":
            copied = self._resume.copies.copied
            actions += [f"copy {table.label}" for table in tables if table.label not in copied]
        return actions
