"""The answer of a query as a source."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping

from journal.batch import ChangeBatch, Segment
from journal.schema import TableSchema
from pipeline.errors import PreflightError, TerminalError
from sources.base import Preflight, Resume, Source, SourceContext, SourceStatus
from sources.copies import Copies
from sources.outlet import Outlet
from sources.query.asking import Query
from sources.query.config import QueryConfig
from sources.query.position import Watermark
from sources.query.reader import Reader

_AHEAD = 16 << 20  # bytes of rows that wait to be taken
_JOIN = 5.0


class QuerySource(Source):
    """One query. Each answer is a copy of the whole: rows that it does not have any more go from lookups and sinks."""

    kind = "query"
    Config = QueryConfig
    compared = False

    def __init__(self, config: QueryConfig, context: SourceContext) -> None:
        super().__init__(config, context)
        self._every = config.refresh_seconds
        self._query = Query(config, context)
        self._outlet = Outlet(_AHEAD)
        self._copies = Copies()
        self._reader: Reader | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def place(cls, table: str, lsn: int, nth: int, notes: Mapping[str, str]) -> str:
        return json.dumps({"answer": lsn, "row": nth + 1})

    @classmethod
    def number(cls, position: str) -> int | None:
        return None

    def preflight(self, resume: Resume) -> Preflight:
        return Preflight([], [] if resume.watermark else [self._asking()], {self.context.name: self._query.describe()})

    def start(self, resume: Resume) -> None:
        known = Watermark.decode(resume.watermark) if resume.watermark else None
        name, copies = self.context.name, resume.copies
        first = name not in copies.copied | copies.begun
        anew = bool(copies.requested) or name not in copies.copied
        self._reader = Reader(name, self._query, self._every, self._outlet, self._copies, known, first=first, anew=anew)
        self._thread = threading.Thread(target=self._run, name="query-reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._started.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes
            self._outlet.fail(error)

    def take(self, timeout: float = 0.0) -> Segment | None:
        return self._outlet.take(timeout)

    def confirm(self, watermark: str) -> None:
        self._copies.confirmed()

    def status(self) -> SourceStatus:
        return SourceStatus("starting") if self._reader is None else self._reader.status()

    def head(self) -> str:
        """An answer that was asked for from now on."""
        return json.dumps({"since": time.time()})

    def reached(self, watermark: str | None, head: str) -> bool:
        return bool(watermark) and Watermark.decode(watermark or "").since >= float(json.loads(head)["since"])

    def copy_again(self, table: str, sink: str | None = None) -> None:
        if table == self.context.name and sink is not None:
            self._copies.ask(sink)
        elif table == self.context.name:
            self._started.ask_anew()

    def start_over(self, do: bool) -> Preflight:
        return Preflight([], [self._asking()], {self.context.name: self._query.describe()})

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._outlet.close()
        if self._thread is not None:
            self._thread.join(_JOIN)

    def read_table(self, table: str, schema: TableSchema, keys: ChangeBatch | None, receive: Callable[[ChangeBatch], None]) -> str:
        raise PreflightError(f"the answer to the query of {table} may be another one each time: it cannot be compared")

    def _asking(self) -> str:
        return f"the query of {self.context.name} is asked at {self._query.label}, at the start and every {self._every:g} s"

    @property
    def _started(self) -> Reader:
        if self._reader is None:
            raise TerminalError(f"the source {self.context.name} has not been started")
        return self._reader
