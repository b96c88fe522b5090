"""`contract`: contracts on their own, without any server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import AsJson, Log, Verbose, speak
from cli.styles import LogFormat

contracts = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_ROWS_SHOWN = 10


@contracts.callback()
def _contract() -> None:
    """Judges data by a contract, without any server.

    \b
    Example:
      sluice contract test contracts/orders.odcs.yaml --data orders.csv
    """


@contracts.command("test")
def judge(
    contract: Annotated[Path, typer.Argument(metavar="CONTRACT", help="The contract.", show_default=False)],
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="A CSV, JSON-lines, Parquet or Arrow file.", show_default=False)],
    lookup: Annotated[
        list[str] | None,
        typer.Option("--lookup", metavar="NAME=FILE", help="Rows of a lookup that a rule names; NAME=FILE:COLUMN,… says its key."),
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Judges a file by a contract. Exit code 1 when a row or a rule fails, 2 for a contract that isn't sound.

    \b
    Examples:
      sluice contract test contracts/orders.odcs.yaml --data orders.csv
      sluice contract test contracts/orders.odcs.yaml --data orders.parquet --json
      sluice contract test contracts/orders.odcs.yaml --data orders.csv --lookup customers=customers.csv:id
    """
    speak(verbose, log_format)
    import structlog

    from cli.answers import answer_json
    from pipeline.errors import ConfigError
    from quality.contract_test import run_contract_test
    from quality.lookup_file import LookupFile

    given = [LookupFile.of(text) for text in lookup or ()]
    twice = next((one.name for place, one in enumerate(given) if one.name in [other.name for other in given[:place]]), None)
    if twice is not None:
        raise ConfigError(f"--lookup gives {twice} twice")
    found = run_contract_test(contract, data, {one.name: one for one in given})
    for problem in found.problems:
        structlog.get_logger("sluice.contract").warning(problem)
    if json:
        answer_json(found.answer())
    else:
        _show(found.answer(), success=found.success)
    raise typer.Exit(found.exit_code)


def _show(answer: dict[str, Any], *, success: bool) -> None:
    from cli.answers import amount, answer_line, answer_table

    rows = []
    for rule in answer["rules"]:
        if "rows" in rule:
            where = ", ".join(map(str, rule["rows"][:_ROWS_SHOWN])) + (" …" if len(rule["rows"]) > _ROWS_SHOWN else "")
            rows.append([rule["id"], rule["engine"], amount(rule["evaluated"]), amount(rule["failed"]), where])
        else:
            rows.append([rule["id"], rule["engine"], "", "" if rule["success"] else "fails", f"observed {rule['observed']}"])
    answer_table(["rule", "engine", "evaluated", "failed", "rows"], rows, right=["evaluated", "failed"])
    answer_line(f"{amount(answer['passed'])} of {amount(answer['rows'])} rows pass; the contract is {'kept' if success else 'broken'}")
