"""What a message says to people, from its payload: the same words in mail and in a chat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quality.alerts.payload import amount, counted, percent

Payload = Mapping[str, Any]


def subject(payload: Payload) -> str:
    """The line above everything: which pipeline, and what."""
    return f"[{payload['pipeline']}] {payload['title']}"


def facts(line: Mapping[str, Any]) -> list[str]:
    """How many, since when, until when, and what was held back meanwhile."""
    if line["kind"] == "test":
        return []
    found = []
    if line["count"] is not None:
        share = "" if line["share"] is None else f", {percent(line['share'])} of what came since"
        found.append(counted(line["count"]) + share)
    found.append(f"since {line['since']}" if line["until"] is None else f"from {line['since']} to {line['until']}")
    if line["again"]:
        more = f": {amount(line['more'])} more since it was told last" if line["more"] else ""
        found.append(f"still so{more}")
    if line["held_back"]:
        times = "once" if line["held_back"] == 1 else f"{amount(line['held_back'])} times"
        found.append(f"it came and went {times} since it was told last")
    return found


def heading(line: Mapping[str, Any]) -> str:
    """What it is, and whether it is over."""
    return line["what"] if line["state"] == "open" or line["kind"] == "test" else f"Over: {line['what']}"


def context(payload: Payload) -> list[tuple[str, str]]:
    """Whose it is: owner, dataset, pipeline."""
    names = ("owner", "dataset", "sink", "source", "pipeline")
    return [(name, payload[name]) for name in names if payload[name] is not None]


def rest(payload: Payload) -> str | None:
    """What is not in the message."""
    return f"and {amount(payload['more'])} more" if payload["more"] else None


def plain(payload: Payload) -> str:
    """The message as plain text."""
    parts = [payload["title"], ""]
    for line in payload["alerts"]:
        parts += [f"* {heading(line)}", *(f"  {fact}" for fact in facts(line)), f"  {line['command']}", ""]
    said = rest(payload)
    if said is not None:
        parts += [said, ""]
    parts += [f"{name}: {value}" for name, value in context(payload)]
    return "\n".join(parts) + "\n"
