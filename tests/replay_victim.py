"""Carries out the open requests of a pipeline, as a command does where no ingest runs; and dies before a statement of SQLite's.

    python -m tests.replay_victim PIPELINE_FILE POINTS STEP

For each point (1, 1 + STEP, …) it copies the pipeline's folder and lets a child die there: FOLDER-1 and so on.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import ExitStack, closing
from pathlib import Path

from dataflows.build import contracts
from dataflows.lean import forgo_pandas
from dataflows.requests import open_requests
from dataflows.stages import load_stages
from journal.local import JournalWriter
from journal.opening import open_writer
from journal.state import State
from pipeline.load import load_pipeline


def carry_out(file: Path, dying_at: int | None = None) -> None:
    """All that is asked for."""
    pipeline = load_pipeline(file)
    rules = contracts(pipeline)
    with ExitStack() as held:
        journal = held.enter_context(open_writer(pipeline))
        if dying_at is not None:
            _kill_self(journal, dying_at)
        state = held.enter_context(closing(State.open(pipeline.state)))
        requests = held.enter_context(
            closing(open_requests(pipeline, rules, journal, state, load_stages(pipeline, rules, journal), lambda: None))
        )
        requests.look()
        while not requests.over:
            requests.work(10.0)


def _kill_self(journal: JournalWriter, at: int) -> None:
    statements = 0

    def count(statement: str) -> None:
        nonlocal statements
        statements += 1
        if statements == at:
            os.kill(os.getpid(), signal.SIGKILL)

    with journal.view() as db:
        db.set_trace_callback(count)


def die_at_each(file: Path, points: int, step: int) -> None:
    """Prints the first point that nobody lived to see, or nothing."""
    folder = file.parent
    contracts(load_pipeline(file))  # what is imported for it is imported once
    for point in range(1, points + 1, step):
        copy = folder.with_name(f"{folder.name}-{point}")
        shutil.copytree(folder, copy)
        child = os.fork()
        if child == 0:
            carry_out(copy / file.name, point)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            print(point)
            return


if __name__ == "__main__":
    forgo_pandas()
    die_at_each(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
