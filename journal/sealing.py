"""Seals what people must not read on disk: the payloads of quarantined records whose contract calls a column confidential or restricted.

AES-256-GCM (NIST SP 800-38D) with a nonce of its own for each text. A sealed text is bound to its place: none can be put in another's.
The key comes from the environment or a file; without either one is made once in the state folder, which keeps out whoever has the database
alone. Several keys can be given: the first seals, all of them open.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from journal.secret_file import read_secret
from pipeline.errors import ConfigError

VARIABLE = "SLUICE_ENCRYPTION_KEY"
FILE_VARIABLE = "SLUICE_ENCRYPTION_KEY_FILE"
FILE = "encryption_key"
_SEALED = "sealed:1:"
_NAME = 8  # characters of a key's name
BEGINNING = len(_SEALED) + _NAME
"""Characters of a text that tell whether it is sealed, and with which key."""
_NONCE = 12  # bytes
_SHORTEST = 16  # characters
_HINT = f"set {VARIABLE} or {FILE_VARIABLE} to the key that sealed it, behind the one of now if that is another: NEW,OLD"


class SealedError(ConfigError):
    """What is sealed cannot be read here: the key is another one, or is not known."""


def is_sealed(text: str) -> bool:
    """Whether `seal` has made it."""
    return text.startswith(_SEALED)


class Seal:
    """The keys of a state folder, found when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _keys(self) -> Mapping[str, AESGCM]:
        """By their names, the one that seals first."""
        return {_name_of(key): AESGCM(key) for key in _keys(self._folder, make=True)}

    @cached_property
    def _known(self) -> Mapping[str, AESGCM]:
        return {_name_of(key): AESGCM(key) for key in _keys(self._folder, make=False)}

    def seal(self, text: str, place: str) -> str:
        """The text for nobody to read without the key, in this place alone. Raises ConfigError, TerminalError for a key that is no good."""
        name, key = next(iter(self._keys.items()))
        nonce = os.urandom(_NONCE)
        return f"{_SEALED}{name}:{base64.b64encode(nonce + key.encrypt(nonce, text.encode(), place.encode())).decode('ascii')}"

    def lacks(self, text: str) -> str | None:
        """Why a text (its beginning is enough) cannot be opened for want of the key; None where that is known, or it is not sealed."""
        name = text.removeprefix(_SEALED)[:_NAME] if is_sealed(text) else None
        return None if name is None or name in self._known else f"it is sealed with the key {name}, which is not known: {_HINT}"

    def open(self, text: str, place: str) -> str:
        """What was sealed for this place; a text that is not sealed as it is. Raises SealedError."""
        if not is_sealed(text):
            return text
        name, _, content = text.removeprefix(_SEALED).partition(":")
        if name not in self._known:
            raise SealedError(f"a record is sealed with the key {name}, which is not known here", hint=_HINT)
        try:
            sealed = base64.b64decode(content, validate=True)
            return self._known[name].decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise SealedError(f"what is sealed of {place} was changed, or is another record's") from error


class SealedValues(Mapping[str, "str | bytes | None"]):
    """Values that are opened when somebody looks at them. Looking raises SealedError where they cannot be."""

    def __init__(self, opened: Callable[[], Mapping[str, str | bytes | None]]) -> None:
        self._open = opened

    @cached_property
    def _values(self) -> Mapping[str, str | bytes | None]:
        return self._open()

    @property
    def opened(self) -> Mapping[str, str | bytes | None]:
        """The same, quicker for whoever looks at all of them."""
        return self._values

    @property
    def readable(self) -> bool:
        """Whether the key is known here."""
        return self.unreadable is None

    @property
    def unreadable(self) -> str | None:
        """Why they cannot be read here; None where they can."""
        try:
            len(self)
        except SealedError as error:
            return f"{error.message}: {error.hint}" if error.hint else error.message
        return None

    def __getitem__(self, name: str) -> str | bytes | None:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "SealedValues(…)"


def _name_of(key: bytes) -> str:
    """What a key is called where it was used, which says nothing of it."""
    return hashlib.sha256(b"sluice key name\0" + key).hexdigest()[:_NAME]


def _keys(folder: Path, *, make: bool) -> Sequence[bytes]:
    found = read_secret(VARIABLE, FILE_VARIABLE, folder / FILE, _SHORTEST, "encryption key", make=make)
    return [hashlib.sha256(b"sluice encryption key\0" + key.encode()).digest() for key in found]
