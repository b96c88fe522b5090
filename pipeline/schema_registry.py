"""Where the schemas of messages are: a registry that speaks Confluent's REST API, as a pipeline file names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from pipeline.file import Duration, Text
from pipeline.model import Block, PathFromFile


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """A schema registry that speaks Confluent's REST API. Secrets stay in here: the text of it shows none.

    headers   sent with every request, such as an Authorization
    ca        file of certificates to trust in place of the system's; certificate and key: files of the client's own
    """

    url: str = field(repr=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True
    timeout: float = 10.0

    @property
    def address(self) -> str:
        """The URL for people: without a user and a password, and without a query."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound:  # it is not repeated: it may hold a password
        raise ValueError("the address of a registry is https://HOST:PORT/PATH, or http://…")
    return url


class RegistryBlock(Block):
    """A schema registry with Confluent's REST API."""

    url: Annotated[Text, AfterValidator(_address)]
    """Its address, such as https://registry.example.com."""
    username: str | None = None
    """For basic authentication."""
    password: SecretStr | None = None
    """For basic authentication."""
    token: SecretStr | None = None
    """A bearer token, in place of a user and a password."""
    ca: PathFromFile | None = None
    """A file of certificates to trust in place of the system's."""
    certificate: PathFromFile | None = None
    """A file with the client's own certificate."""
    key: PathFromFile | None = None
    """A file with the key of that certificate."""
    verify: bool = True
    """Whether the registry's certificate is checked."""
    timeout: Duration = 10.0
    """Seconds to wait for an answer."""

    @property
    def options(self) -> RegistryOptions:
        return RegistryOptions(
            url=self.url,
            username=self.username,
            password=None if self.password is None else self.password.get_secret_value(),
            headers={} if self.token is None else {"Authorization": f"Bearer {self.token.get_secret_value()}"},
            ca=None if self.ca is None else str(self.ca),
            certificate=None if self.certificate is None else str(self.certificate),
            key=None if self.key is None else str(self.key),
            verify=self.verify,
            timeout=self.timeout,
        )
