"""A notice as the JSON that webhooks get; what Slack and mail say is made of it. docs/alert.schema.json describes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from quality.alerts.conditions import Kind
from quality.alerts.deciding import Line, Notice
from quality.alerts.recipients import Whose

VERSION = 1
MOST_LINES = 20
"""Things that one message tells of; of others it tells how many they are."""
_LONGEST = 500  # characters of a text
_TITLES = {
    Kind.CAUSE: ("new cause in quarantine", "new causes in quarantine"),
    Kind.BREAKER: ("the breaker has tripped", "breakers have tripped"),
    Kind.STOPPED: ("stopped", "parts have stopped"),
    Kind.FRESHNESS: ("not fresh", "parts are not fresh"),
    Kind.LATE: ("late", "parts are late"),
    Kind.COMPLETENESS: ("not complete", "parts are not complete"),
    Kind.INCIDENT: ("incident of the auditor", "incidents of the auditor"),
    Kind.APPROVAL: ("records wait for approval", "groups of records wait for approval"),
    Kind.CONTRACT: ("a new contract is not in force", "new contracts are not in force"),
}

Payload = dict[str, Any]


def payload(notice: Notice, whose: Whose, pipeline: str, now: float) -> Payload:
    """Everything that a message says. All texts are of one line and printable, whatever things are called."""
    wrong = sorted(notice.wrong, key=lambda line: (-(line.condition.count or 0), line.condition.key))
    over = sorted(notice.over, key=lambda line: line.condition.key)
    shown = [*(_line(line, "open") for line in wrong), *(_line(line, "over") for line in over)]
    return {
        "version": VERSION,
        "kind": "alert" if wrong else "recovery",
        "at": moment(now),
        "pipeline": pipeline,
        "dataset": None if notice.subject.dataset is None else clean(notice.subject.dataset),
        "sink": None if notice.subject.sink is None else clean(notice.subject.sink),
        "source": None if notice.subject.source is None else clean(notice.subject.source),
        "owner": None if whose.shown is None else clean(whose.shown),
        "title": _title(notice),
        "alerts": shown[:MOST_LINES],
        "more": max(0, len(shown) - MOST_LINES),
    }


def trial(pipeline: str, channel: str, command: str, now: float) -> Payload:
    """What `alerts test` sends."""
    said = f"a test: what the pipeline {pipeline} has to tell by the channel {channel} would come here"
    line = {"key": "test", "kind": "test", "state": "over", "what": said, "since": moment(now), "until": moment(now)}
    nothing = {"count": None, "share": None, "more": None, "held_back": 0, "again": False}
    nobody = {"dataset": None, "sink": None, "source": None, "owner": None}
    told = {"version": VERSION, "kind": "test", "at": moment(now), "pipeline": pipeline, **nobody, "title": "a test of this channel"}
    return {**told, "alerts": [{**line, **nothing, "command": command}], "more": 0}


def moment(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 writes them, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clean(text: str, longest: int = _LONGEST) -> str:
    """One line of printable text, no longer than that: a name with a line's end in it becomes no second line of a message."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def amount(count: int) -> str:
    """A count with its thousands apart."""
    return f"{count:,}"


def counted(records: int) -> str:
    """So many records."""
    return f"{amount(records)} record{'' if records == 1 else 's'}"


def percent(share: float) -> str:
    """A share for people: never 0 % for something, nor 100 % for less than all."""
    if 0 < share < 0.0001:
        return "under 0.01 %"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{min(100 * share, 99.9 if share < 1 else 100):.3g} %"


def _title(notice: Notice) -> str:
    subject = clean(notice.subject.title, 120)
    counts: dict[Kind, int] = {}
    for line in notice.wrong or notice.over:
        counts[line.condition.kind] = counts.get(line.condition.kind, 0) + line.condition.number
    said = ", ".join(_TITLES[kind][0] if number == 1 else f"{amount(number)} {_TITLES[kind][1]}" for kind, number in counts.items())
    records = sum(line.condition.count or 0 for line in notice.wrong if line.condition.kind is Kind.CAUSE)
    if not notice.wrong:
        return f"{subject}: over: {said}"
    return f"{subject}: {said}" + (f" ({counted(records)})" if records else "")


def _line(line: Line, state: str) -> Mapping[str, Any]:
    condition = line.condition
    share = None if condition.count is None or not condition.of else min(1.0, condition.count / condition.of)
    return {
        "key": clean(condition.key),
        "kind": condition.kind.value,
        "state": state,
        "what": clean(condition.what),
        "since": moment(condition.since),
        "until": None if line.until is None else moment(line.until),
        "count": condition.count,
        "share": None if share is None else round(share, 6),
        "more": line.more,
        "held_back": line.held,
        "again": line.again,
        "command": clean(condition.command, 4000),
    }
