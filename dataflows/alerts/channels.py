"""What sends by a channel, by the kind that it is of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from dataflows.alerts.carrying import Send
from dataflows.alerts.mailing import post_mail
from dataflows.alerts.posting import post_chat, post_webhook
from pipeline.alerts import Channel, EmailChannel, SlackChannel


def sending(channel: Channel) -> Send:
    """Sends a message by a channel; connects to nothing before."""
    if isinstance(channel, EmailChannel):
        return partial(post_mail, channel)
    if isinstance(channel, SlackChannel):
        return partial(post_chat, channel)
    return partial(post_webhook, channel)


def all_sending(channels: Mapping[str, Channel]) -> Mapping[str, Send]:
    """The same for all, by name."""
    return {name: sending(channel) for name, channel in channels.items()}
