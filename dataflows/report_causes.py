"""What an owner can do now: the causes of records in quarantine, with samples that may be shown, and the commands that go with them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from dataflows.hidden import shown_reason
from journal.local import JournalReader
from journal.quarantine import STATUSES, Reason, Wanted
from journal.state import State
from journal.trends import Group, quarantined_at
from pipeline.model import Pipeline
from quality.report.model import Cause as CauseOnPage
from quality.report.model import Pending, Step

MOST = 12
"""Causes that a page shows; the others are counted."""
_SAMPLES = 3
_LONGEST = 120  # characters of a sample
_MENDABLE = ("open", "failed-again", "rule-changed")


def causes_of(
    pipeline: Pipeline, dataset: str, groups: Sequence[Group], hidden: Collection[str], reader: JournalReader, state: State, gone: bool
) -> tuple[list[CauseOnPage], int]:
    """The most frequent causes of a dataset, and how many more there are. Of `hidden` columns, and of a
    dataset that is `gone` from the pipeline, no values are shown."""
    chosen = sorted((group for group in groups if group.dataset == dataset), key=lambda one: -one.records)
    shown = [_cause(pipeline, one, hidden, reader, state, gone) for one in chosen[:MOST]]
    return [one for one in shown if one is not None], max(len(chosen) - MOST, 0)


def list_command(pipeline: Pipeline, dataset: str) -> str:
    """What lists a dataset's records."""
    return _command(pipeline, "list", "--dataset", dataset)


def approvals(pipeline: Pipeline, dataset: str, patched: int) -> list[Pending]:
    """Fixes that wait for somebody else's eyes."""
    if not patched:
        return []
    says = f"{patched:,} {'record was' if patched == 1 else 'records were'} fixed and {'waits' if patched == 1 else 'wait'} for approval"
    look = Step("See what was changed", _command(pipeline, "list", "--dataset", dataset, "--status", "patched"))
    return [Pending(says, None, [look])]


def _cause(
    pipeline: Pipeline, group: Group, hidden: Collection[str], reader: JournalReader, state: State, gone: bool
) -> CauseOnPage | None:
    first = max(group.statuses, key=lambda status: group.statuses[status])
    wanted = Wanted(dataset=group.dataset, status=first, group=group.cause)
    found = reader.quarantined(wanted, limit=_SAMPLES) if group.sink is None else state.refused(wanted, limit=_SAMPLES)
    if not found:
        return None  # somebody was faster
    reason = shown_reason(found[0].reasons[0], None if gone else hidden)
    samples = [] if gone else [_sample(shown_reason(record.reasons[0], hidden)) for record in found if record.erased_at is None]
    return CauseOnPage(
        group=group.cause,
        rule=reason.rule,
        column=reason.column,
        message=_cut(reason.message, 4 * _LONGEST),
        records=group.records,
        since=datetime.fromtimestamp(_since(group, reader), UTC),
        samples=list(dict.fromkeys(samples)),
        command=_command(pipeline, "list", "--dataset", group.dataset, "--group", group.cause),
        sink=group.sink,
        statuses={status: group.statuses[status] for status in STATUSES if status in group.statuses},
        steps=_steps(pipeline, group, reason, gone),
    )


def _since(group: Group, reader: JournalReader) -> float:
    if group.since is not None:
        return group.since
    with reader.view() as (db, _):
        return quarantined_at(db, group.first)


def _steps(pipeline: Pipeline, group: Group, reason: Reason, gone: bool) -> list[Step]:
    """The commands that make sense for records of these statuses; first what brings some of them to their end."""
    chosen = ("--group", group.cause)
    me = '--by "$USER"'
    made: list[Step] = []
    if "approved" in group.statuses and not gone:  # before a fix, which would take their approval away
        made.append(Step("Send them on, and wait for the sinks", _command(pipeline, "replay", *chosen, "--wait")))
    if ("patched" in group.statuses or "rule-changed" in group.statuses) and not gone:
        made.append(Step("Approve somebody else’s fix", f"{_command(pipeline, 'approve', *chosen)} {me}"))
    if any(status in group.statuses for status in _MENDABLE) and not gone:  # nothing could be replayed
        column = reason.column or "COLUMN"
        made.append(Step("Set a column right", f"{_command(pipeline, 'fix', *chosen, '--set', f'{column}=NEW_VALUE')} {me}"))
    made.append(Step("Give them up", f"{_command(pipeline, 'discard', *chosen)} {me} --why 'REASON'"))
    return made


def _command(pipeline: Pipeline, what: str, *arguments: str) -> str:
    return " ".join(["sluice", "quarantine", what, *(shlex.quote(one) for one in (str(pipeline.file), *arguments))])


def _sample(reason: Reason) -> str:
    if reason.value is None:
        return "null"
    return _cut(reason.value, _LONGEST) or "empty text"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…"
