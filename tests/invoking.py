"""The commands in this process, as fast as a function call: what they print, and how they end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from tests.calling import modules_of_its_own


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def sluice(*arguments: object, **environment: str) -> Ended:
    """Runs `sluice ARGUMENTS`. A variable of the environment that is empty is as good as not set."""
    from cli.main import app

    words = [str(argument) for argument in arguments]
    with modules_of_its_own():
        done = CliRunner().invoke(app, words, env=environment, prog_name="sluice", catch_exceptions=False)
    return Ended(done.exit_code, done.stdout, done.stderr)
