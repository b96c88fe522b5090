"""`snapshot`: a table is copied again, by whoever runs ingest now or next."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from dataflows.copy_names import CopyNames
from journal.opening import open_reader, tell
from journal.processes import INGEST, Processes
from journal.state import EVERY_SINK, State
from pipeline.errors import ConfigError
from pipeline.model import Pipeline
from pipeline.names import nearest


@dataclass(frozen=True, slots=True)
class Asked:
    """Of which dataset a copy was asked for; `running`: ingest is there and makes it now."""

    dataset: str
    running: bool


def request_copy(pipeline: Pipeline, table: str, sink: str | None) -> Asked:
    """Asks for a copy of a table (`schema.table`, or with the source's name before it, or its dataset), for all sinks or for one.

    Raises ConfigError for a table or a sink that is not there, or has nothing to do with the other, and JournalError where nothing has run.
    """
    with open_reader(pipeline) as reader:
        tables = {(source, name): schema.dataset for source in pipeline.sources for name, schema in reader.resume(source).schemas.items()}
    meant = {dataset for (source, name), dataset in tables.items() if table in (name, f"{source}.{name}", dataset)}
    if len(meant) != 1:
        known = [name for _, name in tables] if not meant else [f"{source}.{name}" for source, name in tables if name == table]
        problem = f"no table `{table}` is read" if not meant else f"several sources have a table `{table}`"
        raise ConfigError(problem, hint=nearest(table, known) or f"known: {', '.join(sorted(known))}")
    dataset = meant.pop()
    names = CopyNames(pipeline)
    chosen = [one for one, name in tables.items() if name == dataset and table in (dataset, one[1], ".".join(one))]
    if sink is None and any(pipeline.sources[source].stream == name for source, name in chosen):
        hint = "name one sink with --sink; for all of them `sluice resync` reads it again from its earliest message"
        raise ConfigError(f"{table} is a stream without tables: it is not copied again for all sinks at once", hint=hint)
    if sink is not None:
        if sink not in pipeline.sinks:
            raise ConfigError(f"there is no sink `{sink}`", hint=nearest(sink, pipeline.sinks) or f"known: {', '.join(pipeline.sinks)}")
        if pipeline.sinks[sink].route(dataset) is None:
            raise ConfigError(f"the sink `{sink}` does not take {dataset}", hint="add it to `datasets` of the sink")
    with closing(State.open(pipeline.state)) as state:
        state.request_copies(sink or EVERY_SINK, sorted({names.at(*one) for one in chosen}))
        running = Processes(pipeline, state).alive(INGEST)
    tell(pipeline)
    return Asked(dataset, running)
