"""Whom a pipeline tells of trouble, and how: the block `alerts` of its file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from pipeline.file import Duration, Name, Names, Text
from pipeline.model import Block, PathFromFile

_ADDRESS = re.compile(r"""[^\s@<>,;:"()\[\]\\]{1,64}@[^\s@<>,;:"()\[\]\\]{1,189}""")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # https://www.rfc-editor.org/rfc/rfc9110#name-field-names
_OURS = frozenset({"content-length", "content-type", "host", "transfer-encoding", "webhook-id", "webhook-timestamp", "webhook-signature"})
_PORTS = {"starttls": 587, "implicit": 465, "none": 25}


def is_address(text: str) -> bool:
    """Whether mail can be sent there: one plain address, without a name, a list or a line's end in it."""
    return _ADDRESS.fullmatch(text) is not None and text.isprintable()


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError("an address is NAME@DOMAIN, and nothing else")
    return text


def _addresses(texts: list[str]) -> list[str]:
    return [_address(text) for text in texts]


def _url(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or not url.get_secret_value().isprintable():  # it is not repeated: whoever knows it can send
        raise ValueError("the address of a channel is https://HOST/PATH, or http://…")
    return url


def _headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        if _HEADER.fullmatch(name) is None or not all(char == "\t" or char.isprintable() for char in value.get_secret_value()):
            raise ValueError(f"`{name}` is no header of HTTP: a name of letters, digits and -, and a value of one line")
        if name.lower() in _OURS:
            raise ValueError(f"the header `{name}` is set already")
    return headers


class ChannelBlock(Block):
    """What every channel has: whom it is for."""

    owners: Names = Field(default_factory=list)
    """Only what concerns these owners, called as in their contracts (or as in `owner` of the pipeline)."""
    datasets: Names = Field(default_factory=list)
    """Only what concerns these datasets."""
    default: bool = False
    """Whether it takes what nobody else is named for."""

    @property
    def bound(self) -> bool:
        """Whether it is for some owners or datasets alone."""
        return bool(self.owners or self.datasets)

    @property
    def place(self) -> str:
        """Where it leads, for people: without anything that is secret."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _one_or_the_other(self) -> ChannelBlock:
        if self.default and self.bound:
            raise ValueError("a channel is for `owners` and `datasets`, or it is the `default`")
        return self


class HttpChannel(ChannelBlock):
    """A channel behind an address of the web."""

    url: Annotated[SecretStr, AfterValidator(_url)]
    """Where messages are posted to; it is treated as a secret."""
    ca: PathFromFile | None = None
    """A file of certificates to trust in place of the system's."""
    timeout: Annotated[Duration, Field(gt=0, le=60)] = 10.0
    """Seconds to wait for an answer."""

    @property
    def place(self) -> str:
        parts = urlsplit(self.url.get_secret_value())
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class WebhookChannel(HttpChannel):
    """A service of your own that takes alerts as JSON."""

    headers: Annotated[dict[str, SecretStr], AfterValidator(_headers)] = Field(default_factory=dict)
    """Headers of every request, such as `Authorization`."""
    secret: SecretStr | None = None
    """What messages are signed with, so that the service knows who sent them."""


class SlackChannel(HttpChannel):
    """An incoming webhook of Slack, or of what takes Slack's messages, such as Mattermost."""

    channel: Text | None = None
    """The channel behind the webhook, such as `#orders`: contracts that name another one do not come here."""


class EmailChannel(ChannelBlock):
    """E-mail, through a mail server."""

    host: Text
    """The mail server."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Its port; by default 587 with `starttls`, 465 with `implicit`, 25 with `none`."""
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    """`starttls`: encrypted before anything is said, or not at all; `implicit`: from the first byte; `none`: readable on the way."""
    ca: PathFromFile | None = None
    """A file of certificates to trust in place of the system's."""
    username: Text | None = None
    """Whom to log in as."""
    password: SecretStr | None = None
    """For the login."""
    from_: Annotated[Text, AfterValidator(_address)] = Field(alias="from")
    """Whom mail comes from."""
    to: Annotated[Names, AfterValidator(_addresses)] = Field(default_factory=list)
    """Who gets it where neither the contract nor its owner has an address."""
    timeout: Annotated[Duration, Field(gt=0, le=60)] = 10.0
    """Seconds to wait for each answer of the server."""

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port or _PORTS[self.tls]}"

    @property
    def reached_at(self) -> int:
        """The port."""
        return self.port or _PORTS[self.tls]

    @model_validator(mode="after")
    def _whole(self) -> EmailChannel:
        if (self.username is None) != (self.password is None):
            raise ValueError("`username` and `password` go together")
        if self.password is not None and self.tls == "none" and not _is_here(self.host):
            raise ValueError("`tls: none` would send the password readable for everybody on the way")
        if (self.default or self.bound) and not self.to:
            raise ValueError("it needs `to`: who gets what nobody with an address is named for")
        return self


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


Channel = WebhookChannel | SlackChannel | EmailChannel
CHANNELS: Mapping[str, type[WebhookChannel] | type[SlackChannel] | type[EmailChannel]] = {
    "email": EmailChannel,
    "slack": SlackChannel,
    "webhook": WebhookChannel,
}
"""What `type` of a channel may say."""


class AlertsBlock(Block):
    """Who is told of trouble, and how often."""

    channels: Annotated[dict[Name, Any], Field(min_length=1)]
    """Name -> channel. `type` says of which kind."""
    group_wait: Annotated[Duration, Field(le=3600)] = 30.0
    """How long further causes of a dataset are waited for, to be told in one message; and how long it is to be over before that is told."""
    cool_down: Duration = 3600.0
    """For so long nothing is told a second time."""
    repeat: Annotated[Duration, Field(ge=60)] | None = None
    """How often what is still open is told again; by default never."""
    approval_after: Duration | None = None
    """When fixed records have waited for approval for longer than this, without a break, that is told; by default it is not."""


@dataclass(frozen=True, slots=True)
class Alerts:
    """Who is told of trouble, and how often (all times in seconds); see AlertsBlock. `channels` are in the file's order."""

    channels: Mapping[str, Channel]
    group_wait: float = 30.0
    cool_down: float = 3600.0
    repeat: float | None = None
    approval_after: float | None = None

    def filters(self) -> Mapping[str, Sequence[str]]:
        """Channel -> the datasets that it is for."""
        return {name: channel.datasets for name, channel in self.channels.items()}
