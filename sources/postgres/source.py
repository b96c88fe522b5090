"""A Postgres database as a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

from journal.batch import ChangeBatch, Segment
from journal.schema import TableSchema
from pipeline.errors import TerminalError
from sources.base import CopyState, Preflight, Resume, Source, SourceContext, SourceStatus
from sources.postgres.config import PostgresConfig, publication_name, slot_name
from sources.postgres.flushing import flush
from sources.postgres.position import Watermark, lsn_number, lsn_text
from sources.postgres.session import Server
from sources.postgres.slot import drop
from sources.postgres.supervisor import Supervisor
from sources.postgres.survey import intention, survey, survey_once
from sources.postgres.verification import read_now

_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"


class PostgresSource(Source):
    """Tables of a Postgres database: copied once, then followed by logical replication."""

    kind = "postgres"
    Config = PostgresConfig

    def __init__(self, config: PostgresConfig, context: SourceContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._server = Server(config.dsn.get_secret_value(), f"sluice {context.pipeline}.{context.name}", config.connect_timeout)
        self._slot = slot_name(config, context.pipeline, context.name)
        self._publication = publication_name(config, context.pipeline, context.name)
        self._supervisor: Supervisor | None = None

    @classmethod
    def place(cls, table: str, lsn: int, nth: int, notes: Mapping[str, str]) -> str:
        return lsn_text(lsn)

    @classmethod
    def number(cls, position: str) -> int | None:
        return lsn_number(position)

    def preflight(self, resume: Resume) -> Preflight:
        return survey_once(self._server, self._config, self.context, resume)[1].preflight

    def start(self, resume: Resume) -> None:
        self._supervisor = Supervisor(self._server, self._config, self.context, resume)
        self._supervisor.start()

    def take(self, timeout: float = 0.0) -> Segment | None:
        return self._running.take(timeout)

    def confirm(self, watermark: str) -> None:
        self._running.confirm(watermark)

    def status(self) -> SourceStatus:
        return SourceStatus("starting") if self._supervisor is None else self._supervisor.status()

    def copy_again(self, table: str, sink: str | None = None) -> None:
        self._running.copy_again(table, sink)

    def head(self) -> str:
        with closing(self._server.connect()) as connection, self._server.told():
            lsn = flush(connection)
            row = connection.execute(_SYSTEM).fetchone()
        assert row is not None  # noqa: S101  (one row always)
        return Watermark(lsn, row[0], 0, self._slot).encode()

    def reached(self, watermark: str | None, head: str) -> bool:
        if watermark is None:
            return False
        at, wanted = Watermark.decode(watermark), Watermark.decode(head)
        return at.system == wanted.system and at.lsn >= wanted.lsn

    def start_over(self, do: bool) -> Preflight:
        with closing(self._server.connect()) as connection:
            facts, verdict = survey(self._server, connection, self._config, self.context, Resume(None, CopyState(), {}), anew=True)
            refusal = verdict.preflight.refusal()
            if refusal is not None:
                raise refusal
            if do and verdict.remake:
                assert facts.identity is not None  # noqa: S101  (preflight has refused otherwise)
                intention(self.context).write(self._slot, facts.identity.system)
                drop(self._server, connection, self._slot, lambda: None)
        return verdict.preflight

    def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close()

    def read_table(self, table: str, schema: TableSchema, keys: ChangeBatch | None, receive: Callable[[ChangeBatch], None]) -> str:
        head: list[str] = []
        read_now(self._server, self.context.name, self._publication, table, schema, keys, receive, looked=lambda: head.append(self.head()))
        return head[0]

    @property
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise TerminalError(f"the source {self.context.name} has not been started")
        return self._supervisor
