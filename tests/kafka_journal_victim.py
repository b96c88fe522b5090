"""A process that publishes a journal until it is killed, at one named point after another.

    python -m tests.kafka_journal_victim FOLDER SERVERS PREFIX

For each point it forks a child that opens the journal, writes one transaction, and kills itself just before that step of its commit: the
first message, any other one, the end of the transaction of the topics, that of the file. A line is printed before it dies, with the point;
a line is read before the next one. It ends after the child that came through.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from journal.codec import encode
from tests.journal_cases import SOURCE, changes
from tests.journal_victim import transaction


def victim(folder: Path, servers: str, prefix: str, point: int) -> None:
    """In a process of its own, as librdkafka's threads do not survive a fork."""
    from journal.keeping import open_published
    from pipeline.model import JournalConfig, KafkaJournal

    writer = open_published(folder, "commerce", JournalConfig(1 << 40), KafkaJournal(servers, prefix, 1))
    known = writer.resume(SOURCE)
    number = json.loads(known.watermark)["transactions"] if known.watermark else 0
    publisher: Any = writer._publisher
    steps = 0

    def step(what: str) -> None:
        nonlocal steps
        steps += 1
        if steps == point:
            print(f"{point} {what}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    link = publisher._link

    def before(name: str) -> Any:
        call = getattr(link, name)

        def called(*arguments: Any) -> Any:
            step(name)
            return call(*arguments)

        return called

    for name in ("begin", "send", "commit"):
        setattr(link, name, before(name))
    followed = publisher.followed

    def told() -> None:
        step("followed")
        followed()

    publisher.followed = told
    writer._db.set_trace_callback(lambda statement: step("the file") if statement.lower() == "commit" else None)
    transaction(writer, number + 1)
    os._exit(0)


def main(folder: Path, servers: str, prefix: str) -> None:
    """A child for each point."""
    encode(changes(1))  # what pyarrow imports for it, it imports once
    point = 0
    while True:
        point += 1
        child = os.fork()
        if child == 0:
            victim(folder, servers, prefix, point)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            print("through", flush=True)
            return
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the process for {point} ended with {code}")
        sys.stdin.readline()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
