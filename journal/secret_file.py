"""A secret of a pipeline: from the environment, from a file that the environment names, or made once in the state folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ConfigError, TerminalError


def read_secret(
    variable: str, file_variable: str | None, file: Path, shortest: int, what: str, *, make: bool = True, several: bool = True
) -> Sequence[str]:
    """What the variable says; else what stands in the file that `file_variable` names; else in `file`, made unless it is there, if so said.

    Where `several` may stand they are separated by commas or lines. Whoever makes the file first wins, so processes that start together
    have the same secret. Only the owner can read it. Raises ConfigError for one that is too short to be a secret, TerminalError where a
    file cannot be read or made.
    """
    given = os.environ.get(variable)
    if given is not None:
        return _checked(given, variable, shortest, what, several)
    named = os.environ.get(file_variable) if file_variable else None
    try:
        return _checked(Path(named or file).read_text("utf-8"), named or str(file), shortest, what, several)
    except FileNotFoundError as error:
        if named is not None:
            raise TerminalError(f"{file_variable}: there is no file {named}", hint=f"it holds the {what}") from error
        return _made(file, variable, shortest, what, several) if make else []
    except (OSError, UnicodeDecodeError) as error:
        raise TerminalError(f"the {what} {named or file} cannot be read: {error}") from error


def _made(file: Path, variable: str, shortest: int, what: str, several: bool) -> Sequence[str]:
    draft = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
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
        return _checked(file.read_text("utf-8"), str(file), shortest, what, several)
    except OSError as error:
        raise TerminalError(f"the {what} {file} cannot be made: {error}", hint=f"or set {variable}") from error


def _checked(text: str, origin: str, shortest: int, what: str, several: bool) -> Sequence[str]:
    parts = [part for line in text.splitlines() for part in line.split(",")] if several else [text]
    found = [part.strip() for part in parts if part.strip()] or [""]
    if any(len(one) < shortest for one in found):
        raise ConfigError(f"the {what} in {origin} is shorter than {shortest} characters", hint="openssl rand -hex 32 makes a good one")
    return found
