"""The pipeline's secret under which `mask(hash)` hashes: from the environment, or made once."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pipeline.errors import ConfigError, TerminalError

VARIABLE = "SLUICE_MASK_KEY"
FILE = "mask_key"
_SHORTEST = 16  # characters


def mask_key(state: Path) -> bytes:
    """The key: what SLUICE_MASK_KEY says, else what the file `mask_key` in the state folder says, made if it is not there.

    Whoever makes it first wins, so processes that start together have the same key. Only the owner can read the file. Raises
    ConfigError for a key that is too short to be a secret, TerminalError where the file cannot be read or made.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        return _checked(given, VARIABLE)
    file = state / FILE
    try:
        return _checked(file.read_text("utf-8"), str(file))
    except FileNotFoundError:
        return _made(file)
    except (OSError, UnicodeDecodeError) as error:
        raise TerminalError(f"the mask key {file} cannot be read: {error}") from error


def _made(file: Path) -> bytes:
    draft = file.with_name(f".{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
                made.write(secrets.token_hex(32) + "\n")
                made.flush()
                os.fsync(made.fileno())
            os.link(draft, file)  # all or nothing, and an error where another was first
        except FileExistsError:
            pass
        finally:
            draft.unlink(missing_ok=True)
        return _checked(file.read_text("utf-8"), str(file))
    except OSError as error:
        raise TerminalError(f"the mask key {file} cannot be made: {error}", hint=f"or set {VARIABLE}") from error


def _checked(text: str, origin: str) -> bytes:
    key = text.strip()
    if len(key) < _SHORTEST:
        raise ConfigError(f"the mask key in {origin} is shorter than {_SHORTEST} characters", hint="openssl rand -hex 32 makes a good one")
    return key.encode()
