"""How good the datasets of a pipeline are: one moment of its journal and its state, as reports, samples and metrics tell it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from journal import trends
from journal.contracts import in_force as contracts_kept
from journal.history import History, Line, Sample
from journal.ledger import Tally
from journal.local import JournalReader
from journal.quarantine import STATUSES
from journal.refusals import Refusals
from journal.state import State
from journal.trends import Flow, Place, TimeGrid, Waiting
from pipeline.model import Pipeline
from quality.report.effectiveness import WINDOW, Budget, Effectiveness, budget, burn_down
from quality.report.levels import Measured, delay_of, freshness_of, target_of
from quality.report.trend import Moment, Stretches, Trend

if TYPE_CHECKING:
    from quality.contract import Contract

T = TypeVar("T")

_HOUR, _DAY = 3600, 86_400
_WINDOWS = (("24 hours", _DAY), ("7 days", 7 * _DAY), ("30 days", WINDOW))
_SILENT = 30.0  # seconds after which a source that says nothing does not run


class QualityNumbers:
    """The numbers, read once, all of them of the same moment of the journal."""

    def __init__(
        self, pipeline: Pipeline, contracts: Mapping[str, Contract], reader: JournalReader, state: State, history: History
    ) -> None:
        self.pipeline = pipeline
        self.contracts = contracts
        self.now = time.time()
        self._lines = history
        self._effective: dict[str, list[Effectiveness]] = {}
        with reader.view() as (db, _):
            self.stretches = Stretches.over(trends.begun(db), self.now)
            self._grid = TimeGrid(self.stretches.width, self.stretches.first, [self.now - seconds for _, seconds in _WINDOWS])
            self._counts = trends.counts(db, self.stretches.first, self.stretches.width)
            self._lately = trends.counts(db, self.now - WINDOW, _HOUR, rules=False)
            self._flows = trends.flows(db, self._grid)
            self.groups = trends.groups(db)
            self._waiting = trends.waiting(db)
            self.kept = contracts_kept(db)
            self.rule_totals = trends.rule_totals(db)
            self._steps = {name: trends.steps(db, self.now - seconds) for name, seconds in _WINDOWS}
            self._steps[""] = trends.steps(db, 0)
        self.last, self.totals = reader.balance()
        self.known = {source: reader.resume(source) for source in pipeline.sources}
        self.sinks = state.sinks()
        self.refused = state.refused_statuses(list(pipeline.sinks))
        with closing(Refusals.open(pipeline.state)) as refusals:
            self._refused_flows = refusals.flows(pipeline.sinks, self._grid)
            self._refused_changes = refusals.changes(pipeline.sinks, self._grid)
            self.groups += refusals.groups(pipeline.sinks)
        self._told = state.sources()
        self._lags = {name: reader.lag(progress.seq)[1] for name, progress in self.sinks.items() if progress.journal == reader.id}

    @cached_property
    def datasets(self) -> list[str]:
        """Everything that there is a word to say about, those that are not in the pipeline any more among them."""
        names = {schema.dataset for known in self.known.values() for schema in known.schemas.values()}
        return sorted({*names, *self.totals, *self.pipeline.datasets, *self._waiting, *self.refused})

    @cached_property
    def _history(self) -> dict[str, list[Line]]:
        found: dict[str, list[Line]] = {}
        for line in self._lines.since(self.stretches.first, self.stretches.width):
            found.setdefault(line.dataset, []).append(line)
        return found

    def fed_by(self, dataset: str) -> list[str]:
        """The sources of a dataset."""
        return [source for source, known in self.known.items() if any(schema.dataset == dataset for schema in known.schemas.values())]

    def gone(self, dataset: str) -> bool:
        """Whether it is not in the pipeline any more."""
        return dataset not in self.pipeline.datasets and not self.fed_by(dataset)

    def owner(self, dataset: str) -> str | None:
        """Whose it is."""
        contract = self.contracts.get(dataset)
        return (contract.owner if contract else None) or self.pipeline.owner

    def waiting(self, dataset: str) -> Waiting:
        """What is in quarantine, by whomever it was held back."""
        found = Waiting()
        for one in (self._waiting.get(dataset), self.refused.get(dataset)):
            for status, number in one.statuses.items() if one else ():
                found.add(status, number, one.oldest if one else None)
        found.statuses = {status: found.statuses[status] for status in STATUSES if status in found.statuses}
        return found

    def freshness(self, dataset: str) -> float | None:
        """How old the newest change is, in seconds."""
        newest = self.totals.get(dataset, Tally()).last_time
        return None if not newest else max(0.0, self.now - newest / 1e6)

    def delay(self, dataset: str) -> float | None:
        """How long changes take from a commit at the source to the last sink, in seconds; longer and longer while nothing runs."""
        reading = [self._source_delay(name) for name in self.fed_by(dataset)]
        sinks = [self._lags.get(name) for name, block in self.pipeline.sinks.items() if block.route(dataset) is not None]
        parts = [part for part in (*reading, *sinks) if part is not None]
        if not parts or len(parts) < len(reading) + len(sinks):
            return None
        return max(map(float, filter(None, reading)), default=0.0) + max(map(float, filter(None, sinks)), default=0.0)

    def _source_delay(self, source: str) -> float | None:
        told = self._told.get(source)
        if told is None:
            return None
        silent = self.now - told.updated_at
        return float(told.get("lag_seconds") or 0.0) + (silent if silent > _SILENT else 0.0)

    def effectiveness(self, dataset: str) -> list[Effectiveness]:
        """Over the last day, week and month, and since the journal began."""
        if dataset not in self._effective:
            self._effective[dataset] = self._effectiveness(dataset)
        return self._effective[dataset]

    def _effectiveness(self, dataset: str) -> list[Effectiveness]:
        lately = self._lately.get(dataset, {}).get("", {})
        found = [
            self._over(dataset, window, seconds, [tally for start, tally in lately.items() if start + _HOUR > self.now - seconds], since)
            for since, (window, seconds) in zip((3, 2, 1), _WINDOWS, strict=True)
        ]
        return [*found, self._over(dataset, "", None, [self.totals.get(dataset, Tally())], 0)]

    def _over(self, dataset: str, window: str, seconds: int | None, tallies: Collection[Tally], since: int) -> Effectiveness:
        """Over what came in the last `seconds`: what is after at least so many (`since`) of the times of the grid."""
        flow = Flow.together([flow for (_, recent), flow in self._all_flows(dataset) if recent >= since])
        changes = [one for (_, recent), one in self._refused_changes.get(dataset, {}).items() if recent >= since]
        refused = sum(one.refused for one in changes)
        return Effectiveness(
            window=window or "since the beginning",
            seconds=seconds,
            rows=sum(tally.rows for tally in tallies),
            bad=sum(tally.quarantined + tally.dropped for tally in tallies) + refused,
            released=sum(tally.released for tally in tallies) + sum(one.released for one in changes),
            refused=refused,
            detecting=flow.detect,
            resolving=flow.resolve,
            steps=self._steps[window].get(dataset, 0),
        )

    def _all_flows(self, dataset: str) -> Iterator[tuple[Place, Flow]]:
        """What the gate held back and what single sinks refused."""
        yield from self._flows.get(dataset, {}).items()
        for flows in self._refused_flows.get(dataset, {}).values():
            yield from flows.items()

    def refused_changes(self, dataset: str) -> int:
        """Changes that single sinks refused, and have not got since."""
        return sum(one.refused - one.released for one in self._refused_changes.get(dataset, {}).values())

    def lately(self, dataset: str) -> Effectiveness:
        """Over the 30 days of the error budget."""
        return next(one for one in self.effectiveness(dataset) if one.seconds == WINDOW)

    def budget(self, dataset: str, lately: Effectiveness) -> Budget:
        """What may go wrong within 30 days, and what has."""
        contract = self.contracts.get(dataset)
        return budget(*target_of(contract.service_levels if contract else ()), lately.rows, lately.bad, lately.released)

    def measured(self, dataset: str, lately: Effectiveness) -> Measured:
        """What the service level is compared with."""
        return Measured(self.freshness(dataset), self.delay(dataset), lately.complete, lately.success, lately.detecting, lately.resolving)

    def sample(self, dataset: str) -> Sample:
        """How the dataset does at this moment."""
        contract, waiting = self.contracts.get(dataset), self.waiting(dataset)
        levels = contract.service_levels if contract else ()
        freshness, delay = self.freshness(dataset), self.delay(dataset)
        compared = [(freshness, freshness_of(levels)), (delay, delay_of(levels))]
        judged = [found <= level for found, level in compared if found is not None and level is not None]
        oldest = None if waiting.oldest is None else max(0.0, self.now - waiting.oldest)
        return Sample(dataset, self.now, waiting.open, oldest, freshness, delay, all(judged) if judged else None)

    def trend(self, dataset: str, whole: Budget) -> Trend:
        """What happened when."""
        moments = list(self._moments(dataset))
        return Trend(self.stretches.width, self.stretches.word, burn_down(moments, whole))

    def rule_counts(self, dataset: str, rule: str) -> list[Tally]:
        """What a rule found within each stretch of the trend."""
        found = self._counts.get(dataset, {}).get(rule, {})
        return [found.get(int(start.timestamp()), Tally()) for start in self.stretches.starts]

    def _moments(self, dataset: str) -> Iterator[Moment]:
        stretches = self.stretches
        flows = [Flow.together(parts) for parts in self._by_stretch(self._all_flows(dataset))]
        changes = self._by_stretch(self._refused_changes.get(dataset, {}).items())
        sinks = {sink: self._by_stretch(found.items()) for sink, found in self._refused_flows.get(dataset, {}).items()}
        looks: dict[int, list[Line]] = {}
        for line in self._history.get(dataset, ()):
            looks.setdefault(stretches.place(line.start) or 0, []).append(line)
        # backwards from what waits now, what waited at the end of each stretch
        waits = self.waiting(dataset).open
        open_: list[int] = []
        for flow in reversed(flows):
            open_.insert(0, max(waits, 0))
            waits += flow.left - flow.entered
        for place, (begin, tally) in enumerate(zip(stretches.starts, self.rule_counts(dataset, ""), strict=True)):
            flow, seen = flows[place], looks.get(place, [])
            by_sink = {sink: sum(part.entered for part in parts[place]) for sink, parts in sinks.items()}
            yield Moment(
                begin,
                *(tally.rows, tally.quarantined, tally.dropped),
                released=tally.released + sum(one.released for one in changes[place]),
                entered=flow.entered,
                left=flow.left,
                open=seen[-1].open if seen else open_[place],
                oldest=_worst([line.oldest for line in seen]),
                freshness=_worst([line.freshness for line in seen]),
                delay=_worst([line.delay for line in seen]),
                detect=flow.detect.median,
                detect_p95=flow.detect.p95,
                resolve=flow.resolve.median,
                resolve_p95=flow.resolve.p95,
                refused=sum(one.refused for one in changes[place]),
                by_sink={sink: number for sink, number in by_sink.items() if number},
            )

    def _by_stretch(self, found: Iterable[tuple[Place, T]]) -> list[list[T]]:
        """What is in each stretch of the trend."""
        parts: list[list[T]] = [[] for _ in range(self.stretches.number)]
        for (start, _), part in found:
            place = self.stretches.place(start)
            if place is not None:
                parts[place].append(part)
        return parts


def _worst(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
