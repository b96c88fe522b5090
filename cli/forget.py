"""`quarantine forget`: erases what is known of a person."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.steps import By, Ids, Timeout, finish, pairs
from cli.styles import LogFormat
from pipeline.errors import ConfigError


def forget(
    file: PipelineFile,
    by: By,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Who has asked for it, and on what grounds.", show_default=False)],
    ids: Ids = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=VALUE", help="Records that have, or had, all these values in one row.", show_default=False),
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="With --column: of this dataset alone.", show_default=False)] = None,
    timeout: Timeout = 300.0,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Erases the values of records for good, whatever became of them; those that still wait are discarded. It cannot be undone.

    That there was a record, which rule it broke and what was done with it stays. Exit code 1 where there is nothing to forget.

    \b
    Example:
      sluice quarantine forget pipeline.yaml --column email=cy@example.com --by ann@example.com --why "asked on 3 May"
    """
    speak(verbose, log_format)
    if bool(ids) == bool(columns):
        raise ConfigError("name records by their ids, or say whose with --column NAME=VALUE")
    if dataset is not None and not columns:
        raise ConfigError("--dataset goes with --column")
    which = {"ids": list(dict.fromkeys(ids or ()))} if ids else {"columns": pairs("--column", columns), "dataset": dataset}
    then = "changes that passed are in the journal until their retention is over; sinks have what the source has"
    finish(file, {"action": "forget", **which, "by": by, "why": why}, timeout, json, "forgotten", then)
