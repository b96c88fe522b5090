"""A process that writes a journal until it is killed.

    python -m tests.journal_victim FOLDER SEED
    python -m tests.journal_victim FOLDER SEED POINTS

Each transaction has changes of two datasets, a record in quarantine, counts, and the watermark that says how many transactions there
were. Its number is printed once `commit` has returned. With POINTS it makes a copy of FOLDER for each, FOLDER-1 and so on, and for each
of them a process that kills itself before that statement of SQLite's.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from journal.codec import encode
from journal.local import JournalWriter
from tests.journal_cases import LINES, ORDERS, SOURCE, changes, marker, opened, record


def transaction(writer: JournalWriter, number: int) -> None:
    """Transaction `number`: as many rows as its number says, so that a part of it can be told from the whole."""
    draw = random.Random(number)
    writer.mark(marker("start", writer.next_ordinal))
    for schema in (ORDERS, LINES, ORDERS):
        batch = changes(writer.next_ordinal, 1 + number % 7, schema=schema, width=draw.choice([5, 50, 4000]))
        writer.append(replace(batch, lsn=np.full(len(batch), number, np.int64)))
        _count(writer, schema.dataset, int(batch.ordinal[0]), len(batch))
    writer.hold(changes(0, number % 3 + 1))
    if number % 5 == 0:
        list(writer.released(SOURCE, "public.orders", None))
    held_back = writer.next_ordinal
    writer.quarantine([record(writer.id, held_back)])
    _count(writer, "orders", held_back, 1, quarantined=1)
    writer.commit(SOURCE, json.dumps({"transactions": number}))


def _count(writer: JournalWriter, dataset: str, first: int, rows: int, quarantined: int = 0) -> None:
    writer.count(dataset, source=SOURCE, rows=rows, quarantined=quarantined, first_ordinal=first, last_ordinal=first + rows - 1)


def write_on(writer: JournalWriter, seed: int) -> None:
    """Transactions without end, and pruning now and then."""
    draw = random.Random(seed)
    known = writer.resume(SOURCE)
    number = json.loads(known.watermark)["transactions"] if known.watermark else 0
    while True:
        number += 1
        transaction(writer, number)
        print(number, flush=True)
        if draw.random() < 0.2:
            writer.prune(draw.randrange(0, 3) + int(_last(writer) * 0.3))


def die_at_each(folder: Path, seed: int, points: int) -> None:
    """A child for each statement, one after the other."""
    encode(changes(1))  # what pyarrow imports for it, it imports once
    for point in range(1, points + 1):
        copy = Path(f"{folder}-{point}")
        shutil.copytree(folder, copy)
        child = os.fork()
        if child == 0:
            writer = opened(copy)
            _kill_self(writer, point)
            write_on(writer, seed)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            raise RuntimeError(f"the process for {point} was not killed")


def _last(writer: JournalWriter) -> int:
    found: int = writer._db.execute("select max(last_seq) from position").fetchone()[0]
    return found


def _kill_self(writer: JournalWriter, at: int) -> None:
    statements = 0

    def count(statement: str) -> None:
        nonlocal statements
        statements += 1
        if statements == at:
            os.kill(os.getpid(), signal.SIGKILL)

    writer._db.set_trace_callback(count)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_at_each(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    else:
        write_on(opened(Path(sys.argv[1])), int(sys.argv[2]))
