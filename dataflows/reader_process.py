"""A process that reads for ingest: its parts of the sources that several can read."""

from __future__ import annotations

import os
from contextlib import ExitStack

import structlog
from bytewax.dataflow import Dataflow

from dataflows.build import build_source
from dataflows.ending import Ending
from dataflows.lean import seldom_collect
from dataflows.readers import Reading, exchange, none_here
from dataflows.stopping import Stop
from dataflows.together import run_together
from dataflows.worker import Worker
from journal.locks import ProcessLock
from pipeline.model import Pipeline

log = structlog.get_logger("sluice.ingest")

_PATIENCE = 10.0


class _Progress:
    """See together.Progress."""

    def __init__(self) -> None:
        self.ending = Ending()
        self.reading: Reading | None = None

    @property
    def begun(self) -> bool:
        return self.reading is not None and self.reading.begun

    @property
    def drained(self) -> bool:
        return self.reading is not None and self.reading.drained


def run_reader(pipeline: Pipeline, stop: Stop, worker: Worker) -> int:
    """Reads for ingest until asked to stop, or until another of them ends. Raises TransientError then."""
    with ExitStack() as held:
        name = worker.named("ingest")
        held.enter_context(ProcessLock(pipeline.state, f"ingest.{worker.number}", f"{name} of {pipeline.name}", _PATIENCE))
        built = {name: build_source(pipeline, block) for name, block in pipeline.sources.items()}
        sources = {name: source for name, source in built.items() if source.divisible}
        for source in sources.values():
            source.part(worker.number, worker.of)
            held.callback(source.close)
        progress = _Progress()
        progress.reading = Reading(sources, worker, stop, progress.ending)
        flow = Dataflow("ingest")
        none_here(flow)
        exchange(flow, worker, None, progress.reading)
        seldom_collect()
        log.info("ready to read for ingest", reader=worker.number, pid=os.getpid())
        run_together(flow, progress, worker, stop, lambda: None)
        return 0
