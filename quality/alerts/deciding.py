"""Decides what is told now: one alert for a cause, several causes of a dataset in one message, nothing twice within the cool-down, and once
that it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from journal.alerting import Kept
from quality.alerts.conditions import Condition, Seen, Subject, decoded

_FORGOTTEN = 86_400.0  # seconds after which what is over is not remembered any more, at least
_MUCH_MORE = 2  # times as many records as were told


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to wait for more of a dataset, and for how long nothing is told again; seconds. `repeat`: see AlertsBlock."""

    group_wait: float = 30.0
    cool_down: float = 3600.0
    repeat: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One thing in a message.

    again   it has been told before, and has not been over since
    more    records that came since it was told last
    held    how often it came and went since then without being told
    until   when it was over
    """

    condition: Condition
    again: bool = False
    more: int | None = None
    held: int = 0
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One message about one subject: what is wrong, and what is over."""

    subject: Subject
    wrong: Sequence[Line] = ()
    over: Sequence[Line] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What is told now, and what is to be remembered of it."""

    notices: Sequence[Notice] = ()
    kept: Sequence[Kept] = ()
    forgotten: Sequence[str] = ()


def decide(now: float, seen: Seen, known: Mapping[str, Kept], timing: Timing) -> Decision:
    """Of what is the case `now` (seconds since 1970) and what is known of before.

    Promise: of one key there are never two alerts within the cool-down, nor two notes that it is over without an alert between them.
    Remembering what it answers, and calling it again, tells nothing a second time.
    """
    next_known = {key: _settled(now, one) for key, one in known.items()}
    present = {condition.key: condition for condition in seen.conditions}
    forgotten = []
    for key, condition in present.items():
        next_known[key] = _present(now, condition, next_known.get(key))
    for key in known.keys() - present.keys():
        one = next_known[key]
        if one.phase == "over":
            if now - (one.gone_at or 0.0) > max(_FORGOTTEN, timing.cool_down):
                forgotten.append(key)
                del next_known[key]
        elif seen.knows(decoded(one.content)):
            next_known[key] = _absent(now, one)
    notices = []
    for subject, members in _by_subject(next_known).items():
        wrong = [one for one in members if one.key in present and _may_be_told(now, one, timing)]
        if not any(_is_due(now, one, timing) for one in wrong):
            wrong = []
        over = [one for one in members if one.phase == "told" and one.gone_at is not None and now - one.gone_at >= timing.group_wait]
        if wrong or over:
            notices.append(Notice(subject, [_line(one) for one in wrong], [_line(one) for one in over]))
        for one in wrong:
            next_known[one.key] = replace(one, phase="told", told_at=now, told_count=decoded(one.content).count, held=0)
        for one in over:
            next_known[one.key] = replace(one, phase="over")
    changed = [one for key, one in next_known.items() if known.get(key) != one]
    return Decision(notices, changed, forgotten)


def _settled(now: float, one: Kept) -> Kept:
    """A clock that was set back must not keep anything waiting."""
    told_at = None if one.told_at is None else min(one.told_at, now)
    gone_at = None if one.gone_at is None else min(one.gone_at, now)
    return replace(one, first_at=min(one.first_at, now), told_at=told_at, gone_at=gone_at)


def _present(now: float, condition: Condition, known: Kept | None) -> Kept:
    content = condition.encoded()
    if known is None:
        return Kept(condition.key, "waiting", now, content)
    if known.phase == "over":
        return replace(known, phase="waiting", first_at=now, content=content, gone_at=None, told_count=None)
    return replace(known, content=content, gone_at=None)


def _absent(now: float, known: Kept) -> Kept:
    if known.phase == "waiting":
        return replace(known, phase="over", gone_at=now, held=known.held + 1)
    return known if known.gone_at is not None else replace(known, gone_at=now)


def _may_be_told(now: float, one: Kept, timing: Timing) -> bool:
    cooled = one.told_at is None or now - one.told_at >= timing.cool_down
    waited = one.phase == "waiting" and now - one.first_at >= decoded(one.content).lasting
    return cooled and (waited or (one.phase == "told" and (_grown(one) or _repeated(now, one, timing))))


def _is_due(now: float, one: Kept, timing: Timing) -> bool:
    """Whether it is told now, with whatever else may be told of its subject."""
    return one.phase == "told" or now - one.first_at >= timing.group_wait


def _grown(one: Kept) -> bool:
    count = decoded(one.content).count
    return count is not None and one.told_count is not None and count >= _MUCH_MORE * max(one.told_count, 1)


def _repeated(now: float, one: Kept, timing: Timing) -> bool:
    return timing.repeat is not None and one.told_at is not None and now - one.told_at >= timing.repeat


def _by_subject(known: Mapping[str, Kept]) -> dict[Subject, list[Kept]]:
    found: dict[Subject, list[Kept]] = {}
    for one in known.values():
        if one.phase != "over":
            found.setdefault(decoded(one.content).subject, []).append(one)
    return found


def _line(one: Kept) -> Line:
    condition = decoded(one.content)
    again = one.phase == "told" and one.gone_at is None
    more = condition.count - one.told_count if again and condition.count is not None and one.told_count is not None else None
    return Line(condition, again, max(more, 0) if more is not None else None, one.held, one.gone_at)
