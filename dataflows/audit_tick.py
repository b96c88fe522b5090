"""The auditor's part of the process `watch`: each dataset with a contract in its own time, and never more than half of all time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dataflows.contracts_in_force import in_force
from journal.audits import Audits
from journal.locks import ProcessLock
from pipeline.errors import AlreadyRunningError, SluiceError

if TYPE_CHECKING:  # the rules, Arrow and Great Expectations take long to load: only once an audit is due
    from dataflows.auditing import Auditing
    from dataflows.watch import Watched
    from journal.reading import JournalReader
    from quality.contract import Contract

log = structlog.get_logger("sluice.watch")

AUDITING = "auditing"
"""The lock of whoever audits."""

_FIRST = 10.0  # seconds: then the contracts say how often
_TIDY_EVERY = 3600.0
_SHARE = 0.5  # of the time between two audits that one may take: it goes on where it was with the next


class AuditTick:
    """Audits what is due."""

    name = "audit"

    def __init__(self, watched: Watched) -> None:
        self.period = _FIRST
        self._pipeline = watched.pipeline
        self._stop = watched.stop
        self._metrics = watched.metrics
        self._told: set[tuple[str, str]] = set()
        self._audits = Audits.open(watched.pipeline.state)
        self._auditing: Auditing | None = None
        self._contracts: Mapping[str, Contract] = {}
        self._written: tuple[object, ...] = ()
        self._due: dict[str, float] = {}
        self._tidy_at = 0.0

    def tick(self, now: float) -> None:
        """Raises what is wrong with the first dataset that could not be audited, after the others have been."""
        from dataflows.audit_promises import breakers, tidy
        from journal.state import State

        self._read_contracts()
        with closing(State.open(self._pipeline.state)) as state:
            breakers(state, self._audits, list(self._contracts), now)
        if now >= self._tidy_at:
            tidy(self._audits, self._contracts, now)
            self._tidy_at = now + _TIDY_EVERY
        self._audit_due(now)
        self._measure()

    def over(self, deadline: float) -> bool:
        return True

    def _audit_due(self, now: float) -> None:
        due = [name for name in self._contracts if self._due.get(name, 0.0) <= now]
        if not due:
            return
        from dataflows.auditing import Auditing
        from journal.opening import find_reader
        from quality.kernels.gx_apart import ReferenceApart

        try:
            lock = ProcessLock(self._pipeline.state, AUDITING, f"an audit of {self._pipeline.name}")
        except AlreadyRunningError:  # by hand: what it finds is found
            return
        with lock:
            reader = find_reader(self._pipeline)
            if reader is None:
                return
            self._auditing = self._auditing or Auditing(self._pipeline, self._audits, cache(ReferenceApart))
            with reader:
                errors = [error for name in due if not self._stop and (error := self._audit(self._auditing, reader, name, now)) is not None]
        if errors:
            raise errors[0]

    def _measure(self) -> None:
        counts = Counter((one.dataset, one.kind) for one in self._audits.incidents())
        for known in [*self._told, *counts]:
            self._metrics.incidents.labels(*known).set(counts[known])
        self._told |= set(counts)

    def _read_contracts(self) -> None:
        """Those in force, read again where one has changed. Raises ConfigError, JournalError."""

        pipeline = in_force(self._pipeline)
        written = tuple((one.name, one.in_force or _stat(one.contract)) for one in pipeline.datasets.values() if one.contract is not None)
        if written == self._written:
            return
        from dataflows.build import contracts

        self._contracts = contracts(pipeline)
        self._written = written
        self.period = min((contract.audit.every for contract in self._contracts.values()), default=_FIRST)
        self._due.clear()
        self._tidy_at = 0.0

    def _audit(self, auditing: Auditing, reader: JournalReader, name: str, now: float) -> SluiceError | None:
        contract = self._contracts[name]
        until = time.monotonic() + _SHARE * contract.audit.every / len(self._contracts)
        try:
            done = auditing.dataset(reader, name, contract, now, lambda: not self._stop and time.monotonic() < until)
        except SluiceError as error:
            return error
        self._due[name] = now + contract.audit.every
        if done.windows:
            log.debug("audited", dataset=name, windows=done.windows, changes=done.changes)
        return None


def _stat(file: Path) -> tuple[int, int] | None:
    """When it was written, and its size."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
