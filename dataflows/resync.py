"""`resync`: everything is copied again, after a gap in the stream or the loss of a state folder.

The journal goes on (or is made, where it was lost); the sources begin anew in it, and what their copies lack goes from the sinks. Killed
in the middle, it is asked for again: every step finds what is done already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass

import structlog

from dataflows.build import build_sink, build_source, check_routes, contracts
from dataflows.contracts_in_force import in_force
from dataflows.delivery import passed_over
from dataflows.enriching import Enrichments
from dataflows.kept_values import kept_names
from dataflows.lookups import Lookups
from dataflows.maps import Maps
from dataflows.service import run_lock
from dataflows.versions import Versions
from journal.local import JournalReader
from journal.opening import find_reader, open_writer, tell
from journal.processes import INGEST, Processes, delivering
from journal.state import State
from pipeline.errors import AlreadyRunningError
from pipeline.model import Pipeline
from sinks.base import Cursor, Standing
from sources.base import Preflight

log = structlog.get_logger("sluice.resync")


@dataclass(frozen=True, slots=True)
class Resync:
    """What a resync is, part by part. `sources` hold what is done at each one, in its own words; `adopted` are sinks that count in
    another journal, or in an older state of this one, and are taken over."""

    sources: Mapping[str, list[str]]
    adopted: tuple[str, ...]
    new_journal: bool


def resync(pipeline: Pipeline, do: bool) -> Resync:
    """Looks at every source and sink, and says what has to be done; with `do` it is done.

    The copies themselves are made by the next `sync` or `run`. Raises AlreadyRunningError while the pipeline runs, PreflightError or
    Refused where a source is not ready, and Refused or TransientError for a server that cannot be asked, all before anything has changed.
    """
    pipeline = in_force(pipeline)
    contracts(pipeline)
    check_routes(pipeline)
    Maps(pipeline)
    Enrichments(pipeline, Lookups(pipeline))
    with ExitStack() as held:
        held.enter_context(run_lock(pipeline))
        sources = {name: build_source(pipeline, block) for name, block in pipeline.sources.items()}
        sinks = {name: build_sink(pipeline, block) for name, block in pipeline.sinks.items()}
        starts = {name: source.start_over(do=False) for name, source in sources.items()}
        standings = {name: sink.standing() for name, sink in sinks.items()}
        reader = find_reader(pipeline)
        _refuse_while_others_run(pipeline)
        if reader is not None:
            with reader:
                ours = _ours(reader.id, reader.last_seq())
        else:
            ours = _ours("", 0)
        strange = tuple(name for name, standing in standings.items() if not ours(standing.cursor))
        found = Resync({name: list(start.actions) for name, start in starts.items()}, strange, reader is None)
        if do:
            _adopt_and_forget(pipeline, held, starts, standings, strange)
            tell(pipeline)
            for name, source in sources.items():
                source.start_over(do=True)
                log.info("source begins anew", source=name)
        return found


def _refuse_while_others_run(pipeline: Pipeline) -> None:
    """Raises AlreadyRunningError where another machine runs a part of it, as far as is known here."""
    with closing(State.open(pipeline.state)) as state:
        processes = Processes(pipeline, state)
        for lock in (INGEST, *map(delivering, pipeline.sinks)):
            for machine in processes.elsewhere(lock):
                raise AlreadyRunningError(
                    f"{lock} of {pipeline.name} is running on {machine}", hint="stop it first, or wait until it has ended"
                )


def _ours(journal: str, last: int) -> Callable[[Cursor | None], bool]:
    return lambda cursor: cursor is None or (cursor.journal == journal and cursor.seq <= last)


def _adopt_and_forget(
    pipeline: Pipeline, held: ExitStack, starts: Mapping[str, Preflight], standings: Mapping[str, Standing], strange: tuple[str, ...]
) -> None:
    journal = held.enter_context(open_writer(pipeline))
    with JournalReader.open(pipeline.state, pipeline.name) as reader, closing(State.open(pipeline.state)) as state:
        for name in strange:
            cursor = passed_over(reader, pipeline.sinks[name])
            build_sink(pipeline, pipeline.sinks[name]).adopt(cursor)
            state.copies_done(name, sorted(state.copy_requests().get(name, ())))
            log.info("sink is taken over", sink=name)
    newest = max((standing.newest for standing in standings.values()), default=0)
    for kept in Versions(pipeline).names | kept_names(pipeline):
        journal.lookups.keep_anew(kept, ())  # a source that was restored may have older ones again
    for name, start in starts.items():
        journal.start_over(name, start.tables, newest)
