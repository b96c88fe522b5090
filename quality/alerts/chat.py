"""A message as Slack takes it at an incoming webhook: text for whatever shows no blocks, and blocks.

Limits: https://docs.slack.dev/reference/block-kit/blocks. Whatever comes from a pipeline stands in plain text or behind escapes, so that no
name can mention anybody, or become a link.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from quality.alerts.wording import context, facts, heading, plain, rest, subject

_HEADER, _SECTION, _TEXT = 150, 3000, 20_000
_MOST_BLOCKS = 45
_MENTION = re.compile(r"@(?=\w)")
_APART = "@\u200b"  # with nothing that can be seen in between

Json = dict[str, Any]


def chat_message(payload: Mapping[str, Any], room: str | None = None) -> Json:
    """The body of the request. `room` is the channel that it is meant for, where the webhook lets that be said."""
    blocks: list[Json] = [{"type": "header", "text": _plain(subject(payload), _HEADER)}]
    for line in payload["alerts"]:
        blocks.append({"type": "section", "text": _plain("\n".join([heading(line), *facts(line)]), _SECTION)})
        if line["state"] == "open" or line["kind"] == "test":
            blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": _code(line["command"])}})
    said = rest(payload)
    if said is not None:
        blocks = [*blocks[: _MOST_BLOCKS - 2], {"type": "section", "text": _plain(said, _SECTION)}]
    whose = " · ".join(f"{name}: {value}" for name, value in context(payload))
    blocks.append({"type": "context", "elements": [_plain(whose, _SECTION)]})
    text = _escaped((subject(payload) + "\n" + plain(payload).partition("\n")[2])[:_TEXT])
    return {"text": text, "blocks": blocks, **({} if room is None else {"channel": room})}


def _plain(text: str, longest: int) -> Json:
    apart = _MENTION.sub(_APART, text)
    return {"type": "plain_text", "emoji": False, "text": apart if len(apart) <= longest else apart[: longest - 1] + "…"}


def _code(command: str) -> str:
    """A command between fences; what would end them is set apart."""
    shown = command.replace("```", "`\u200b`\u200b`").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"```{shown[: _SECTION - 20]}```"


def _escaped(text: str) -> str:
    return _MENTION.sub(_APART, text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
