"""Whom something is told: the owner whom the contract names, by the channel that reaches them.

1. Channels that are for just this dataset or owner.
2. For each contact of the contract the first channel that fits: mail for an address, Slack for a channel there. A contract names people,
   never servers: nothing is sent to an address of the web that is not in the pipeline file.
3. Where that is nobody, the owner of the contract, and then of the pipeline, if that is an address.
4. Where that is nobody either, the default channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.alerts import Channel, EmailChannel, SlackChannel, is_address
from quality.contract import Contact

_MAIL = frozenset({"email", "e-mail", "mail"})
_CHAT = frozenset({"slack", "mattermost", "rocketchat", "rocket.chat"})


@dataclass(frozen=True, slots=True)
class Whose:
    """To whom something belongs. `dataset` is None for a sink or a source as a whole, which is the pipeline's owner's."""

    dataset: str | None
    owner: str | None
    pipeline_owner: str | None = None
    contacts: Sequence[Contact] = ()

    @property
    def shown(self) -> str | None:
        """The owner, for people."""
        return self.owner or self.pipeline_owner


@dataclass(frozen=True, slots=True)
class Recipient:
    """A channel, by name, and who gets the message there: addresses, or a channel of the chat; else whoever the channel is for."""

    channel: str
    to: tuple[str, ...] = ()
    room: str | None = None


def recipients(whose: Whose, channels: Mapping[str, Channel]) -> list[Recipient]:
    """Who is told, each channel of the chat and each address once. There is always somebody, where one of the channels is the default."""
    meant = [name for name, channel in channels.items() if channel.bound and _is_for(channel, whose)]
    found = [*_bound(meant, whose, channels), *_contacts(whose, channels)]
    if not found:
        found = list(_mailed([owner for owner in (whose.owner, whose.pipeline_owner) if owner], whose, channels))[:1]
    if not found:
        found = [_whole(name, channel) for name, channel in channels.items() if channel.default]
    return _once(found)


def _is_for(channel: Channel, whose: Whose) -> bool:
    """Whether a channel is for this: for all, or for just the dataset and the owner."""
    owner = whose.shown if whose.dataset is None or whose.owner is None else whose.owner
    return (not channel.datasets or whose.dataset in channel.datasets) and (not channel.owners or owner in channel.owners)


def _bound(names: Sequence[str], whose: Whose, channels: Mapping[str, Channel]) -> Iterator[Recipient]:
    """What is for this alone; mail goes to the addresses of the contract, if there are some."""
    named = tuple(contact_address for contact in whose.contacts if (contact_address := _address(contact)) is not None)
    for name in names:
        channel = channels[name]
        yield Recipient(name, named) if isinstance(channel, EmailChannel) and named else _whole(name, channel)


def _whole(name: str, channel: Channel) -> Recipient:
    return Recipient(name, tuple(channel.to) if isinstance(channel, EmailChannel) else ())


def _contacts(whose: Whose, channels: Mapping[str, Channel]) -> Iterator[Recipient]:
    for contact in whose.contacts:
        address = _address(contact)
        if address is not None:
            yield from _mailed([address], whose, channels)
        elif (contact.tool or "").lower() in _CHAT:
            fitting = [
                name
                for name, channel in channels.items()
                if isinstance(channel, SlackChannel) and _is_for(channel, whose) and _leads_to(channel, contact.channel)
            ]
            yield from (Recipient(name, room=_room(contact.channel)) for name in fitting[:1])


def _address(contact: Contact) -> str | None:
    """The e-mail address of a contact, if it has one."""
    tool = (contact.tool or "").lower()
    if tool and tool not in _MAIL:
        return None
    texts = [contact.channel, *([contact.url.removeprefix("mailto:")] if contact.url else [])]
    return next((text for text in texts if is_address(text)), None)


def _mailed(addresses: Sequence[str], whose: Whose, channels: Mapping[str, Channel]) -> Iterator[Recipient]:
    """The first channel for mail that takes this, for each address."""
    fitting = [name for name, channel in channels.items() if isinstance(channel, EmailChannel) and _is_for(channel, whose)]
    for address in addresses:
        if fitting and is_address(address):
            yield Recipient(fitting[0], (address,))


def _room(name: str) -> str:
    return name if name.startswith(("#", "@")) else f"#{name}"


def _leads_to(channel: SlackChannel, room: str) -> bool:
    return channel.channel is None or _room(channel.channel).lower() == _room(room).lower()


def _once(found: Sequence[Recipient]) -> list[Recipient]:
    """One message for each channel, or room in one; the addresses of a channel for mail together."""
    merged: dict[tuple[str, str | None], Recipient] = {}
    for one in found:
        known = merged.get((one.channel, one.room))
        to = tuple(dict.fromkeys((*(known.to if known is not None else ()), *one.to)))
        merged[one.channel, one.room] = Recipient(one.channel, to, one.room)
    rooms = {channel for channel, room in merged if room is not None}
    return [one for (channel, room), one in merged.items() if room is not None or channel not in rooms]
