"""Looks at how good the datasets of a pipeline are, again and again: keeps it for reports, and tells it as metrics."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from dataflows.contracts_in_force import in_force
from journal.history import History
from journal.opening import find_reader
from journal.state import State
from pipeline.model import Pipeline

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from dataflows.quality_numbers import QualityNumbers
    from dataflows.watch import Watched
    from quality.contract import Contract

_EVERY = 60.0
_REST = 100  # times as long as a look takes at least


class Sampling:
    """The tick of the process `watch` that does it. A look at a large quarantine takes longer, and is made more rarely."""

    name = "history"

    def __init__(self, watched: Watched) -> None:
        self.period = _EVERY
        self._watched = watched
        self._known: dict[str, Contract] = {}
        self._seen: tuple[tuple[str, int, int], ...] | None = None

    def tick(self, now: float) -> None:
        """One look. Raises SluiceError for a journal, a state or a contract that cannot be read."""
        from time import monotonic

        from dataflows.quality_numbers import QualityNumbers

        began = monotonic()
        pipeline = self._watched.pipeline
        reader = find_reader(pipeline)
        if reader is None:
            return
        with reader, closing(State.open(pipeline.state)) as state, closing(History.open(pipeline.state)) as history:
            numbers = QualityNumbers(pipeline, self._contracts(pipeline), reader, state, history)
            history.keep([numbers.sample(name) for name in numbers.datasets])
            self._measure(numbers)
        self.period = max(_EVERY, _REST * (monotonic() - began))

    def over(self, deadline: float) -> bool:
        return True

    def _contracts(self, pipeline: Pipeline) -> dict[str, Contract]:
        """The contracts, read again where a file has changed."""
        pipeline = in_force(pipeline)
        files = [dataset.contract for dataset in pipeline.datasets.values() if dataset.contract is not None]
        found = [(str(file), file.stat()) for file in files if file.exists()]
        seen = tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)
        seen = (*seen, *((name, hash(dataset.in_force), 0) for name, dataset in pipeline.datasets.items()))
        if seen != self._seen:
            from dataflows.build import contracts

            self._known, self._seen = contracts(pipeline), seen
        return self._known

    def _measure(self, numbers: QualityNumbers) -> None:
        """The metrics; of a dataset that is gone none are left."""
        metrics = self._watched.metrics
        gauges = (metrics.success, metrics.budget, metrics.open, metrics.open_age, metrics.detect, metrics.resolve, metrics.steps)
        for gauge in (*gauges, metrics.freshness, metrics.delay):
            gauge.clear()
        for name in numbers.datasets:
            lately, sample = numbers.lately(name), numbers.sample(name)
            values: tuple[tuple[Gauge, float | None], ...] = (
                (metrics.success, lately.success),
                (metrics.budget, numbers.budget(name, lately).remaining),
                (metrics.open, sample.open),
                (metrics.open_age, sample.oldest or 0.0),
                (metrics.steps, lately.steps),
                (metrics.freshness, sample.freshness),
                (metrics.delay, sample.delay),
            )
            whose = name, numbers.owner(name) or ""
            for gauge, value in values:
                if value is not None:
                    gauge.labels(*whose).set(value)
            for gauge, lengths in ((metrics.detect, lately.detecting), (metrics.resolve, lately.resolving)):
                for share, length in (("0.5", lengths.median), ("0.95", lengths.p95)):
                    if length is not None:
                        gauge.labels(*whose, share).set(length)
