"""The thread that asks a query: answers to segments, each as a copy of the whole, which takes away what it lacks."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace

import pyarrow as pa
import structlog

from journal.batch import ChangeBatch, CopyMarker, Entry, Segment
from journal.joining import join
from journal.schema import TableSchema
from pipeline.errors import Refused, SluiceError, TransientError
from sources.base import SourceStatus, TableStatus
from sources.copies import Copies
from sources.outlet import Outlet
from sources.query.asking import Query
from sources.query.position import Watermark

log = structlog.get_logger("sluice.query")

_SMALL = 16 << 20  # bytes of an answer that is looked at whole: one that is as the last one was brings nothing
_BACKOFF = (0.2, 10.0)
_LOOK = 0.2  # seconds between looks at whether somebody wants a copy


class Reader:
    """Runs in a thread of its own, until `close`."""

    def __init__(
        self,
        source: str,
        query: Query,
        every: float,
        outlet: Outlet,
        copies: Copies,
        known: Watermark | None,
        *,
        first: bool,
        anew: bool,
    ) -> None:
        """`known` is None where nothing was asked yet; `first`: of no answer anything was ever handed on; `anew`: the next answer is
        wanted even if it is as the last one was."""
        self._source = source
        self._query = query
        self._every = every
        self._outlet = outlet
        self._copies = copies
        self._mark = known or Watermark()
        self._begun = known is not None
        self._first = first
        self._wanted = threading.Event()
        if anew:
            self._wanted.set()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._status = SourceStatus("starting")
        self._table = TableStatus("copying")
        self._next = 0.0

    def run(self) -> None:
        """Raises what cannot be mended by trying again."""
        backoff = _BACKOFF[0]
        while not self._closing.is_set():
            try:
                self._turn()
                backoff = _BACKOFF[0]
            except SluiceError as error:
                if isinstance(error, Refused) and not self._begun:
                    raise
                if not isinstance(error, Refused | TransientError):
                    raise
                log.warning("the query cannot be asked now, what it answered last stays", source=self._source, error=error.message)
                self._tell("retrying", error.message)
                self._closing.wait(backoff)
                backoff = min(2 * backoff, _BACKOFF[1])

    def close(self) -> None:
        self._closing.set()

    def ask_anew(self) -> None:
        """The next answer is asked for at once, and counts even if it is as the last one was. Any thread."""
        self._wanted.set()

    def status(self) -> SourceStatus:
        with self._lock:
            old = max(0.0, time.time() - self._mark.since) if self._mark.since else None
            return replace(self._status, lag_seconds=old, tables={self._source: self._table})

    def _tell(self, state: str, error: str | None = None, table: str = "streaming") -> None:
        with self._lock:
            again = state == "retrying" and self._status.state == "streaming"
            said = f"{self._mark.answers} answers"
            self._status = replace(
                self._status, state=state, error=error, confirmed=said, server=said, reconnects=self._status.reconnects + again
            )
            self._table = TableStatus(table)

    def _turn(self) -> None:
        sink = self._copies.next()
        if sink is not None:
            self._copy(sink)
        elif self._wanted.is_set() or time.monotonic() >= self._next:
            self._refresh()
        else:
            self._closing.wait(min(_LOOK, max(0.0, self._next - time.monotonic())))

    def _refresh(self) -> None:
        """One answer for everybody."""
        anew = self._wanted.is_set() or not self._begun
        self._wanted.clear()
        began = time.time()
        number = self._mark.answers + 1
        copy = _Copy(self, number, None, first=self._first)
        digest: str | None = None
        try:
            small, schema = copy.read()
            if small is not None and schema is not None:
                digest = _digest(schema, small)
            if digest is None or anew or digest != self._mark.digest:
                if self._closing.is_set():
                    return
                copy.finish(Watermark(number, began, digest))
                self._first = False
            else:
                self._mark = Watermark(number, began, digest)
                self._put([], 0)
        except SluiceError:
            self._first &= not copy.begun
            copy.abandon()
            if anew:
                self._wanted.set()
            raise
        self._begun = True
        self._next = time.monotonic() + self._every
        self._tell("streaming")

    def _copy(self, sink: str) -> None:
        """One answer for one sink."""
        copy = _Copy(self, self._mark.answers, sink, first=False)
        try:
            copy.read()
            if self._closing.is_set():
                return
            self._copies.ending(sink, self._outlet.count + copy.left)
            copy.finish(self._mark)
        except SluiceError:
            copy.abandon()
            self._copies.again(sink)
            raise
        self._tell("streaming")

    def _put(self, entries: list[Entry], size: int) -> None:
        self._outlet.put(Segment(self._source, entries, self._mark.encode(), time.monotonic(), {}), size)


class _Copy:
    """One answer on its way: kept until it is whole as long as it is small, then handed on piece by piece."""

    def __init__(self, reader: Reader, number: int, sink: str | None, *, first: bool) -> None:
        self._reader = reader
        self._number = number
        self._sink = sink
        self._first = first
        self._schema: TableSchema | None = None
        self._kept: list[ChangeBatch] = []
        self.begun = False

    @property
    def left(self) -> int:
        """How many segments `finish` puts."""
        return 1 + len(self._kept) + (not self.begun)

    def read(self) -> tuple[list[ChangeBatch] | None, TableSchema | None]:
        """All rows of an answer that is small; None for the rows of a larger one, which have been handed on."""
        held = 0
        for schema, batch in self._reader._query.answer(self._number, self._reader._closing.is_set):
            self._schema = schema
            if batch is None:
                continue
            self._kept.append(replace(batch, sink=self._sink))
            held += batch.nbytes
            if held > _SMALL:
                self._hand_on()
        return (None if self.begun else list(self._kept)), self._schema

    def _hand_on(self) -> None:
        if not self.begun:
            self._reader._tell("copying" if self._sink is None else "streaming", table="copying")
            self._reader._put([self._marker("start")], 0)
            self.begun = True
        for batch in self._kept:
            self._reader._put([batch], batch.nbytes)
        self._kept = []

    def finish(self, mark: Watermark) -> None:
        """The rest, and the end of the copy, which reaches `mark`."""
        self._hand_on()
        self._reader._mark = mark
        self._reader._put([self._marker("end")], 0)

    def abandon(self) -> None:
        if self.begun:
            self._reader._put([self._marker("abandoned")], 0)

    def _marker(self, phase: str) -> CopyMarker:
        assert self._schema is not None  # noqa: S101  (rows come behind their columns)
        source = self._reader._source
        return CopyMarker(self._schema, source, source, phase, 0, self._first, self._sink)


def _digest(schema: TableSchema, batches: list[ChangeBatch]) -> str:
    """Of the columns and of all rows in their order, however they were cut into batches."""
    digest = hashlib.blake2b(schema.encoded.encode(), digest_size=16)
    whole = join([replace(batch, defects=()) for batch in batches]) if batches else None
    for column in () if whole is None else whole.columns:
        one = pa.concat_arrays([column, pa.array([], pa.string())])
        digest.update(pa.RecordBatch.from_arrays([one], ["c"]).serialize())
    return digest.hexdigest()
