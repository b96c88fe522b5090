"""The tables of a source: which there are, what they look like at this point of the stream, and how each one does."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from journal.schema import TableSchema
from pipeline.errors import Problem
from pipeline.names import join_name, split_name
from sources.base import Resume, SourceContext, TableStatus
from sources.postgres.catalogue import Match, Publication, matching, read_publication, read_tables, read_types
from sources.postgres.config import PostgresConfig, publication_name
from sources.postgres.desk import CopyDesk, TableCopy
from sources.postgres.patterns import TablePatterns
from sources.postgres.publication import is_ours, mark
from sources.postgres.relation import Relation
from sources.postgres.schemas import has_identity, meaning
from sources.postgres.session import Connection
from sources.postgres.table import Table
from sources.postgres.table_checks import problems_of, unfit

log = structlog.get_logger("sluice.postgres")


@dataclass
class Progress:
    """How far a copy is; `total` is an estimate."""

    rows: int = 0
    total: int | None = None
    nbytes: int = 0


@dataclass
class _Member:
    """A table that the pipeline means.

    schema    the newest that was seen
    highest   the highest number of a column ever seen
    storage   where its rows were when `schema` was; empty where the catalogue had moved on already
    """

    dataset: str
    oid: int = 0
    schema: TableSchema | None = None
    highest: int = 0
    storage: str = ""
    table: Table | None = None
    copied_before: bool = False
    error: str | None = None


class Roster:
    """Any thread may ask; the stream's taker tells what it reads, the supervisor what the catalogue says."""

    def __init__(self, config: PostgresConfig, context: SourceContext, resume: Resume, desk: CopyDesk) -> None:
        self._config = config
        self._context = context
        self._desk = desk
        self._patterns = TablePatterns(config.tables)
        self._publication = publication_name(config, context.pipeline, context.name)
        self._members: dict[str, _Member] = {}
        self._progress: dict[str, Progress] = {}
        self._initial: set[str] = set()
        self._lock = threading.RLock()
        copies = resume.copies
        for label, schema in resume.schemas.items():
            self._members[label] = _Member(schema.dataset, schema=schema, highest=_highest(schema), copied_before=True)
        for label in copies.copied | copies.begun:
            self._members.setdefault(label, _Member(self.dataset(label))).copied_before = True

    @property
    def patterns(self) -> TablePatterns:
        return self._patterns

    def dataset(self, label: str) -> str:
        """The dataset that a table is."""
        return self._context.tables.get(label) or split_name(label)[-1]

    def key(self, label: str) -> tuple[str, ...]:
        """The key that the pipeline file sets for it, if any."""
        return () if label in self._context.mapped else self._context.keys.get(self.dataset(label), ())

    def meant(self, label: str) -> bool:
        """Whether the pipeline means the table (still)."""
        schema, name = split_name(label)
        return self._patterns.matches(schema, name)

    def copied_before(self, label: str) -> bool:
        """Whether anything of the table was ever copied, or streamed."""
        with self._lock:
            return label in self._members and self._members[label].copied_before

    def followed(self, label: str) -> bool:
        """Whether the table is there, and not stopped."""
        with self._lock:
            member = self._members.get(label)
            return member is not None and member.oid != 0 and member.error is None

    def oid(self, label: str) -> int:
        """The table's oid; 0 where it is not known yet."""
        with self._lock:
            return self._members[label].oid if label in self._members else 0

    def table(self, label: str) -> Table | None:
        """The table as the catalogue had it when it was last read."""
        with self._lock:
            return self._members[label].table if label in self._members else None

    def schema(self, label: str) -> TableSchema | None:
        """The newest schema that was seen."""
        with self._lock:
            return self._members[label].schema if label in self._members else None

    def admit(self, table: Table, schema: TableSchema | None = None, *, generated: bool = False) -> None:
        """The table is fit and followed; `schema` is that of a copy which begins.

        `generated`: the server publishes generated columns.
        """
        with self._lock:
            member = self._members.setdefault(table.label, _Member(self.dataset(table.label)))
            member.oid, member.table, member.error = table.oid, table, None
            if schema is not None:
                member.schema, member.highest, member.copied_before = schema, max(member.highest, _highest(schema)), True
                member.storage = table.storage
            elif member.schema is not None and member.schema.columns == table.as_schema("", (), generated).columns:
                member.storage = table.storage

    def refuse(self, label: str, error: str) -> None:
        """The table is stopped, and its neighbours are not: its changes are dropped, and it has to be copied again."""
        if self._failed(label, error):
            self._desk.stop(label)

    def gone(self, label: str, error: str) -> None:
        """The table is not there any more. What the log still has of it is delivered; should it come back, it has to be copied again."""
        self._failed(label, error)

    def _failed(self, label: str, error: str) -> bool:
        with self._lock:
            member = self._members.setdefault(label, _Member(self.dataset(label)))
            known, member.error = member.error is not None, error
            if known:
                return False
            if member.schema is not None and member.copied_before and self._config.snapshot != "never":
                self._desk.unsettle(label, member.schema)
        log.error("table stopped", source=self._context.name, table=label, error=error)
        return True

    def progress(self, label: str) -> Progress:
        """A fresh account of a copy that begins."""
        with self._lock:
            self._progress[label] = Progress()
            return self._progress[label]

    def initial(self, labels: Iterable[str]) -> None:
        """These tables are being copied before the stream begins."""
        with self._lock:
            self._initial = set(labels)

    def copied(self, label: str) -> None:
        """The first copy of a table is whole."""
        with self._lock:
            self._initial.discard(label)

    def statuses(self, ending: set[str]) -> Mapping[str, TableStatus]:
        """How each table does. `ending`: tables whose copy is whole, and not yet durable to its end."""
        copying = self._desk.copying() | ending
        with self._lock:
            return {
                label: self._status(label, member, copying | self._initial) for label, member in self._members.items() if self.meant(label)
            }

    def _status(self, label: str, member: _Member, copying: set[str]) -> TableStatus:
        progress = self._progress.get(label, Progress())
        total = None if progress.total is None else max(progress.total, progress.rows)
        state = "stopped" if member.error is not None else "copying" if label in copying else "streaming"
        return TableStatus(state, member.error, progress.rows, total, progress.nbytes)

    def resolve(self, relation: Relation, connection: Connection) -> TableSchema | None:
        """What a table is from this point of the stream on; None where the pipeline does not mean it.

        A table that is stopped has its changes dropped later on: the stream describes a table once, and it may be mended meanwhile.
        """
        label = join_name(relation.schema, relation.table)
        if not self._patterns.matches(relation.schema, relation.table):
            return None
        generated = connection.info.server_version >= 180000
        publication = read_publication(connection, self._publication)
        table = read_tables(connection, [relation.oid], publication).get(relation.oid)
        if label not in self._members or self._members[label].oid not in (0, relation.oid):
            self.discovered(connection, [Match(relation.oid, relation.schema, relation.table)], publication)
        with self._lock:
            member = self._members.get(label)
            if member is None:
                return None
            known = meaning(
                relation,
                table,
                member.schema,
                lambda wanted: read_types(connection, wanted),
                dataset=self.dataset(label),
                key=self.key(label),
                generated=generated,
            )
        if not has_identity(relation) and (publication is None or publication.update or publication.delete):
            self.refuse(label, f"{label} has lost its replica identity: add a primary key, or set REPLICA IDENTITY")
        missing = [name for name in self.key(label) if name not in known.schema.names]
        if missing:
            self.refuse(label, f"{label} has lost {', '.join(missing)}, which `key` names")
        in_step = table is not None and table.as_schema(known.schema.dataset, (), generated).columns == known.schema.columns
        self._follow(label, known.schema, table, known.certain, in_step)
        return known.schema

    def _follow(self, label: str, schema: TableSchema, table: Table | None, certain: bool, in_step: bool) -> None:
        """Remembers the schema, and has the table copied again where rows that are there already may hold what no log told.

        `in_step`: the catalogue is at the same point.
        """
        with self._lock:
            member = self._members[label]
            before, highest, storage = member.schema, member.highest, member.storage
            member.schema, member.highest, member.copied_before = schema, max(highest, _highest(schema)), True
            member.table, member.storage = table or member.table, table.storage if table is not None and in_step else ""
            stopped = member.error is not None
        if before is None or stopped or self._config.snapshot == "never":
            return
        rewritten = None if table is None or not storage else table.storage != storage
        why = None if certain else "a column was dropped and made again"
        why = why or _untold(before, schema, highest, table, rewritten)
        if why is not None:
            log.info("copying a table again", source=self._context.name, table=label, why=why)
            self._desk.unsettle(label, schema)
            self._desk.request(TableCopy(label, passes=True))

    def discover(self, connection: Connection) -> None:
        """Looks for tables that came to match, came back, were made anew, or were mended; and for those that are gone."""
        found = matching(connection, self._patterns)
        labels = {join_name(match.schema, match.name): match for match in found}
        with self._lock:
            gone = [label for label, member in self._members.items() if label not in labels and member.error is None and self.meant(label)]
            news = [match for label, match in labels.items() if self._is_news(label, match)]
        for label in gone:
            self.gone(label, f"{label} is not there any more")
        if news:
            self.discovered(connection, news, read_publication(connection, self._publication))

    def _is_news(self, label: str, match: Match) -> bool:
        member = self._members.get(label)
        return member is None or member.error is not None or member.oid != match.oid

    def discovered(self, connection: Connection, news: Sequence[Match], publication: Publication | None) -> None:
        """Judges tables that are new, or were stopped: each is copied and followed, or stopped with the reason."""
        user = connection.info.user
        generated = connection.info.server_version >= 180000
        ours = self._config.create and publication is not None and is_ours(publication, mark(self._context.pipeline, self._context.name))
        for table in read_tables(connection, (match.oid for match in news), publication).values():
            label = table.label
            if table.partition:
                continue  # the stream describes it beside its root, under whose name its changes come
            if unfit(table) and (table.schema, table.name) not in self._patterns.literals:
                continue
            problems = [*self._clash(label)]
            problems += problems_of(table, publication, may_add=ours, user=user, key=self.key(label), generated=generated)
            if problems:
                self.refuse(label, str(problems[0]))
                continue
            first = not self.copied_before(label)
            with self._lock:
                schema = self._members[label].schema if label in self._members else None
            self.admit(table)
            if self._config.snapshot == "never" and first:
                continue
            log.info("found a table", source=self._context.name, table=label, first=first)
            if schema is not None:
                self._desk.unsettle(label, schema)
            self._desk.request(TableCopy(label, first=first))
            self._desk.resume(label)

    def _clash(self, label: str) -> Iterable[Problem]:
        dataset = self.dataset(label)
        with self._lock:
            other = next(
                (o for o, m in self._members.items() if o != label and m.dataset == dataset and m.error is None and self.meant(o)), None
            )
        if other is not None and not self._context.tables.keys() >= {other, label}:
            yield Problem(f"{other} and {label} would both be the dataset `{dataset}`", hint="name one of them under `datasets`")


def _highest(schema: TableSchema) -> int:
    return max((column.attnum for column in schema.columns), default=0)


def _untold(before: TableSchema, schema: TableSchema, highest: int, table: Table | None, rewritten: bool | None) -> str | None:
    """Why rows from before this schema may hold what neither log nor catalogue tell. `rewritten`: None where nobody knows."""
    attributes = {} if table is None else {attribute.attnum: attribute for attribute in table.live}
    types = {column.attnum: column.type for column in before.columns}
    for column in schema.columns:
        attribute = attributes.get(column.attnum)
        if column.attnum > highest and attribute is not None and attribute.missing is None and (attribute.computed or rewritten):
            return f"the column {column.name} was added with a default that is computed"
        if rewritten is not False and column.attnum in types and types[column.attnum] != column.type:
            return f"the type of the column {column.name} changed"
    return None
