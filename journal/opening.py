"""Opens the journal that a pipeline file asks for: the file in its state folder, or that as a copy of topics.

Of a journal in Kafka one process in each folder keeps the copy: ingest itself, or whoever follows. The others only read it.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress

from journal import evidence, store
from journal.local import JournalReader, JournalWriter
from journal.trouble import may_write
from pipeline.errors import AlreadyRunningError, TransientError
from pipeline.model import Pipeline


def open_writer(pipeline: Pipeline) -> JournalWriter:
    """Ingest's end, made if there is none. Raises as JournalWriter.open does; for topics, Refused and TransientError, too."""
    with ExitStack() as held:
        journal = held.enter_context(_writer(pipeline))
        with journal.view() as db:
            found = evidence.untold(db)
        if found:
            with journal.changing() as db:
                evidence.tell_found(db, found)
            journal.commit_beside()
        held.pop_all()
        return journal


def _writer(pipeline: Pipeline) -> JournalWriter:
    if pipeline.journal.kafka is None:
        return JournalWriter.open(pipeline.state, pipeline.name, pipeline.journal)
    from journal.keeping import open_published

    return open_published(pipeline.state, pipeline.name, pipeline.journal, pipeline.journal.kafka)


def open_reader(pipeline: Pipeline) -> JournalReader:
    """A reader's end. A copy of topics that nobody keeps just now is brought up to date first. Raises JournalError."""
    catch_up(pipeline)
    return JournalReader.open(pipeline.state, pipeline.name)


def find_reader(pipeline: Pipeline) -> JournalReader | None:
    """The same; None where ingest has not made the journal yet."""
    return JournalReader.open(pipeline.state, pipeline.name) if has_journal(pipeline) else None


def has_journal(pipeline: Pipeline) -> bool:
    """Whether ingest has made the journal already, here or elsewhere."""
    catch_up(pipeline)
    return store.journal_exists(pipeline.state)


def to_be_made(pipeline: Pipeline) -> list[str]:
    """For `plan`: what opening the journal would make on a server, in words. Raises as open_writer does."""
    if pipeline.journal.kafka is None:
        return []
    from journal.topics import JournalTopics

    return JournalTopics(pipeline.journal.kafka, pipeline.name).plan()


def catch_up(pipeline: Pipeline) -> None:
    """Brings a copy of topics up to date, and what processes of other machines say of themselves, unless a process here does.

    While no broker answers an old copy is better than none; so it is in a folder that may not be written.
    """
    kafka = pipeline.journal.kafka
    there = store.journal_exists(pipeline.state)
    if kafka is None or (there and not may_write(pipeline.state)):
        return
    from journal.exchange import exchange_once
    from journal.keeping import follow_once

    try:
        with suppress(AlreadyRunningError):
            follow_once(pipeline.state, pipeline.name, kafka)
        exchange_once(pipeline.state, pipeline.name, kafka)
    except TransientError:
        if not there:
            raise


def tell(pipeline: Pipeline) -> None:
    """Tells other machines what a command has written into the state, unless a process here does. Raises Refused, TransientError."""
    if pipeline.journal.kafka is not None:
        from journal.exchange import exchange_once

        exchange_once(pipeline.state, pipeline.name, pipeline.journal.kafka, tell=True)
