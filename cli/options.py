"""The options and arguments that commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.loading import loading
from cli.styles import LogFormat


@dataclass
class Settings:
    """How this process speaks; set once, by the command that runs."""

    verbose: bool = False
    json_logs: bool = False


settings = Settings()

PipelineFile = Annotated[Path, typer.Argument(metavar="PIPELINE_FILE", help="The pipeline file.", show_default=False)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Logs more, and tracebacks of errors.")]
Log = Annotated[LogFormat, typer.Option("--log-format", help="How log lines are written to stderr.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answers with one JSON document.")]


def speak(verbose: bool, log_format: LogFormat, process: str | None = None) -> None:
    """Sets up logs and errors as the options of a command say. Every command calls it first."""
    with loading():
        from cli.logs import start_logs

    settings.verbose = verbose
    settings.json_logs = log_format is LogFormat.json
    start_logs(verbose, log_format, process)


def as_arguments(verbose: bool, log_format: LogFormat) -> list[str]:
    """The same options for the processes that a command starts."""
    return [*(["--verbose"] if verbose else []), "--log-format", log_format.value]
