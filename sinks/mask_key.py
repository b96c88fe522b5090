"""The pipeline's secret under which `mask(hash)` hashes: from the environment, or made once."""

from __future__ import annotations

from pathlib import Path

from journal.secret_file import read_secret

VARIABLE = "SLUICE_MASK_KEY"
FILE = "mask_key"
_SHORTEST = 16  # characters


def mask_key(state: Path) -> bytes:
    """The key: what SLUICE_MASK_KEY says, else what the file `mask_key` in the state folder says, made if it is not there.

    Raises ConfigError for a key that is too short to be a secret, TerminalError where the file cannot be read or made.
    """
    return read_secret(VARIABLE, None, state / FILE, _SHORTEST, "mask key", several=False)[0].encode()
